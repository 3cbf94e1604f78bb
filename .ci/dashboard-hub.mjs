// A hub with scripted states, for work on the page of the dashboard and for its tests: `node .ci/dashboard-hub.mjs [SCENE] [PORT]`.
// The scenes are normal, down, empty, heavy, names, hostile, restart and frozen. It is no hub: it answers what the page asks, with what
// is below.

import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const PAGE = process.env.PAGE ?? `${import.meta.dirname}/../crates/mesh-dashboard/page`;
const TYPES = { html: "text/html; charset=utf-8", css: "text/css; charset=utf-8", js: "text/javascript; charset=utf-8" };
export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
// Of a frozen state, and the start of the others.
const BEGIN = Date.UTC(2026, 10, 30, 10, 30, 0);
export const MARKUP = `<img src=x onerror="window.harm=1"><script>window.harm=1</script>`;
export const TURNED = `abc\u202Egnp.exe`;
const LONG = "x".repeat(1 << 20);
const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";

const METHODS = {
  catalog: ["GetTitle", "ListTitles", "CreateTitle"],
  artwork: ["GetArtwork", "BatchGetArtworks", "RenderArtwork"],
  library: ["ListCurrentRentals", "RentTitle"],
  billing: ["Charge", "Refund"],
  composer: ["GetPage"],
  mobile: ["GetHome"],
  tv: ["GetHome", "WatchHome"],
};
const full = (service, method) => `${service}.v1.${service[0].toUpperCase()}${service.slice(1)}Service/${method}`;
// Caller, callee, method, calls per second, median in ms, whether the caller works without it.
const CALLS = [
  ["", "mobile", "GetHome", 6, 18],
  ["", "tv", "GetHome", 3, 25],
  ["", "composer", "GetPage", 2, 30],
  ["", "artwork", "RenderArtwork", 0.3, 9],
  ["", "library", "RentTitle", 0.5, 40],
  ["", "catalog", "CreateTitle", 0.4, 6],
  ["mobile", "catalog", "ListTitles", 6, 4],
  ["mobile", "artwork", "BatchGetArtworks", 6, 7, true],
  ["tv", "catalog", "ListTitles", 3, 4],
  ["tv", "artwork", "BatchGetArtworks", 3, 7, true],
  ["tv", "library", "ListCurrentRentals", 3, 5, true],
  ["tv", "recommendations", "ListRecommendations", 0, 0, true],
  ["composer", "catalog", "GetTitle", 2, 2],
  ["composer", "artwork", "GetArtwork", 2, 3, true],
  ["composer", "library", "ListCurrentRentals", 0, 0, true],
  ["artwork", "catalog", "GetTitle", 0.3, 2.5],
  ["library", "billing", "Charge", 0.5, 26],
  ["library", "billing", "Refund", 0, 0],
  // A stream, which lasts as long as somebody watches.
  ["", "tv", "WatchHome", 0.1, 40_000],
];

const bucketOf = (micros) => {
  for (let n = 0; n < 127; n++) if (micros < 2 ** Math.floor(n / 4) * (1 + (n % 4) / 4)) return n;
  return 127;
};

// Numbers that are the same in each run.
function random(seed) {
  let it = seed;
  return () => (it = (Math.imul(it, 1664525) + 1013904223) >>> 0) / 2 ** 32;
}

class Edge {
  constructor(fields, rate, median) {
    Object.assign(this, { rate, median, debt: 0, histogram: new Map() });
    this.row = { memory: true, codes: {}, sum: 0, buckets: [], inFlight: 0, retries: 0, last: null, declared: true, ...fields };
    this.row.key = `${fields.process} ${fields.start} ${fields.side} ${fields.caller} ${fields.callee} ${fields.method}`;
  }

