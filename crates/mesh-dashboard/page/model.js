// What the page knows, without the document: the state, rates and quantiles of its counters, and what follows from them.

// How far rates and quantiles look back, in ms.
const RATE = 10_000;
const RECENT = 60_000;
// Counters that come each second have no gap.
const GAP = 2_500;
const LISTS = ["processes", "services", "declared", "edges", "endpoints", "work", "followers", "notes"];
const COUNTERS = ["ok", "faults", "refused", "retries"];
const CODES =
  `OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED RESOURCE_EXHAUSTED
  FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED`.split(/\s+/);
// Of these the service is the cause; of others, such as NOT_FOUND, the caller.
const FAULTS = [2, 4, 8, 12, 13, 14, 15];

export const isFault = (code) => FAULTS.includes(Number(code));
export const codeName = (code) => CODES[code] ?? `CODE_${code}`;
export const reasonOf = (failure) => (failure ? failure.reason || codeName(failure.code) : "");
export const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
export const by = (of) => (a, b) => order(of(a), of(b));
export const all = (map) => [...map.values()];
export const sum = (list, of) => list.reduce((total, it) => total + (of(it) ?? 0), 0);
export const unique = (list) => [...new Set(list)];

// --- The state ---

export const emptyState = () => ({
  at: 0,
  hub: null,
  tracks: new Map(),
  seen: new Map(),
  skews: new Map(),
  ...Object.fromEntries(LISTS.map((it) => [it, new Map()])),
});

// Merges a message of the hub: `state` (whole) or `change`.
export function merge(state, message, isWhole) {
  const before = isWhole ? 0 : state.at;
  state.at = message.at ?? state.at;
  state.hub = message.hub ?? state.hub;
  for (const name of LISTS) {
    if (isWhole) state[name].clear();
    for (const it of message[name] ?? []) state[name].set(it.key ?? it.id ?? it.name ?? callOf(it), it);
    for (const key of message.gone?.[name] ?? []) state[name].delete(key);
  }
  // A process reports all its edges at first: one that comes some seconds later had no calls before.
  const startOf = ({ start }, id) => `${id} ${start}`;
  for (const it of all(state.processes)) if (!state.seen.has(startOf(it, it.id))) state.seen.set(startOf(it, it.id), state.at);
  // Processes have clocks of their own. The least distance to the hub's is the skew; the others had to wait.
  const latest = new Map();
  for (const { process, at } of message.edges ?? []) latest.set(process, Math.max(at, latest.get(process) ?? 0));
  for (const [process, at] of latest) state.skews.set(process, Math.min(state.at - at, state.skews.get(process) ?? Infinity));
  for (const it of message.edges ?? []) {
    const isNew = state.seen.get(startOf(it, it.process)) + GAP < before;
    state.tracks.set(it.key, track(state.tracks.get(it.key), it, isNew ? before : 0, isWhole, state.skews.get(it.process)));
  }
  for (const key of state.tracks.keys()) if (!state.edges.has(key)) state.tracks.delete(key);
}

const callOf = ({ caller, callee, method }) => `${caller} ${callee} ${method}`;

// The counters of an edge over the last minute. They begin again with another start of the process, and when one has fallen.
// `before` is when a new edge had no calls yet, or 0. After a time without connection (`isWhole`) nothing is known of that time.
// `skew` is what the clock of the process is behind.
export function track(old, edge, before, isWhole, skew = 0) {
  const now = {
    at: edge.at + skew,
    isWhole,
    ok: 0,
    faults: 0,
    refused: 0,
    retries: edge.retries ?? 0,
    buckets: edge.buckets ?? [],
  };
  for (const [code, count] of Object.entries(edge.codes ?? {}))
    now[code === "0" ? "ok" : isFault(code) ? "faults" : "refused"] += count;
  const last = old?.samples.at(-1);
  const begin = { start: edge.start, samples: [now], faultAt: isFault(edge.last?.code) ? edge.last.at + skew : 0, okAt: 0 };
  if (!last && before && before < now.at)
    begin.samples.unshift({ at: before, ok: 0, faults: 0, refused: 0, retries: 0, buckets: [] });
  if (!last || old.start !== edge.start || COUNTERS.some((it) => now[it] < last[it])) return begin;
  if (now.at <= last.at) return old;
  // The last one before the minute is the base of differences.
  const base = old.samples.findLastIndex((it) => it.at <= now.at - RECENT);
  return {
    start: edge.start,
    samples: [...old.samples.slice(Math.max(0, base)), now],
    faultAt: now.faults > last.faults ? now.at : old.faultAt,
    okAt: now.ok > last.ok ? now.at : old.okAt,
  };
}

