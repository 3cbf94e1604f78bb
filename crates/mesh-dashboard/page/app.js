// The page: follows the hub, shows the view that the address names, and draws it again when something has changed.

import { calls, problems, traces } from "./calls.js";
import { contracts } from "./contracts.js";
import { draw, h, link, mark } from "./dom.js";
import { all, by, callsOf, clock, emptyMesh, merge, route, servicesOf, sum, to } from "./model.js";
import { overview, services } from "./overview.js";
import { configuration, events, logs, work } from "./work.js";

// A view has a `name` and `draw(page)`. What it asks the hub for is `load(page)`, again each `every` ms; the answer is
// `page.data`, which is dropped when `of(page)` is another one.
const VIEWS = { "": overview, services, calls, work, events, problems, traces, logs, contracts, configuration };
// A hub is left after SILENCE ms without a message, and HIDDEN ms after the page was seen.
const [SILENCE, HIDDEN, WAIT] = [10_000, 60_000, 1_000];
const $ = (id) => document.getElementById(id);

const page = {
  mesh: emptyMesh(),
  redraw,
  ask,
  // Asks for the contracts, which say what is a stream. A call that they lack is none.
  async learn() {
    page.contracts = await ask("api/contracts");
    const methods = page.contracts.services.flatMap((it) => it.methods);
    const others = all(page.mesh.edges).map((it) => [it.method, false]);
    page.mesh.methods = new Map([...others, ...methods.map((it) => [it.full, it.serverStreaming || it.clientStreaming])]);
    page.mesh.isLearnt = true;
    redraw();
    return page.contracts;
  },
  // Changes the query of the address; an empty value leaves a key out.
  set(query) {
    history.replaceState(null, "", to(page.view, { ...page.query, ...query }, page.rest));
    show();
  },
  processName: (id) => page.mesh.processes.get(id)?.process ?? id,
};

// Gets an answer of the hub; with something to `send`, by a POST.
async function ask(path, send) {
  const headers = { "content-type": "application/json", "x-dashboard": "1" };
  const response = await fetch(path, send && { method: "POST", body: JSON.stringify(send), headers }).catch(() => {
    throw new Error("the hub cannot be reached");
  });
  const { error, ...body } = await response.json().catch(() => ({}));
  if (response.ok && !error) return body;
  throw new Error([error?.reason || error?.code || response.status, error?.message].filter(Boolean).join(": "));
}

let [source, timer] = [];
// `isAsked`: for the contracts.
let [heard, isLive, isAsked] = [0, false, false];

function connect() {
  source = new EventSource("events");
  heard = Date.now();
  for (const name of ["state", "change"]) {
    source.addEventListener(name, ({ data }) => {
      [heard, isLive] = [Date.now(), true];
      const message = JSON.parse(data);
      merge(page.mesh, message, name === "state");
      if (message.processes) isAsked = page.mesh.isLearnt = false;
      if (!isAsked) {
        isAsked = true;
        page.learn().catch(() => (isAsked = false));
      }
      redraw();
    });
  }
  // The browser has no limit, and gives up after an answer that is an error.
  source.onerror = lose;
}

function leave() {
  source?.close();
  source = null;
  isLive = false;
  clearTimeout(timer);
}

function lose() {
  leave();
  timer = setTimeout(connect, WAIT * (1 + Math.random()));
  redraw();
}

setInterval(() => source && Date.now() - heard > SILENCE && lose(), 1000);

let loading;

function show() {
  Object.assign(page, route(location.hash));
  if (!Object.hasOwn(VIEWS, page.view)) page.view = "";
  redraw();
}

function follow(view) {
  const of = JSON.stringify([page.view, view.of ? view.of(page) : page.rest]);
  if (loading?.of === of) return;
  loading = { of };
  Object.assign(page, { data: null, error: null });
  if (view.load) load(view, loading);
}

async function load(view, own) {
  while (loading === own) {
    const result = await view.load(page).then(
      (data) => ({ data, error: null }),
      (error) => ({ error }),
    );
    if (loading === own) Object.assign(page, result);
    redraw();
    if (!view.every && !result.error) return;
    do await new Promise((resolve) => setTimeout(resolve, view.every ?? 2000));
    while (document.hidden);
  }
}