  // The calls of some seconds.
  run(at, seconds, next, fault) {
    this.debt += this.rate * seconds;
    const { row } = this;
    for (; this.debt >= 1; this.debt--) {
      const micros = this.median * 1000 * Math.exp(1.1 * (next() + next() + next() - 1.5)) * (next() > 0.985 ? 6 : 1);
      const code = fault ? "UNAVAILABLE" : next() > 0.995 ? "NOT_FOUND" : "OK";
      row.codes[code] = (row.codes[code] ?? 0) + 1;
      row.sum += micros / 1e6;
      const n = bucketOf(fault ? 300 : micros);
      this.histogram.set(n, (this.histogram.get(n) ?? 0) + 1);
      if (code !== "OK") row.last = { code, reason: fault ? "NO_ENDPOINTS" : "TITLE_NOT_FOUND", trace: TRACE, at };
      if (fault && row.side === "client") row.retries++;
    }
    row.buckets = [...this.histogram].sort(([a], [b]) => a - b);
    row.at = at;
    row.inFlight = row.method.includes("Watch") ? 2 : row.side === "client" && this.rate > 2 ? 1 : 0;
  }
}

const process_ = (id, name, services, at) => ({
  key: id,
  id,
  process: name,
  start: `${id}-1`,
  started: at - 720_000,
  version: "0.1.0",
  digest: "9f2c",
  address: id,
  listeners: [{ name: "services", address: id }],
  state: "up",
  why: "",
  since: at - 720_000,
  slow: 1,
  unmet: [],
  services: services.map((it) => ({
    name: it,
    contracts: [full(it, "").slice(0, -1)],
    database: ["composer", "mobile", "tv"].includes(it) ? "" : "sqlite",
    follows: it === "library" ? ["catalog"] : [],
    ready: true,
    why: "",
  })),
});

// The state of a scene, which `step` moves on by seconds.
export class Scene {
  constructor(name = "normal") {
    this.name = name;
    this.at = BEGIN;
    this.next = random(7);
    this.edges = [];
    this.changed = new Set();
    const isMesh = name === "down" || name === "restart";
    this.start = name === "heavy" ? this.heavy() : name === "names" ? this.names() : this.film(isMesh);
    // A minute and a half has passed.
    for (let i = 0; i < 90; i++) this.step(1, name === "down" && i > 84);
    if (name === "down") this.fall();
    if (name === "empty") Object.assign(this, { processes: [], services: [], declared: [], edges: [], work: [], followers: [] });
  }