// The samples between which a span until now lies, and their distance in seconds; 0 if there is one alone.
function ends({ samples }, now, span) {
  const last = samples.at(-1);
  const end = now - last.at > GAP ? now : last.at;
  const base = samples.findLastIndex((it) => it.at <= end - span);
  const at = Math.max(0, base);
  const first = samples[at];
  // Counters that do not change are not sent: they held until shortly before the next sample, or until now.
  const held = !samples[at + 1]?.isWhole && (samples[at + 1]?.at ?? end) - first.at > GAP;
  return { first, last, seconds: (end - (held ? Math.max(first.at, end - span) : first.at)) / 1000 };
}

// Calls, faults, refused calls and retries per second; null while there is one measurement alone.
export function rates(track, now) {
  const { first, last, seconds } = ends(track, now, RATE);
  if (seconds <= 0) return null;
  const rate = Object.fromEntries(COUNTERS.map((it) => [it, (last[it] - first[it]) / seconds]));
  return { ...rate, calls: rate.ok + rate.faults + rate.refused };
}

// Whether calls fail now: some did within the minute, and none has succeeded since, or it was a moment ago.
export function fails({ faultAt, okAt }, now) {
  return faultAt > 0 && now - faultAt < RECENT && (now - faultAt < RATE || okAt < faultAt);
}

