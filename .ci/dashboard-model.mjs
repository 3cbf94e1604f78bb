// What the page of the dashboard computes: rates, quantiles, the merge of changes, layers of the graph, traces, escapes.

import assert from "node:assert/strict";
import { test } from "node:test";

const PAGE = process.env.PAGE ?? `${import.meta.dirname}/../crates/mesh-dashboard/page`;
const [model, { layersOf, layout }, { shown }] = await Promise.all(
  ["model", "graph", "dom"].map((it) => import(`${PAGE}/${it}.js`)),
);
const {
  callsOf,
  emptyMesh,
  fails,
  histogram,
  linksOf,
  merge,
  problemsOf,
  quantile,
  rates,
  route,
  servicesOf,
  to,
  track,
  waterfall,
} = model;

const edge = (at, codes, more = {}) => ({
  key: "k",
  start: "a",
  side: "client",
  caller: "artwork",
  callee: "catalog",
  method: "catalog.v1.C/Get",
  process: "p",
  codes,
  buckets: [],
  retries: 0,
  at,
  ...more,
});
const follow = (edges) => edges.reduce((old, it) => track(old, it, false), undefined);
const near = (found, wanted, part = 0.01) => assert.ok(Math.abs(found - wanted) <= part * wanted, `${found} is not ${wanted}`);
const seconds = (count, of) => Array.from({ length: count }, (_, at) => of(at));

test("rate is unknown after one measurement", () => assert.equal(rates(follow([edge(1000, { OK: 5 })])), null));

test("rate of steady calls is theirs within 1 %", () => {
  const it = follow(seconds(40, (at) => edge(at * 1003, { OK: at * 7, UNAVAILABLE: at })));
  near(rates(it).calls, 8 / 1.003);
  near(rates(it).faults, 1 / 1.003);
});

// The mesh after messages of the hub, one each second: the edges of each.
function hub(messages) {
  const mesh = emptyMesh();
  messages.forEach((edges, at) => merge(mesh, { at: at * 1000, edges }, at === 0));
  return mesh;
}

test("rate falls to 0 when nothing changes", () => {
  const busy = seconds(15, (at) => [edge(at * 1000, { OK: at * 10 })]);
  assert.equal(rates(hub(busy).tracks.get("k")).calls, 10);
  assert.equal(rates(hub([...busy, ...seconds(20, () => [])]).tracks.get("k")).calls, 0);
});

test("rate of a call after a long pause counts its span alone", () => {
  const mesh = hub(seconds(101, (at) => (at % 100 ? [] : [edge(at * 1000, { OK: 5 + at / 100 })])));
  near(rates(mesh.tracks.get("k")).calls, 0.1, 0.2);
});

test("rate of an edge that is new begins at 0, if the page was there", () => {
  const late = edge(2000, { OK: 3 }, { since: 1000 });
  assert.equal(rates(track(undefined, late, false)).calls, 3);
  assert.equal(rates(track(undefined, late, true)), null);
});

test("rate after a lost connection is the mean of that time", () => {
  const it = track(follow([edge(0, { OK: 5 }), edge(1000, { OK: 6 })]), edge(101_000, { OK: 1006 }), true);
  assert.equal(rates(it).calls, 10);
});

test("rate is never negative after a restart or a fallen counter", () => {
  for (const next of [edge(3000, { OK: 2 }, { start: "b" }), edge(3000, { OK: 2 }), edge(3000, { OK: 200 }, { start: "b" })]) {
    const it = follow([edge(1000, { OK: 100 }), edge(2000, { OK: 110 }), next]);
    assert.equal(rates(it), null);
    assert.equal(rates(track(it, { ...next, at: 4000, codes: { OK: next.codes.OK + 4 } })).calls, 4);
  }
});

test("failing ends with a success, and after a minute", () => {
  const failed = follow([edge(0, { OK: 1 }), edge(1000, { OK: 1, UNAVAILABLE: 1 })]);
  assert.ok(fails(failed, 2000) && fails(failed, 50_000));
  assert.ok(!fails(failed, 62_000));
  assert.ok(!fails(track(failed, edge(20_000, { OK: 2, UNAVAILABLE: 1 })), 20_000));
});