let isDue = false;

// Draws before the next frame; a hidden page waits until it is seen.
function redraw() {
  if (isDue || document.hidden) return;
  isDue = true;
  requestAnimationFrame(render);
}

function render() {
  isDue = false;
  const start = performance.now();
  const main = $("main");
  const { at, hub } = page.mesh;
  page.calls = callsOf(page.mesh);
  page.services = servicesOf(page.mesh, page.calls);
  page.processes = all(page.mesh.processes).sort(by((it) => it.process + it.id));
  page.width = main.clientWidth - 2 * parseFloat(getComputedStyle(main).paddingLeft) - 2;
  const down = page.services.filter((it) => it.health === "down").map((it) => it.name);
  const view = VIEWS[page.view];
  if (hub) follow(view);
  draw(
    $("top"),
    h("a.brand", { href: "#/" }, hub?.process ?? "Dashboard"),
    isLive ? mark("up", "live") : mark("part", hub ? `reconnecting… this is of ${clock(at)}` : "connecting…"),
    hub && h("p", `${hub.version} · ${hub.mode === "call" ? "read and call" : "read only"} · knows since ${clock(hub.since)}`),
    h(
      "p.links",
      hub?.links?.map((it) => link(it.url, it.name)),
    ),
  );
  draw($("views"), navigation(down));
  draw(
    main,
    page.error && h("p.notice.bad", { role: "alert" }, `✕ ${page.error.message}`),
    hub ? h("div", { key: page.view }, drawn(view)) : h("p.empty", "Waiting for the hub…"),
  );
  draw($("news"), hub && !isLive ? "The connection is lost." : down.length && `Down: ${down.join(", ")}`);
  document.title = `${down.length ? `✕ ${down.length} down – ` : ""}${view.name} – ${hub?.process ?? "dashboard"}`;
  document.body.classList.toggle("stale", Boolean(hub) && !isLive);
  // For an observer, such as the test of the budget.
  performance.measure("render", { start });
  performance.clearMeasures("render");
}

// A row of the hub breaks one view at most.
function drawn(view) {
  try {
    return view.draw(page);
  } catch (error) {
    console.error(error);
    return h("p.notice.bad", `✕ This view cannot be drawn: ${error.message}`);
  }
}

function navigation(down) {
  const counts = {
    services: down.length,
    calls: page.calls.filter((it) => it.failing).length,
    work: all(page.mesh.work).filter((it) => it.state === "STUCK").length,
    events: all(page.mesh.followers).filter((it) => it.parked || !it.connected).length,
    // Of the last minute, without answers such as NOT_FOUND.
    problems: sum(page.calls, (it) => it.recentFaults),
  };
  const current = VIEWS[page.view].within ?? page.view;
  const views = Object.entries(VIEWS).filter(([, it]) => !it.within);
  const entry = ([key, { name }]) => {
    const count = counts[key] > 0 && (key === "problems" ? h("span.small", counts[key]) : h("span.count", `✕ ${counts[key]}`));
    return h("li", { key }, h("a", { href: to(key), "aria-current": key === current && "page" }, name, " ", count));
  };
  return h("ul", views.map(entry));
}

// The button that opens and closes a row.
const rowOf = (key) => key && document.querySelector(`[data-row="${CSS.escape(key)}"]`);

addEventListener("hashchange", () => {
  const before = `${page.view} ${page.rest}`;
  show();
  if (`${page.view} ${page.rest}` === before) return;
  scrollTo(0, 0);
  requestAnimationFrame(() => (rowOf(page.query.open) || document.querySelector("h1"))?.focus());
});
addEventListener("resize", redraw);
// A hidden page leaves its connection to others: browsers have six for an origin.
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (document.hidden) timer = setTimeout(leave, HIDDEN);
  else if (!source) connect();
  redraw();
});
addEventListener("keydown", ({ key }) => {
  const { open } = page.query;
  if (key !== "Escape" || !open) return;
  page.set({ open: null });
  rowOf(open)?.focus();
});
$("skip").onclick = (event) => {
  event.preventDefault();
  $("main").focus();
};
show();
connect();