  film(isMesh) {
    const names = Object.keys(METHODS);
    this.processes = isMesh
      ? [
          ...names.map((it, at) => process_(`127.0.0.1:${50051 + at}`, it, [it], BEGIN)),
          process_("127.0.0.1:8080", "gateway", [], BEGIN),
        ]
      : [process_("127.0.0.1:50051", "monolith", names, BEGIN)];
    this.services = names.map((name) => ({ key: name, name, instances: 1, ready: 1, versions: ["0.1.0"], known: true, why: "" }));
    this.services.push({
      key: "recommendations",
      name: "recommendations",
      instances: 0,
      ready: 0,
      versions: [],
      known: false,
      why: "NO_ENDPOINTS: no instance of recommendations has been found",
    });
    this.declared = CALLS.filter(([caller]) => caller).map(([caller, callee, method, , , optional = false]) => ({
      key: `${caller} ${callee} ${full(callee, method)}`,
      caller,
      callee,
      method: full(callee, method),
      optional,
    }));
    for (const [caller, callee, method, rate, median] of CALLS) {
      if (!rate) continue;
      const of = (service) => (isMesh ? this.processes.find((it) => it.process === service) : this.processes[0]);
      const more = { caller, callee, method: full(callee, method), memory: !isMesh };
      if (caller)
        this.edges.push(new Edge({ process: of(caller).id, start: of(caller).start, side: "client", ...more }, rate, median));
      this.edges.push(
        new Edge(
          { process: of(callee).id, start: of(callee).start, side: "server", ...more, memory: caller !== "" && !isMesh },
          rate,
          median * 0.8,
        ),
      );
    }
    if (this.name === "hostile") this.poison();
    this.work = [
      {
        key: "services/artwork/operations/5f3c",
        name: "services/artwork/operations/5f3c",
        service: "artwork",
        kind: "RenderArtwork",
        state: "RUNNING",
        percent: 62,
        phase: "",
        steps: [],
        error: null,
        created: BEGIN - 9_000,
        updated: BEGIN,
        canCancel: true,
        canRetry: false,
        canResume: false,
      },
      {
        key: "services/library/operations/77ab",
        name: "services/library/operations/77ab",
        service: "library",
        kind: "RentTitle",
        state: "COMPENSATING",
        percent: null,
        phase: "undoes its steps",
        steps: [
          { name: "reserve", state: "UNDOING" },
          { name: "charge", state: "FAILED" },
          { name: "grant", state: "UNDONE" },
        ],
        error: { code: "FAILED_PRECONDITION", reason: "CARD_DECLINED", message: "The card was declined." },
        created: BEGIN - 4_000,
        updated: BEGIN,
        canCancel: false,
        canRetry: false,
        canResume: false,
      },
      {
        key: "services/library/operations/61d0",
        name: "services/library/operations/61d0",
        service: "library",
        kind: "RentTitle",
        state: "STUCK",
        percent: null,
        phase: "is stuck: resume it",
        steps: [
          { name: "reserve", state: "DONE" },
          { name: "charge", state: "DONE" },
          { name: "grant", state: "UNDOING" },
        ],
        error: { code: "UNAVAILABLE", reason: "ATTEMPTS_EXHAUSTED", message: "billing did not answer ten times." },
        created: BEGIN - 300_000,
        updated: BEGIN - 200_000,
        canCancel: false,
        canRetry: false,
        canResume: true,
      },
      {
        key: "services/artwork/operations/10aa",
        name: "services/artwork/operations/10aa",
        service: "artwork",
        kind: "RenderArtwork",
        state: "SUCCEEDED",
        percent: 100,
        phase: "",
        steps: [],
        error: null,
        created: BEGIN - 60_000,
        updated: BEGIN - 41_000,
        canCancel: false,
        canRetry: false,
        canResume: false,
      },
    ];
    if (this.name === "hostile") Object.assign(this.work[0], { kind: MARKUP, phase: TURNED });
    this.followers = [{ key: "library catalog", service: "library", source: "catalog", lag: 0, parked: 0, connected: true }];
    this.endpoints = isMesh
      ? CALLS.filter(([caller, , , rate]) => caller && rate).map(([caller, callee]) => {
          const [from, to] = [caller, callee].map((name) => this.processes.find((it) => it.process === name));
          return { key: `${from.id} ${to.id}`, process: from.id, peer: callee, address: to.id, picks: 200, ejections: 0 };
        })
      : [];
  }

  // Texts that try to be more.
  poison() {
    const { id, start } = this.processes[0];
    for (const [callee, method] of [
      [MARKUP, MARKUP],
      [TURNED, `evil.v1.${TURNED}/Call`],
      ["long", LONG],
    ]) {
      this.edges.push(new Edge({ process: id, start, side: "client", caller: "catalog", callee, method, declared: false }, 1, 3));
    }
    this.services.push({
      key: MARKUP,
      name: MARKUP,
      instances: 1,
      ready: 0,
      versions: [MARKUP],
      known: true,
      why: `${TURNED} ${LONG}`,
    });
    Object.assign(this.processes[0], { version: MARKUP, why: TURNED });
    this.notes = [{ key: MARKUP, text: `${MARKUP} ${TURNED}` }];
  }

  // 60 processes, 200 edges.
  heavy() {
    const names = Array.from({ length: 60 }, (_, at) => `service-${at}`);
    this.processes = names.map((it, at) => process_(`10.0.0.${at}:50051`, it, [it], BEGIN));
    this.services = names.map((name) => ({ key: name, name, instances: 1, ready: 1, versions: ["0.1.0"], known: true, why: "" }));
    [this.declared, this.work, this.followers, this.endpoints] = [[], [], [], []];
    for (let at = 0; at < 200; at++) {
      // Five tiers of twelve; most call the next one.
      const tier = Math.floor(this.next() * 4);
      const from = tier * 12 + Math.floor(this.next() * 12);
      const to = (tier + (this.next() > 0.9 && tier < 3 ? 2 : 1)) * 12 + Math.floor(this.next() * 12);
      const method = `${names[to]}.v1.Service/Call${at}`;
      this.declared.push({ key: `${names[from]} ${method}`, caller: names[from], callee: names[to], method, optional: false });
      this.edges.push(
        new Edge(
          {
            process: this.processes[from].id,
            start: this.processes[from].start,
            side: "client",
            caller: names[from],
            callee: names[to],
            method,
            memory: false,
          },
          5 + this.next() * 50,
          3 + this.next() * 20,
        ),
      );
    }
  }

