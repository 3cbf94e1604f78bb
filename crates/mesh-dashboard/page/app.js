// The page: follows the hub, shows the view that the address names, and draws it again when something has changed.

import { calls, problems, traces } from "./calls.js";
import { contracts } from "./contracts.js";
import { draw, h, link, state } from "./dom.js";
import { all, callsOf, clock, emptyState, merge, route, servicesOf, sum, to } from "./model.js";
import { overview, services } from "./overview.js";
import { configuration, events, logs, work } from "./work.js";

// A view has a `name` and `draw(page)`. What it asks the hub for is `load(page)`, again each `every` ms; the answer is
// `page.data`, which is dropped when `of(page)` is another one.
const VIEWS = { "": overview, services, calls, work, events, problems, traces, logs, contracts, configuration };
// The hub sends something each second: after SILENCE ms without it is left. A page stays connected HIDDEN ms after it was seen.
const [SILENCE, HIDDEN, WAIT] = [10_000, 60_000, 1_000];
const $ = (id) => document.getElementById(id);

const page = {
  state: emptyState(),
  redraw,
  ask,
  // Asks for the contracts, which also say what is a stream. A call that they lack is none.
  async learn() {
    page.contracts = await ask("api/contracts");
    const methods = page.contracts.services.flatMap((it) => it.methods);
    const others = all(page.state.edges).map((it) => [it.method, false]);
    page.state.methods = new Map([...others, ...methods.map((it) => [it.full, it.serverStreaming || it.clientStreaming])]);
    page.state.isLearnt = true;
    redraw();
    return page.contracts;
  },
  // Changes the query of the address; an empty value leaves a key out.
  set(query) {
    history.replaceState(null, "", to(page.view, { ...page.query, ...query }, page.rest));
    show();
  },
  processName: (id) => page.state.processes.get(id)?.process ?? id,
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

// --- The hub ---

let [source, timer] = [];
let [heard, isLive] = [0, false];
// Whether the contracts have been asked for.
let isAsked = false;

function connect() {
  source = new EventSource("events");
  heard = Date.now();
  for (const name of ["state", "change"]) {
    source.addEventListener(name, ({ data }) => {
      [heard, isLive] = [Date.now(), true];
      const message = JSON.parse(data);
      merge(page.state, message, name === "state");
      if (message.processes) isAsked = page.state.isLearnt = false;
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

// --- The view ---

let loading;

// Shows the view of the address.
function show() {
  Object.assign(page, route(location.hash));
  if (!Object.hasOwn(VIEWS, page.view)) page.view = "";
  redraw();
}

// Asks for what the view needs, if that has changed.
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

// --- Drawing ---

let isDue = false;

// Draws before the next frame; a page that is hidden waits until it is seen.
function redraw() {
  if (isDue || document.hidden) return;
  isDue = true;
  requestAnimationFrame(render);
}

function render() {
  isDue = false;
  const start = performance.now();
  const main = $("main");
  const { at, hub } = page.state;
  page.calls = callsOf(page.state);
  page.services = servicesOf(page.state, page.calls);
  page.width = main.clientWidth - 2 * parseFloat(getComputedStyle(main).paddingLeft) - 2;
  const down = page.services.filter((it) => it.health === "down").map((it) => it.name);
  const view = VIEWS[page.view];
  if (hub) follow(view);
  draw(
    $("top"),
    h("a.brand", { href: "#/" }, hub?.process ?? "Dashboard"),
    isLive ? state("up", "live") : state("part", hub ? `reconnecting… this is of ${clock(at)}` : "connecting…"),
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

// A view that a row of the hub breaks leaves the others alone.
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
    work: all(page.state.work).filter((it) => it.state === "STUCK").length,
    events: all(page.state.followers).filter((it) => it.parked || !it.connected).length,
    // Of the last minute, without answers such as NOT_FOUND.
    problems: sum(page.calls, (it) => it.recentFaults),
  };
  const current = VIEWS[page.view].within ?? page.view;
  const entry = ([key, { name }]) =>
    h(
      "li",
      { key },
      h(
        "a",
        { href: to(key), "aria-current": key === current && "page" },
        name,
        counts[key] > 0 && h(`span.${key === "problems" ? "why" : "count"}`, ` ${key === "problems" ? "" : "✕ "}${counts[key]}`),
      ),
    );
  return h(
    "ul",
    Object.entries(VIEWS)
      .filter(([, it]) => !it.within)
      .map(entry),
  );
}

// --- Start ---

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
