// What the page knows, without the document.

// How far rates and quantiles look back, in ms, and when a silent counter is taken as unchanged.
const [RATE, RECENT, GAP] = [10_000, 60_000, 2_500];
// The part of calls that has to fail, and the codes by which they do: others are mistakes of the caller.
const FAILING = 0.05;
const FAULTS = ["UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "RESOURCE_EXHAUSTED"];
const LISTS = ["processes", "services", "declared", "edges", "endpoints", "work", "followers", "notes"];
const COUNTERS = ["ok", "faults", "refused"];

export const isFault = (code) => FAULTS.includes(code);
export const by = (of) => (a, b) => (of(a) < of(b) ? -1 : of(a) > of(b) ? 1 : 0);
export const all = (map) => [...map.values()];
export const sum = (list, of) => list.reduce((total, it) => total + (of(it) ?? 0), 0);
export const unique = (list) => [...new Set(list)];
const newest = (list) => list.filter(Boolean).sort(by((it) => -it.at))[0];

function grouped(list, of) {
  const groups = new Map();
  for (const it of list) groups.set(of(it), [...(groups.get(of(it)) ?? []), it]);
  return [...groups];
}

// The page measures since `from`. `methods` says of each whether it is a stream, `isLearnt` that no other is.
export const emptyMesh = () => ({
  at: 0,
  from: 0,
  hub: null,
  tracks: new Map(),
  methods: new Map(),
  isLearnt: false,
  ...Object.fromEntries(LISTS.map((it) => [it, new Map()])),
});

// Whether a method is a stream; null while that is not known.
export const isStream = ({ methods, isLearnt }, method) => methods.get(method) ?? (isLearnt ? false : null);

// Merges a message of the hub: `state` (whole) or `change`. Times of edges are by the clock of the hub.
export function merge(mesh, message, isWhole) {
  mesh.at = message.at;
  mesh.from ||= message.at;
  mesh.hub = message.hub ?? mesh.hub;
  for (const name of LISTS) {
    if (isWhole) mesh[name].clear();
    for (const it of message[name] ?? []) mesh[name].set(it.key, it);
    for (const key of message.gone?.[name] ?? []) mesh[name].delete(key);
  }
  for (const it of message.edges ?? []) mesh.tracks.set(it.key, track(mesh.tracks.get(it.key), it, isWhole));
  for (const [key, it] of mesh.tracks) {
    const last = it.samples.at(-1);
    if (!mesh.edges.has(key)) mesh.tracks.delete(key);
    // Counters that do not change are not sent. After a time without connection nothing is known of that time.
    else if (!isWhole && mesh.at - last.at > GAP) it.samples = recent([...it.samples, { ...last, at: mesh.at - 1000 }]);
  }
}

// Those of the last minute, and the one before it.
function recent(samples) {
  const first = samples.findLastIndex((it) => it.at <= samples.at(-1).at - RECENT);
  return samples.slice(Math.max(0, first));
}

// The counters of an edge over the last minute. They begin again with the process, and when one has fallen. A new edge had no calls
// at its time `since`.
export function track(old, { start, at, since, codes = {}, buckets = [], last: failure }, isWhole) {
  // What the callee was the cause of. A later answer, such as NOT_FOUND, is not why a call fails.
  const fault = isFault(failure?.code) ? failure : old?.fault;
  const none = { at: since, ok: 0, faults: 0, refused: 0, buckets: [] };
  const now = { ...none, at, buckets };
  for (const code in codes) now[code === "OK" ? "ok" : isFault(code) ? "faults" : "refused"] += codes[code];
  const last = old?.samples.at(-1);
  if (!last || old.start !== start || COUNTERS.some((it) => now[it] < last[it])) {
    const samples = since && !last && !isWhole ? [none, now] : [now];
    return { start, samples, fault, faultAt: isFault(failure?.code) ? failure.at : 0, okAt: 0 };
  }
  now.at = Math.max(at, last.at + 1);
  return {
    start,
    samples: recent([...old.samples, now]),
    fault,
    faultAt: now.faults > last.faults ? now.at : old.faultAt,
    okAt: now.ok > last.ok ? now.at : old.okAt,
  };
}

// The samples between which a span until now lies.
function ends({ samples }, span) {
  const last = samples.at(-1);
  return [samples.findLast((it) => it.at <= last.at - span) ?? samples[0], last];
}

// What the counters have gained in a span, and the seconds of it.
function gains(track, span) {
  const [first, last] = ends(track, span);
  const [ok, faults, refused] = COUNTERS.map((it) => last[it] - first[it]);
  return { calls: ok + faults + refused, faults, seconds: (last.at - first.at) / 1000 };
}

// Calls and faults per second; null after one measurement.
export function rates(track) {
  const { calls, faults, seconds } = gains(track, RATE);
  return seconds > 0 ? { calls: calls / seconds, faults: faults / seconds } : null;
}

// Whether calls fail now: some did within the minute, and none has succeeded since; or more than a few of the last seconds.
export function fails(track, now) {
  const { faultAt, okAt } = track;
  const { calls, faults } = gains(track, RATE);
  return faultAt > 0 && now - faultAt < RECENT && (okAt < faultAt || (faults > 0 && faults >= FAILING * calls));
}

// The times of several edges: those of the last minute; without any, all since the start.
export function histogram(tracks) {
  const buckets = new Float64Array(128);
  const add = (it, sign) => it.buckets.forEach(([number, count]) => (buckets[number] += sign * count));
  for (const it of tracks) ends(it, RECENT).forEach((end, at) => add(end, at ? 1 : -1));
  const isRecent = buckets.some((it) => it > 0);
  if (!isRecent) for (const it of tracks) add(it.samples.at(-1), 1);
  return { buckets, isRecent };
}

export function timesOf(tracks) {
  const { buckets, isRecent } = histogram(tracks);
  return { p50: quantile(buckets, 0.5), p99: quantile(buckets, 0.99), count: sum(buckets, (it) => it), isRecent };
}

// The upper bound of a bucket, in seconds.
export const bound = (n) => (n < 0 ? 0 : n > 126 ? Infinity : (2 ** Math.floor(n / 4) * (1 + (n % 4) / 4)) / 1e6);

// A quantile in seconds, between the bounds of its bucket; null without a call.
export function quantile(buckets, q) {
  let left = q * buckets.reduce((total, it) => total + it, 0);
  if (!left) return null;
  const n = buckets.findIndex((it) => (left -= it) <= 0);
  const [low, high] = [bound(n - 1), bound(n)];
  return high === Infinity ? low : high + ((high - low) * left) / buckets[n];
}

export const callOf = ({ caller, callee, method }) => `${caller} ${callee} ${method}`;

// The calls by caller, callee and method, as callers have measured them; of those outside (""), the server. `servers` are what the
// server has measured of the others.
export function callsOf(mesh) {
  return grouped([...all(mesh.declared), ...all(mesh.edges)], callOf)
    .map(([key, rows]) => {
      const { caller, callee, method } = rows[0];
      const measured = rows.filter((it) => it.side);
      const edges = measured.filter((it) => it.side === "client" || !it.caller);
      const servers = measured.filter((it) => !edges.includes(it));
      const declared = rows.find((it) => !it.side);
      return { key, caller, callee, method, edges, servers, declared, isStream: isStream(mesh, method) };
    })
    .filter((it) => it.edges.length || it.declared)
    .map((it) => ({ ...it, ...measured(mesh, it) }))
    .sort(by((it) => it.key));
}

function measured(mesh, { caller, edges, declared, isStream }) {
  const tracks = edges.map((it) => mesh.tracks.get(it.key));
  const known = tracks.map(rates).filter(Boolean);
  const codes = {};
  for (const it of edges) for (const code in it.codes) codes[code] = (codes[code] ?? 0) + it.codes[code];
  const inFlight = sum(edges, (it) => it.inFlight);
  const failing = tracks.some((it) => fails(it, mesh.at));
  const faultOf = ({ fault, faultAt }) => fault ?? (faultAt && { reason: FAULTS.find((it) => codes[it]), at: faultAt });
  return {
    // Without times as long as it may be a stream.
    ...timesOf(isStream === false ? tracks : []),
    codes,
    inFlight,
    rate: known.length ? sum(known, (it) => it.calls) : null,
    faultRate: sum(known, (it) => it.faults),
    faults: sum(Object.keys(codes).filter(isFault), (it) => codes[it]),
    recentFaults: sum(tracks, (it) => gains(it, RECENT).faults),
    retries: sum(edges, (it) => it.retries),
    last: newest(failing ? tracks.map(faultOf) : edges.map((it) => it.last)),
    failing,
    used: inFlight > 0 || Object.keys(codes).length > 0,
    undeclared: caller !== "" && !declared && edges.some((it) => it.declared === false),
    path: unique(edges.map((it) => (it.memory ? "memory" : "network"))).join(", "),
  };
}

// The arrows of the graph: the calls from one service to another.
export const linksOf = (calls) =>
  grouped(calls, (it) => `${it.caller} ${it.callee}`).map(([key, own]) => ({
    key,
    caller: own[0].caller,
    callee: own[0].callee,
    failed: own.find((it) => it.failing),
    rate: sum(own, (it) => it.rate),
    used: own.some((it) => it.used),
    undeclared: own.some((it) => it.undeclared),
  }));

export const isGone = ({ state }) => state === "gone" || state === "drained";

// The services with their health: `up`, `part` (some of it works, or it drains), `down`, or `absent` (its callers work without).
export function servicesOf(mesh, calls) {
  const instances = all(mesh.processes).flatMap((process) => process.services.map((it) => ({ ...it, process })));
  const lacking = all(mesh.processes).flatMap((it) => it.unmet ?? []);
  return all(mesh.services)
    .map((it) => {
      const callers = calls.filter((call) => call.callee === it.name);
      const failing = callers.filter((call) => call.failing);
      const own = instances.filter((one) => one.name === it.name);
      const away = own.find(({ process }) => process.state !== "up")?.process;
      const unmet = lacking.filter((one) => one.caller === it.name);
      const isOptional = !it.known && !own.length && callers.every((call) => !call.caller || call.declared?.optional);
      const isWhole = it.ready >= it.instances && !unmet.length && (!away || isGone(away));
      const drains = !it.ready && own.some(({ process }) => process.state === "draining");
      return {
        ...it,
        health: it.ready ? (isWhole ? "up" : "part") : drains ? "part" : isOptional ? "absent" : "down",
        drains,
        own,
        unmet,
        callers: unique(callers.map((call) => call.caller)).filter(Boolean),
        failing,
        last: newest(failing.map((call) => call.last)),
        since: away?.since ?? 0,
        why: it.why || away?.why || unmet[0]?.why || "",
      };
    })
    .sort(by((it) => it.name));
}

// The calls that were kept, equal ones as one row. What a caller has kept is left out of what its server has.
export function problemsOf(calls) {
  const spans = new Set(calls.filter((it) => it.side === "client").map((it) => `${it.trace} ${it.span}`));
  const own = calls.filter(
    (it) => it.side === "client" || ![it.span, it.parent].some((span) => spans.has(`${it.trace} ${span}`)),
  );
  return grouped(own, (it) => `${callOf(it)} ${it.code} ${it.reason} ${it.slow}`).map(([key, equal]) => {
    equal.sort(by((it) => -it.start));
    return { ...equal[0], key, calls: equal, last: endOf(equal[0]), slowest: [...equal].sort(by((it) => -it.took))[0] };
  });
}

export const recentOf = ({ at }, calls) => calls.filter((it) => it.start > at - RECENT);

// The least `dashboard.slow` of the processes.
export const slowFrom = ({ processes }) => duration(Math.min(...all(processes).map((it) => it.slow ?? 1)));

export const endOf = (call) => call.start + call.took * 1000;

// The calls of a trace, each below the one that made it: with its depth, its own seconds (without the calls within it, and what is
// after the first call), and whether the server has no record of it.
export function waterfall(calls) {
  const [spans, within, seen, rows] = [new Map(), new Map(calls.map((it) => [it, []])), new Set(), []];
  for (const it of calls) spans.set(`${it.side} ${it.span}`, it);
  // A server's call is within the client's that made it, which may have the same span; a client's is within what its service served.
  const parentOf = (it) =>
    (it.side === "server" && spans.get(`client ${it.span}`)) ||
    ["server", "client"].map((side) => spans.get(`${side} ${it.parent}`)).find((one) => one && one !== it);
  const roots = calls.filter((it) => !within.get(parentOf(it))?.push(it));
  const [root = calls[0]] = roots.sort(by((it) => it.start));
  const add = (it, depth) => {
    // A forged trace has circles.
    if (seen.has(it)) return;
    seen.add(it);
    const inner = within.get(it).sort(by((one) => one.start));
    const took = Math.min(it.took, Math.max(0, endOf(root) - it.start) / 1000);
    const own = Math.max(0, took - covered({ ...it, took }, inner) / 1000);
    rows.push({ ...it, depth, own, unseen: it.side === "client" && !inner.some((one) => one.side === "server") });
    inner.forEach((one) => add(one, depth + 1));
  };
  [...roots, ...calls].forEach((it) => add(it, 0));
  const start = Math.min(...calls.map((it) => it.start));
  const end = Math.max(...calls.map(endOf));
  return { rows, start, root, seconds: (end - start) / 1000, longest: [...rows].sort(by((it) => -it.own))[0] };
}

// How much of a call those within it cover, in ms. They may overlap, and clocks differ.
function covered(it, inner) {
  let [total, until] = [0, it.start];
  for (const { start, took } of inner) {
    const from = Math.max(start, until);
    until = Math.max(until, Math.min(start + took * 1000, it.start + it.took * 1000));
    total += Math.max(0, until - from);
  }
  return total;
}

export const number = (it) => String(Math.round(it)).replace(/\B(?=(\d{3})+$)/g, ",");
const digits = (it) => (it >= 100 ? number(it) : String(Number(it.toPrecision(it < 1 ? 2 : 3))));
export const perSecond = (it) => (it === null || it === undefined ? "–" : it > 0 && it < 0.01 ? "<0.01/s" : `${digits(it)}/s`);
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
export const list = (names) => names.join(", ").replace(/, ([^,]*)$/, " and $1");
export const callerName = (name) => name || "outside";
export const arrow = ({ caller, callee }) => `${callerName(caller)} → ${callee}`;

export const lately = ({ at, from }) =>
  at - from < RECENT ? `measured for ${Math.floor((at - from) / 1000)} s` : "of the last minute";
export const callsIn = ({ count, isRecent }) => `of ${plural(count, "call")}${isRecent ? "" : " since the start"}`;
export const timesIn = (it) => it.count > 0 && `p50 ${duration(it.p50)}, p99 ${duration(it.p99)} ${callsIn(it)}`;

// A time in seconds, such as 14.3 ms.
export function duration(it) {
  if (it === null || it === undefined) return "–";
  if (it < 0.001) return `${digits(it * 1e6)} µs`;
  if (it < 1) return `${digits(it * 1e3)} ms`;
  if (it < 60) return `${digits(it)} s`;
  return it < 3600
    ? `${Math.floor(it / 60)} min ${Math.floor(it % 60)} s`
    : `${Math.floor(it / 3600)} h ${Math.floor((it % 3600) / 60)} min`;
}

// The time of day, in the reader's zone.
export const clock = (ms) => new Date(ms).toTimeString().slice(0, 8);

// The address of a view, such as `to("calls", { words: "catalog" })`; `rest` is the path after it.
export function to(view, query = {}, rest = "") {
  const pairs = Object.entries(query).filter(([, it]) => it);
  const text = pairs.map(([key, it]) => `${key}=${encodeURIComponent(it)}`).join("&");
  return `#/${view}${rest && `/${encodeURIComponent(rest)}`}${text && `?${text}`}`;
}

export function route(hash) {
  const [path, query = ""] = hash.slice(2).split(/\?(.*)/s);
  const [view, rest = ""] = path.split(/\/(.*)/s);
  return {
    view,
    rest: new URLSearchParams(`rest=${rest.replaceAll("+", "%2B")}`).get("rest"),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}