test("failing is by the part of calls, and by what the callee is the cause of", () => {
  const after = (codes) => fails(follow([edge(0, { OK: 1 }), edge(1000, { OK: 100, ...codes })]), 2000);
  assert.ok(!after({ UNAVAILABLE: 1 }), "1 % of the calls");
  assert.ok(after({ UNAVAILABLE: 10 }));
  for (const code of ["INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "CANCELLED"]) assert.ok(!after({ [code]: 50 }), code);
});

test("a call that fails is shown with what its callee is the cause of", () => {
  const failed = (at, codes, code) => edge(at, codes, { last: { code, reason: `OF_${code}`, trace: "t", at } });
  const after = (...edges) => callsOf(hub([[edge(0, { OK: 1 })], ...edges.map((it) => [it])]))[0];
  const both = { OK: 1, UNAVAILABLE: 1, NOT_FOUND: 1 };
  const first = failed(1000, { OK: 1, UNAVAILABLE: 1 }, "UNAVAILABLE");
  const answered = after(first, failed(2000, both, "NOT_FOUND"));
  assert.ok(answered.failing);
  assert.equal(answered.last.reason, "OF_UNAVAILABLE");
  // Both came within one second.
  const unseen = after(failed(1000, both, "NOT_FOUND"));
  assert.ok(unseen.failing);
  assert.equal(unseen.last.reason, "UNAVAILABLE");
});

// The buckets of times in seconds, as a process makes them.
const bucketsOf = (times) => {
  const counts = new Map();
  for (const it of times) {
    let n = 0;
    while (n < 127 && it * 1e6 >= 2 ** Math.floor(n / 4) * (1 + (n % 4) / 4)) n++;
    counts.set(n, (counts.get(n) ?? 0) + 1);
  }
  return [...counts];
};

test("quantiles of two instances are of their merged buckets", () => {
  // A fast and busy one, a slow one with few calls: the mean of their p99 would be 26.6 ms.
  const fast = seconds(9900, (at) => 0.001 + at * 1e-7);
  const slow = seconds(200, (at) => 0.01 + at * 2e-4);
  const tracks = [fast, slow].map((it) => follow([edge(1000, {}, { buckets: bucketsOf(it) })]));
  const { buckets, isRecent } = histogram(tracks);
  assert.ok(!isRecent);
  const all = [...fast, ...slow].sort((a, b) => a - b);
  for (const q of [0.5, 0.9, 0.99, 0.999]) near(quantile(buckets, q), all[Math.floor(q * all.length)], 0.1);
});

test("quantiles are of the last minute", () => {
  const old = bucketsOf(seconds(100, () => 1));
  const both = [...old, ...bucketsOf(seconds(10, () => 0.001))];
  const it = follow([
    edge(0, {}, { buckets: old }),
    ...seconds(70, (at) => edge(1000 + at * 1000, {}, { buckets: at < 60 ? old : both })),
  ]);
  const { buckets, isRecent } = histogram([it]);
  assert.ok(isRecent);
  near(quantile(buckets, 0.99), 0.001, 0.2);
});

test("quantile has no number without a call, and a bound in the last bucket", () => {
  assert.equal(quantile(new Float64Array(128), 0.5), null);
  const last = new Float64Array(128);
  last[127] = 1;
  assert.equal(quantile(last, 0.5), model.bound(126));
});

test("bounds are those of the protocol", () =>
  assert.deepEqual(
    seconds(9, (n) => model.bound(n) * 1e6),
    [1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4],
  ));

test("change merges rows by key, and state replaces all", () => {
  const mesh = emptyMesh();
  merge(
    mesh,
    {
      at: 1000,
      hub: { process: "hub" },
      services: [
        { key: "a", ready: 1 },
        { key: "b", ready: 1 },
      ],
      edges: [edge(1000, { OK: 1 })],
    },
    true,
  );
  merge(mesh, { at: 2000, services: [{ key: "a", ready: 0 }], gone: { services: ["b"] } });
  assert.deepEqual([...mesh.services.values()], [{ key: "a", ready: 0 }]);
  assert.equal(mesh.hub.process, "hub");
  merge(mesh, { at: 3000, hub: { process: "hub" }, edges: [edge(3000, { OK: 5 })] }, true);
  assert.equal(mesh.services.size, 0);
  assert.equal(rates(mesh.tracks.get("k")).calls, 2, "a reconnect keeps what is known of rates");
  merge(mesh, { at: 4000, gone: { edges: ["k"] } });
  assert.equal(mesh.tracks.size, 0);
});

test("calls and links are of callers; services know why they are down", () => {
  const mesh = emptyMesh();
  const last = { code: "UNAVAILABLE", reason: "NO_ENDPOINTS", trace: "t", at: 2000 };
  const services = [
    { key: "artwork", name: "artwork", instances: 1, ready: 1, known: true, why: "" },
    { key: "catalog", name: "catalog", instances: 1, ready: 0, known: true, why: "" },
    { key: "maps", name: "maps", instances: 0, ready: 0, known: false, why: "" },
  ];
  const declared = [
    { key: "1", caller: "artwork", callee: "catalog", method: "catalog.v1.C/Get", optional: false },
    { key: "2", caller: "artwork", callee: "maps", method: "maps.v1.M/Get", optional: true },
  ];
  merge(
    mesh,
    {
      at: 1000,
      services,
      declared,
      processes: [],
      edges: [edge(1000, { OK: 1 }), edge(1000, { OK: 1 }, { key: "s", side: "server" })],
    },
    true,
  );
  merge(mesh, { at: 2000, edges: [edge(2000, { OK: 1, UNAVAILABLE: 2 }, { last })] });
  const calls = callsOf(mesh);
  assert.deepEqual(
    calls.map((it) => [it.callee, it.edges.length, it.servers.length, it.failing]),
    [
      ["catalog", 1, 1, true],
      ["maps", 0, 0, false],
    ],
  );
  assert.deepEqual(
    linksOf(calls).map((it) => [it.key, it.used, Boolean(it.failed)]),
    [
      ["artwork catalog", true, true],
      ["artwork maps", false, false],
    ],
  );
  assert.deepEqual(
    servicesOf(mesh, calls).map((it) => [it.name, it.health, it.last?.trace]),
    [
      ["artwork", "up", undefined],
      ["catalog", "down", "t"],
      ["maps", "absent", undefined],
    ],
  );
});

test("a service that drains is not down, and one that has drained is", () => {
  const of = (state) => {
    const mesh = emptyMesh();
    const process = { key: "p", state, since: 5, why: "w", services: [{ name: "catalog", ready: false }] };
    const service = { key: "catalog", name: "catalog", instances: state === "drained" ? 0 : 1, ready: 0, known: true, why: "" };
    merge(mesh, { at: 1000, services: [service], processes: [process] }, true);
    const [{ health, drains, since }] = servicesOf(mesh, []);
    return [health, drains, since];
  };
  assert.deepEqual(of("draining"), ["part", true, 5]);
  assert.deepEqual(of("drained"), ["down", false, 5]);
  assert.deepEqual(of("up"), ["down", false, 0]);
});

test("streams have no times, so that none is the slowest call", () => {
  const mesh = emptyMesh();
  const buckets = [[100, 1]];
  merge(mesh, { at: 1000, edges: [edge(1000, { OK: 1 }, { buckets, inFlight: 2 })] }, true);
  const times = () => (({ p50, p99, isStream, inFlight }) => [p50, p99, isStream, inFlight])(callsOf(mesh)[0]);
  assert.deepEqual(times(), [null, null, null, 2], "nothing is known of the method");
  mesh.isLearnt = true;
  assert.ok(callsOf(mesh)[0].p99 > 10, "no contract has it");
  mesh.methods.set("catalog.v1.C/Get", true);
  assert.deepEqual(times(), [null, null, true, 2]);
  Object.assign(mesh, { isLearnt: false }).methods.set("catalog.v1.C/Get", false);
  assert.ok(callsOf(mesh)[0].p99 > 10, "while others are asked for");
});

test("times say what they are of", () => {
  const mesh = emptyMesh();
  const old = [[30, 7]];
  merge(mesh, { at: 500_000, edges: [edge(500_000, { OK: 7 }, { buckets: old })] }, true);
  mesh.isLearnt = true;
  assert.equal(model.lately(mesh), "measured for 0 s");
  assert.match(model.timesIn(callsOf(mesh)[0]), /^p50 .*, p99 .* of 7 calls since the start$/);
  merge(mesh, { at: 509_000, edges: [edge(509_000, { OK: 8 }, { buckets: [[30, 8]] })] });
  assert.equal(model.lately(mesh), "measured for 9 s");
  assert.match(model.timesIn(callsOf(mesh)[0]), /of 1 call$/);
  merge(mesh, { at: 560_000, hub: {} }, true);
  assert.equal(model.lately(mesh), "of the last minute");
});

test("kept calls of the last minute are those that began in it", () => {
  const calls = [call("client", "a", "", 39_000, 30), call("client", "b", "", 41_000, 1)];
  assert.deepEqual(
    model.recentOf({ at: 100_000 }, calls).map((it) => it.span),
    ["b"],
  );
});

test("faults of a call are counted for a minute, answers such as NOT_FOUND are not", () => {
  const mesh = hub([[edge(0, {})], [edge(1000, { OK: 9, UNAVAILABLE: 2, NOT_FOUND: 1 })]]);
  assert.equal(callsOf(mesh)[0].recentFaults, 2);
  for (let at = 2; at < 70; at++) merge(mesh, { at: at * 1000 });
  assert.equal(callsOf(mesh)[0].recentFaults, 0);
});

test("problems that are equal are one row, and a call is one of them", () => {
  const kept = (side, span, parent, start, more) => ({
    ...{ side, span, parent, start, trace: "t", caller: "a", callee: "b", method: "m", took: start / 1000 },
    ...{ code: "UNAVAILABLE", reason: "NO_ENDPOINTS", slow: false, ...more },
  });
  const calls = [
    kept("server", "2", "1", 1),
    kept("client", "1", "", 1, { took: 0.02 }),
    kept("client", "3", "", 5, { took: 0.008 }),
    kept("client", "4", "", 3),
    kept("client", "5", "", 9, { reason: "OVERLOADED" }),
    kept("server", "6", "elsewhere", 2, { caller: "" }),
  ];
  assert.deepEqual(
    problemsOf(calls).map((it) => [it.caller, it.reason, it.calls.length, it.last, it.slowest.span, it.span]),
    [
      ["a", "NO_ENDPOINTS", 3, 13, "1", "3"],
      ["a", "OVERLOADED", 1, 18, "5", "5"],
      ["", "NO_ENDPOINTS", 1, 4, "6", "6"],
    ],
  );
});

const link = (text) => (([caller, callee]) => ({ key: text, caller, callee }))(text.split(">"));

test("layers are by the longest path, outside alone, circles cut", () => {
  const layers = (names, links) => Object.fromEntries(layersOf(names, links.map(link)));
  assert.deepEqual(layers(["", "a", "b", "c"], [">a", "a>b", "b>c", "a>c", ">c"]), { "": 0, a: 1, b: 2, c: 3 });
  assert.deepEqual(layers(["", "a", "b"], ["a>b", "b>a", "a>a"]), { "": 0, a: 1, b: 2 });
});

test("layout keeps nodes of a layer apart", () => {
  const names = ["", ...seconds(60, (at) => `s${at}`)];
  const links = seconds(200, (at) => link(`s${at % 40}>s${(at % 40) + 1 + ((at * 7) % 19)}`)).filter(
    (it, at, all) => all.findIndex((one) => one.key === it.key) === at,
  );
  const columns = new Map();
  for (const it of layout(names, links).nodes.values()) columns.set(it.layer, [...(columns.get(it.layer) ?? []), it.y]);
  for (const ys of columns.values())
    ys.sort((a, b) => a - b)
      .slice(1)
      .forEach((y, at) => assert.ok(y - ys[at] >= 44));
});

const call = (side, span, parent, start, took) => ({ side, span, parent, start, took, code: "OK" });

test("trace has each call below the one that made it, with its own time", () => {
  const calls = [call("client", "b", "a", 4, 0.09), call("server", "a", "", 0, 0.1), call("server", "c", "b", 6, 0.08)];
  const { rows, seconds, longest } = waterfall(calls);
  assert.deepEqual(
    rows.map((it) => [it.span, it.depth, it.unseen]),
    [
      ["a", 0, false],
      ["b", 1, false],
      ["c", 2, false],
    ],
  );
  near(seconds, 0.1);
  assert.equal(longest.span, "c");
  near(rows[0].own, 0.01);
});

test("trace takes the time of its first call, as the caller measured it", () => {
  // The caller gave up after 1 s; the server went on for two more, and another call began after the end.
  const calls = [
    call("client", "a", "", 1000, 1),
    call("server", "b", "a", 1010, 2.99),
    call("client", "c", "b", 2500, 1.2),
    call("server", "d", "gap", 2100, 9),
  ];
  const { rows, root, longest } = waterfall(calls);
  assert.deepEqual([root.side, root.span, root.took], ["client", "a", 1]);
  assert.equal(longest.span, "b");
  near(longest.own, 0.99);
  assert.deepEqual(
    rows.filter((it) => "cd".includes(it.span)).map((it) => it.own),
    [0, 0],
  );
});

test("trace with the same span on both sides, a gap, or a circle is shown once", () => {
  assert.deepEqual(
    waterfall([call("server", "a", "", 1, 1), call("client", "a", "", 0, 1.1)]).rows.map((it) => [it.side, it.depth]),
    [
      ["client", 0],
      ["server", 1],
    ],
  );
  assert.deepEqual(
    waterfall([call("client", "b", "lost", 0, 1)]).rows.map((it) => it.unseen),
    [true],
  );
  assert.equal(waterfall([call("client", "a", "b", 0, 1), call("client", "b", "a", 0, 1)]).rows.length, 2);
  assert.deepEqual(waterfall([]).rows, []);
});

test("texts are cut, and show what cannot be seen", () => {
  assert.equal(shown("a\u202Eb\u0000\u200D\uFEFF\u2028\uD800"), "a‹U+202E›b‹U+0000›‹U+200D›‹U+FEFF›‹U+2028›‹U+D800›");
  assert.equal(shown("tab\tline\nž 🎬"), "tab\tline\nž 🎬");
  const cut = shown("x".repeat(1 << 20));
  assert.ok(cut.length < 4200 && cut.endsWith("1048576 characters)"));
});

test("addresses are read as they were written", () => {
  for (const rest of ["", "a.v1.S/Get", "50%", "a+b ?#&", "\u202E"]) {
    assert.deepEqual(route(to("view", { open: "a b&c=%", empty: "" }, rest)), { view: "view", rest, query: { open: "a b&c=%" } });
  }
  assert.deepEqual(route(""), { view: "", rest: "", query: {} });
  assert.equal(route("#/traces/%E0%A4%A").view, "traces", "a broken address is no error");
});

test("numbers are for readers", () => {
  assert.deepEqual([0, 0.0000123, 0.0143, 1.24, 75, 7260].map(model.duration), [
    "0 µs",
    "12.3 µs",
    "14.3 ms",
    "1.24 s",
    "1 min 15 s",
    "2 h 1 min",
  ]);
  assert.deepEqual([null, 0, 0.004, 0.333, 12.34, 1234.5].map(model.perSecond), [
    "–",
    "0/s",
    "<0.01/s",
    "0.33/s",
    "12.3/s",
    "1,235/s",
  ]);
  assert.equal(model.list(["a", "b", "c"]), "a, b and c");
});