  // Nine services with names of 30 characters, in four layers, which call each other; some of their calls fail.
  names() {
    const names = ["payment-authorization-gateways", "customer-notifications-service", "warehouse_inventory_projection"]
      .concat(["recommendations.ranking.online", "customerentitlementaggregation", "recommendation-memory-commands"])
      .concat(["fulfillment-planning-scheduler", "search-index-writer-background", "a-subscription-billing-engine1"]);
    this.processes = names.map((it, at) => process_(`10.0.0.${at}:50051`, it, [it], BEGIN));
    this.services = names.map((name) => ({ key: name, name, instances: 1, ready: 1, versions: ["0.1.0"], known: true, why: "" }));
    [this.declared, this.work, this.followers, this.endpoints] = [[], [], [], []];
    for (let from = 0; from < 7; from++) {
      for (let to = 3 * Math.floor(from / 3) + 3; to < 9; to++) {
        if ((from + to) % 4 === 0) continue;
        const method = `names.v1.Service/Call${from}`;
        this.declared.push({
          key: `${names[from]} ${names[to]} ${method}`,
          caller: names[from],
          callee: names[to],
          method,
          optional: false,
        });
        const of = this.processes[from];
        const edge = {
          process: of.id,
          start: of.start,
          side: "client",
          caller: names[from],
          callee: names[to],
          method,
          memory: false,
        };
        this.edges.push(Object.assign(new Edge(edge, 3 + from * to * 7, 4), { fails: to === 7 || (from === 1 && to === 4) }));
      }
    }
  }

  step(seconds = 1, isDown = this.isDown) {
    if (this.name === "frozen" && this.isReady) return;
    this.at += seconds * 1000;
    for (const it of this.edges) {
      if (isDown && it.row.side === "server" && it.row.callee === "catalog") continue;
      it.run(this.at, seconds, this.next, it.fails || (isDown && it.row.callee === "catalog" && it.row.caller !== ""));
      this.changed.add(it);
    }
    const [render] = this.work;
    if (render?.state === "RUNNING" && this.name !== "frozen")
      Object.assign(render, { percent: (render.percent + 3) % 100, updated: this.at });
  }

  // Catalog ends.
  fall() {
    this.isDown = true;
    const gone = this.processes.find((it) => it.process === "catalog") ?? this.processes[0];
    Object.assign(gone, { state: "gone", why: "its connection was refused", since: this.at - 5_000 });
    gone.services.forEach((it) => (it.ready = false));
    Object.assign(
      this.services.find((it) => it.name === "catalog"),
      { ready: 0, instances: 0, known: false, why: "NO_ENDPOINTS: no instance of catalog is ready" },
    );
    for (const it of this.followers) Object.assign(it, { connected: false, lag: 3, parked: 1 });
  }

  // Catalog is asked to end.
  drain() {
    const why = "it finishes its calls and ends";
    const one = this.processes.find((it) => it.process === "catalog");
    Object.assign(one, { state: "draining", why, since: this.at });
    one.services.forEach((it) => (it.ready = false));
    Object.assign(
      this.services.find((it) => it.name === "catalog"),
      { ready: 0, why },
    );
  }

  // A process starts again, its counters from 0.
  restart(id = this.processes[0].id) {
    const it = this.processes.find((one) => one.id === id);
    const start = `${it.start}+`;
    const gone = this.edges.filter((one) => one.row.process === id).map((one) => one.row.key);
    Object.assign(it, { start, started: this.at, since: this.at });
    this.edges = this.edges.map((one) =>
      one.row.process === id
        ? new Edge({ ...one.row, start, codes: {}, sum: 0, buckets: [], retries: 0, last: null }, one.rate, one.median)
        : one,
    );
    // The keys stay as they are: the page has to see it by the start.
    this.edges.filter((one) => one.row.process === id).forEach((one, at) => (one.row.key = gone[at]));
  }