// The times of several edges, added: those of the last minute; if there are none, all since the start.
export function histogram(tracks, now) {
  const buckets = new Float64Array(128);
  const add = (it, sign) => it.forEach(([number, count]) => (buckets[number] += sign * count));
  for (const it of tracks) {
    const { first, last } = ends(it, now, RECENT);
    if (now - last.at > RECENT) continue;
    add(last.buckets, 1);
    add(first.buckets, -1);
  }
  const isRecent = buckets.some((it) => it > 0);
  if (!isRecent) for (const it of tracks) add(it.samples.at(-1).buckets, 1);
  return { buckets, isRecent };
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

// --- What follows ---

// The calls by caller, callee and method. Callers within the mesh have measured them; of those outside ("") the server has.
// `servers` are the edges that the server has measured of the others.
export function callsOf(state) {
  const calls = new Map();
  const of = (it) => {
    const { caller, callee, method } = it;
    const key = callOf(it);
    if (!calls.has(key)) calls.set(key, { key, caller, callee, method, edges: [], servers: [], declared: null });
    return calls.get(key);
  };
  for (const it of all(state.declared)) of(it).declared = it;
  for (const it of all(state.edges)) of(it)[it.side === "client" || !it.caller ? "edges" : "servers"].push(it);
  return all(calls)
    .filter((it) => it.edges.length || it.declared)
    .map((it) => Object.assign(it, measured(state, it)))
    .sort(by((it) => it.key));
}

function measured(state, { caller, edges, declared }) {
  const tracks = edges.map((it) => state.tracks.get(it.key));
  const known = tracks.map((it) => rates(it, state.at)).filter(Boolean);
  const { buckets, isRecent } = histogram(tracks, state.at);
  const codes = {};
  for (const [code, count] of edges.flatMap((it) => Object.entries(it.codes ?? {}))) codes[code] = (codes[code] ?? 0) + count;
  const count = sum(Object.values(codes), (it) => it);
  const inFlight = sum(edges, (it) => it.inFlight);
  return {
    codes,
    count,
    inFlight,
    isRecent,
    rate: known.length ? sum(known, (it) => it.calls) : null,
    faultRate: sum(known, (it) => it.faults),
    faults: sum(Object.keys(codes).filter(isFault), (it) => codes[it]),
    retries: sum(edges, (it) => it.retries),
    p50: quantile(buckets, 0.5),
    p99: quantile(buckets, 0.99),
    last:
      edges
        .map((it) => it.last)
        .filter(Boolean)
        .sort(by((it) => -it.at))[0] ?? null,
    failing: tracks.some((it) => fails(it, state.at)),
    used: count + inFlight > 0,
    undeclared: caller !== "" && !declared && edges.some((it) => it.declared === false),
    path: unique(edges.map((it) => (it.memory ? "memory" : "network"))).join(", "),
  };
}

// The arrows of the graph: the calls from one service to another.
export function linksOf(calls) {
  const links = new Map();
  for (const it of calls) {
    const key = `${it.caller} ${it.callee}`;
    links.set(key, [...(links.get(key) ?? []), it]);
  }
  return [...links].map(([key, own]) => {
    const [{ caller, callee }] = own;
    const some = (name) => own.some((it) => it[name]);
    return {
      key,
      caller,
      callee,
      failed: own.find((it) => it.failing),
      rate: sum(own, (it) => it.rate),
      used: some("used"),
      undeclared: some("undeclared"),
    };
  });
}

// The services with their health: `up`, `part` (some of it works), `down`, or `absent` (no instance, and its callers work without).
export function servicesOf(state, calls) {
  return all(state.services)
    .map((it) => {
      const to = calls.filter((call) => call.callee === it.name);
      const callers = to.filter((call) => call.caller);
      const failing = to.filter((call) => call.failing);
      const processes = all(state.processes).filter((one) => one.services.some((own) => own.name === it.name));
      const own = processes.map((one) => ({ ...one.services.find((own) => own.name === it.name), process: one }));
      const away = processes.find((one) => one.state !== "up");
      const unmet = processes.flatMap((one) => one.unmet ?? []).filter((one) => one.caller === it.name);
      const isOptional = !it.known && !own.length && callers.every((call) => call.declared?.optional);
      const isWhole = it.ready >= it.instances && !unmet.length && (!away || away.state === "gone");
      const health = it.ready ? (isWhole ? "up" : "part") : isOptional ? "absent" : "down";
      const words = [
        it.why,
        own.find((one) => one.why)?.why,
        away && `${away.process} ${away.why || away.state}`,
        unmet[0] && `${unmet[0].method}: ${unmet[0].why}`,
      ];
      const last = failing
        .map((call) => call.last)
        .filter(Boolean)
        .sort(by((one) => -one.at))[0];
      return { ...it, health, own, unmet, callers, failing, last, why: words.find(Boolean) ?? "", since: away?.since ?? 0 };
    })
    .sort(by((it) => it.name));
}

// The calls of a trace, each below the one that made it: with its depth, its own time (without the calls within it, in seconds),
// and whether the server has no record of it.
export function waterfall(calls) {
  const [spans, within, seen, rows] = [new Map(), new Map(calls.map((it) => [it, []])), new Set(), []];
  for (const it of calls) spans.set(`${it.side} ${it.span}`, it);
  // A server's call is within the client's that made it, which may have the same span; a client's is within what its service served.
  const parentOf = (it) =>
    (it.side === "server" && spans.get(`client ${it.span}`)) ||
    ["server", "client"].map((side) => spans.get(`${side} ${it.parent}`)).find((one) => one && one !== it);
  const roots = calls.filter((it) => !within.get(parentOf(it))?.push(it));
  const add = (it, depth) => {
    // A forged trace has circles.
    if (seen.has(it)) return;
    seen.add(it);
    const inner = within.get(it).sort(by((one) => one.start));
    const own = Math.max(0, it.took - covered(it, inner) / 1000);
    rows.push({ ...it, depth, own, unseen: it.side === "client" && !inner.some((one) => one.side === "server") });
    inner.forEach((one) => add(one, depth + 1));
  };
  [...roots.sort(by((it) => it.start)), ...calls].forEach((it) => add(it, 0));
  const start = Math.min(...calls.map((it) => it.start));
  const end = Math.max(...calls.map((it) => it.start + it.took * 1000));
  return { rows, start, seconds: (end - start) / 1000, longest: [...rows].sort(by((it) => -it.own))[0] };
}

// How much of a call the calls within it cover, in ms. They may overlap, and the clocks of processes differ.
function covered(it, inner) {
  let [total, until] = [0, it.start];
  for (const { start, took } of inner) {
    const from = Math.max(start, until);
    until = Math.max(until, Math.min(start + took * 1000, it.start + it.took * 1000));
    total += Math.max(0, until - from);
  }
  return total;
}

// --- Texts ---

export const number = (it) => String(Math.round(it)).replace(/\B(?=(\d{3})+$)/g, ",");
const digits = (it) => (it >= 100 ? number(it) : String(Number(it.toPrecision(it < 1 ? 2 : 3))));
export const perSecond = (it) => (it === null || it === undefined ? "–" : it > 0 && it < 0.01 ? "<0.01/s" : `${digits(it)}/s`);
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
export const list = (names) => names.join(", ").replace(/, ([^,]*)$/, " and $1");
export const callerName = (name) => name || "outside";
export const arrow = ({ caller, callee }) => `${callerName(caller)} → ${callee}`;

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

// The address of a view: `to("calls", { service: "catalog" })`; `rest` is the path after the view.
export function to(view, query = {}, rest = "") {
  const pairs = Object.entries(query).filter(([, it]) => it);
  const text = pairs.map(([key, it]) => `${key}=${encodeURIComponent(it)}`).join("&");
  return `#/${view}${rest && `/${encodeURIComponent(rest)}`}${text && `?${text}`}`;
}

// The view, the path after it, and the query of an address.
export function route(hash) {
  const [path, query = ""] = hash.slice(2).split(/\?(.*)/s);
  const [view, rest = ""] = path.split(/\/(.*)/s);
  return {
    view,
    rest: new URLSearchParams(`rest=${rest.replaceAll("+", "%2B")}`).get("rest"),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}