  state() {
    const { at, processes, services, declared, work, followers, endpoints, notes = [] } = this;
    const hub = {
      process: "monolith",
      version: "0.1.0",
      mode: this.mode ?? "call",
      since: BEGIN - 600_000,
      registry: "local",
      start: "ab",
    };
    this.isReady = true;
    return {
      at,
      hub,
      processes,
      services,
      declared,
      edges: this.edges.map((it) => it.row),
      endpoints,
      work,
      followers,
      notes,
      gone: {},
    };
  }

  change() {
    if (this.isIdle) return { at: (this.at += 1000), gone: {} };
    this.step();
    const edges = [...this.changed].map((it) => it.row);
    this.changed.clear();
    return this.name === "frozen"
      ? { at: this.at }
      : {
          at: this.at,
          edges,
          processes: this.processes,
          services: this.services,
          work: this.work.slice(0, 1),
          followers: this.followers,
          gone: {},
        };
  }
}

// --- What is asked for -----------------------------------------------------------------------------------------------------

export const call = (more) => ({
  process: "127.0.0.1:50051",
  side: "client",
  trace: TRACE,
  memory: false,
  attempts: 1,
  slow: false,
  code: "OK",
  reason: "",
  ...more,
  key: `${more.process ?? "127.0.0.1:50051"} ${more.side ?? "client"} ${more.span}`,
});

function trace(scene) {
  if (!scene.processes.length) return [];
  const at = scene.traceAt ?? scene.at - 3_000;
  const id = (name) => (scene.processes.find((it) => it.process === name) ?? scene.processes[0]).id;
  const fault = scene.isDown ? { code: "UNAVAILABLE", reason: "NO_ENDPOINTS", attempts: 3 } : {};
  return [
    call({
      process: id("composer"),
      side: "server",
      span: "a1",
      parent: "",
      caller: "",
      callee: "composer",
      method: full("composer", "GetPage"),
      start: at,
      took: 1.24,
      slow: true,
      ...fault,
      attempts: 1,
    }),
    call({
      process: id("composer"),
      span: "b1",
      parent: "a1",
      caller: "composer",
      callee: "catalog",
      method: full("catalog", "GetTitle"),
      start: at + 4,
      took: 1.16,
      slow: true,
      ...fault,
    }),
    ...(scene.isDown
      ? []
      : [
          call({
            process: id("catalog"),
            side: "server",
            span: "b2",
            parent: "b1",
            caller: "composer",
            callee: "catalog",
            method: full("catalog", "GetTitle"),
            start: at + 6,
            took: 1.155,
            slow: true,
          }),
        ]),
    call({
      process: id("composer"),
      span: "c1",
      parent: "a1",
      caller: "composer",
      callee: "artwork",
      method: full("artwork", "GetArtwork"),
      start: at + 1166,
      took: 0.062,
    }),
    call({
      process: id("artwork"),
      side: "server",
      span: "c2",
      parent: "c1",
      caller: "composer",
      callee: "artwork",
      method: full("artwork", "GetArtwork"),
      start: at + 1168,
      took: 0.058,
    }),
  ];
}

function contracts() {
  const field = (name, type, more) => ({
    name,
    number: 1,
    type,
    repeated: false,
    required: false,
    comment: "",
    bounds: "",
    ...more,
  });
  const services = Object.entries(METHODS).map(([service, methods]) => ({
    name: full(service, "").slice(0, -1),
    service,
    comment: `What ${service} offers.`,
    methods: methods.map((name) => ({
      name,
      full: full(service, name),
      comment: `${/^(Get|List|Batch|Watch)/.test(name) ? "Gives" : "Changes"} what its name says.\n\nINVALID_ARGUMENT: INVALID_FIELDS. NOT_FOUND: TITLE_NOT_FOUND.`,
      access: "public",
      idempotency: /^(Get|List|Batch|Watch)/.test(name) ? "NO_SIDE_EFFECTS" : "IDEMPOTENT",
      clientStreaming: false,
      serverStreaming: name.startsWith("Watch"),
      deadline: 2,
      request: "catalog.v1.GetTitleRequest",
      response: "catalog.v1.GetTitleResponse",
      declaredBy: CALLS.filter(([caller, callee, method]) => caller && callee === service && method === name).map(
        ([caller]) => caller,
      ),
      example: { titleId: "2f6d3c0e-8a35-4f4b-a7a5-0d1f5d1c8b11" },
    })),
  }));
  const messages = {
    "catalog.v1.GetTitleRequest": {
      comment: "Asks for a title.",
      fields: [field("title_id", "string", { required: true, comment: "The title.", bounds: "a UUID" })],
    },
    "catalog.v1.GetTitleResponse": {
      comment: "A title.",
      fields: [field("title", "catalog.v1.Title", { comment: "The title." })],
    },
    "catalog.v1.Title": {
      comment: "A film that can be rented.",
      fields: [
        field("name", "string", { required: true, comment: "Its name.", bounds: "1 to 200 characters" }),
        field("kind", "catalog.v1.Kind", { comment: "What it is." }),
        field("sequels", "catalog.v1.Title", { repeated: true, comment: "What follows it." }),
      ],
    },
  };
  const values = [
    { name: "KIND_UNSPECIFIED", number: 0, comment: "Never sent." },
    { name: "KIND_FILM", number: 1, comment: "A film." },
  ];
  return { services, messages, enums: { "catalog.v1.Kind": { comment: "What a title is.", values } } };
}

function logs(scene, query) {
  const after = new Map(query.getAll("after").map((it) => it.split("~")));
  const isHostile = scene.name === "hostile";
  const lines = scene.processes
    .filter((it) => it.state !== "gone" && (!query.get("process") || it.id === query.get("process")))
    .flatMap(({ id, process }) =>
      Array.from({ length: 12 }, (_, at) => ({
        process: id,
        key: `${id} ${at + 1}`,
        number: at + 1,
        at: scene.at - 12_000 + at * 1000,
        level: ["info", "warn", "error"][at % 5 > 2 ? (at % 2) + 1 : 0],
        target: `${process}::server`,
        trace: at % 3 ? "" : TRACE,
        text: isHostile
          ? [MARKUP, TURNED, LONG][at % 3]
          : [
              "listening on 127.0.0.1:50051",
              "the peer catalog has no ready instance; calls to it fail with NO_ENDPOINTS",
              "a call took longer than dashboard.slow",
            ][at % 3],
      })),
    );
  const wanted = lines.filter(
    (it) => it.number > Number(after.get(it.process) ?? 0) && (!query.get("trace") || it.trace === query.get("trace")),
  );
  return { lines: wanted, silent: [], next: Object.fromEntries(scene.processes.map((it) => [it.id, 12])) };
}

const SETTINGS = [
  ["listen", '"127.0.0.1:50051"', "mesh.toml"],
  ["registry", '"local"', "MESH__REGISTRY"],
  ["limits.in_flight", "1024", "default"],
  ["database.password", "set", "MESH__DATABASE__PASSWORD", true],
  ["dashboard.calls", "4096", "default"],
];

// The answer to a request: a status and JSON.
function answer(scene, method, { pathname, searchParams }, body) {
  const path = pathname.replace("/dashboard/api/", "");
  const missing = (reason) => [404, { error: { code: "NOT_FOUND", reason, message: "No process has it." } }];
  if (path === "calls") {
    const wanted = searchParams.get("method");
    const hostile =
      scene.name === "hostile"
        ? [
            call({
              span: "e1",
              parent: "",
              caller: "",
              callee: TURNED,
              method: MARKUP,
              start: scene.at,
              took: 0.1,
              code: "UNAVAILABLE",
              reason: MARKUP,
            }),
          ]
        : [];
    return [
      200,
      {
        calls: trace(scene)
          .concat(scene.kept ?? [])
          .filter((it) => it.slow || it.code !== "OK" || searchParams.get("problems") !== "1")
          .concat(hostile)
          .filter((it) => !wanted || it.method === wanted)
          .sort((a, b) => (searchParams.get("order") === "slowest" ? b.took - a.took : b.start - a.start)),
        since: BEGIN - 600_000,
        silent: scene.isDown ? [{ process: "127.0.0.1:50051", why: "connection refused" }] : [],
      },
    ];
  }
  if (path === `traces/${TRACE}`)
    return [
      200,
      {
        trace: TRACE,
        calls: scene.traced ?? trace(scene),
        silent: scene.isDown ? [{ process: "127.0.0.1:50051", why: "connection refused" }] : [],
      },
    ];
  if (path.startsWith("traces/")) return missing("TRACE_NOT_FOUND");
  if (path === "logs") return [200, logs(scene, searchParams)];
  if (path === "contracts") return [200, contracts()];
  if (path.endsWith("/configuration"))
    return [
      200,
      {
        settings: SETTINGS.map(([key, value, origin, secret = false]) => ({ key, value, origin, secret })).concat(
          scene.name === "hostile" ? [{ key: MARKUP, value: LONG, origin: TURNED, secret: false }] : [],
        ),
      },
    ];
  if (method === "POST" && path === "operations") return [200, {}];
  if (method === "POST" && path === "call") {
    scene.called = body;
    const title = scene.name === "hostile" ? MARKUP : "Metropolis";
    return [
      200,
      { reason: "", message: "", response: { title: { name: title, kind: "KIND_FILM" } }, took: 0.0042, trace: TRACE },
    ];
  }
  return missing("UNKNOWN_PATH");
}

// Serves a scene. `control` is for tests: its `scene`, whether it answers, and the streams that it has open; the contracts wait for
// `contracts`, a promise.
export async function serve(name = "normal", port = 0) {
  const control = { scene: new Scene(name), streams: new Set(), isOpen: true };
  const server = createServer(async (request, response) => {
    const url = new URL(request.url, "http://localhost");
    const type = (it) => response.setHeader("content-type", it).setHeader("cache-control", "no-store");
    if (!control.isOpen) return request.socket.destroy();
    // It hangs.
    if (control.isStopped) return;
    if (url.pathname === "/dashboard/events") {
      type("text/event-stream");
      response.write(`event: state\ndata: ${JSON.stringify(control.scene.state())}\n\n`);
      control.streams.add(response);
      response.on("close", () => control.streams.delete(response));
    } else if (url.pathname.startsWith("/dashboard/api/")) {
      let body = "";
      for await (const part of request) body += part;
      if (url.pathname.endsWith("/contracts")) await control.contracts;
      const isRight =
        request.method === "GET" ||
        (request.headers["x-dashboard"] === "1" && request.headers["content-type"] === "application/json");
      const [status, json] = isRight
        ? answer(control.scene, request.method, url, body && JSON.parse(body))
        : [415, { error: { code: "INVALID_ARGUMENT", reason: "", message: "Not JSON." } }];
      type("application/json");
      response.writeHead(status).end(JSON.stringify(json));
    } else {
      const file = url.pathname.replace(/^\/dashboard\//, "") || "index.html";
      try {
        const text = readFileSync(`${PAGE}/${file.replaceAll("/", "")}`);
        type(TYPES[file.split(".").at(-1)]);
        response.setHeader("content-security-policy", POLICY).setHeader("x-content-type-options", "nosniff").end(text);
      } catch {
        response.writeHead(404).end();
      }
    }
  });
  // A second of the scene, to each stream.
  control.tick = (message = control.scene.change()) => {
    for (const it of control.streams) it.write(`event: change\ndata: ${JSON.stringify(message)}\n\n`);
  };
  control.drop = () => control.streams.forEach((it) => it.destroy());
  const timer = setInterval(() => control.isManual || control.tick(), 1000);
  control.stop = () => (clearInterval(timer), control.drop(), server.closeAllConnections(), server.close());
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  control.address = `http://127.0.0.1:${server.address().port}/dashboard/`;
  return control;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { address } = await serve(process.argv[2], Number(process.argv[3] ?? 0));
  console.log(address);
}
