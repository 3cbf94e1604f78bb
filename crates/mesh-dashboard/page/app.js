// The page: follows the hub, shows the view that the address names, and draws it again when something has changed.

import { calls, problems, traces } from "./calls.js";
import { contracts } from "./contracts.js";
import { draw, h, link, state } from "./dom.js";
import { all, callsOf, clock, emptyState, merge, route, servicesOf, to } from "./model.js";
import { overview, services } from "./overview.js";
import { configuration, events, logs, work } from "./work.js";

// A view has a `name` and `draw(page)`. What it asks the hub for is `load(page, signal)`, again each `every` ms; the answer is
// `page.data`, which is dropped when `of(page)` is another one.
const VIEWS = { "": overview, services, calls, work, events, problems, traces, logs, contracts, configuration };
// The hub reports each second, if something has changed. After some seconds of silence the page asks whether it is there.
const [QUIET, SILENCE, ANSWER] = [2_000, 10_000, 5_000];
// How long a page that is hidden stays connected.
const HIDDEN = 60_000;
const [FIRST_WAIT, LAST_WAIT] = [500, 10_000];
const $ = (id) => document.getElementById(id);

const page = {
  state: emptyState(),
  redraw,
  get: (path, signal) => ask(path, { signal }),
  post: (path, body) =>
    ask(path, {
      method: "POST",
      body: JSON.stringify(body),
      headers: { "content-type": "application/json", "x-dashboard": "1" },
    }),
  // Changes the query of the address; an empty value leaves a key out.
  set(query) {
    history.replaceState(null, "", to(page.view, { ...page.query, ...query }, page.rest));
    show();
  },
  processName: (id) => page.state.processes.get(id)?.process ?? id,
};

async function ask(path, options) {
  const response = await fetch(path, options).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("the hub cannot be reached");
  });
  const { error, ...body } = await response.json().catch(() => ({}));
  if (response.ok && !error) return body;
  throw new Error([error?.reason || error?.code || response.status, error?.message].filter(Boolean).join(": "));
}

// --- The hub ---

let source = null;
// The clock of the hub in its last message, and when that came; and when the hub last was known to be there.
let [reported, heard, checked] = [0, 0, 0];
let [failures, isLive, timer] = [0, false];

function connect() {
  source = new EventSource("events");
  checked = Date.now();
  for (const name of ["state", "change"]) {
    source.addEventListener(name, ({ data }) => {
      heard = checked = Date.now();
      [failures, isLive] = [0, true];
      merge(page.state, JSON.parse(data), name === "state");
      reported = page.state.at;
      redraw();
    });
  }
  // The browser has no limit, and gives up after an answer that is an error.
  source.onerror = lose;
}

function rest() {
  source?.close();
  source = null;
  isLive = false;
  clearTimeout(timer);
}

function lose() {
  rest();
  timer = setTimeout(connect, Math.min(LAST_WAIT, FIRST_WAIT * 2 ** failures++) * (0.75 + Math.random() / 2));
  redraw();
}

setInterval(() => {
  const now = Date.now();
  if (source && now - checked > SILENCE) check();
  // Rates fall while nothing happens.
  if (!isLive || now - heard < QUIET) return;
  page.state.at = reported + now - heard;
  redraw();
}, 1000);

// Leaves a hub that does not answer. One that hangs keeps its connections.
async function check() {
  const asked = source;
  checked = Date.now();
  const isThere =
    isLive &&
    (await fetch(".", { method: "HEAD", signal: AbortSignal.timeout(ANSWER) }).then(
      (it) => it.ok,
      () => false,
    ));
  if (!isThere && source === asked) lose();
}

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
  loading?.stop.abort();
  Object.assign(page, { data: null, error: null });
  loading = { of, stop: new AbortController() };
  if (view.load) load(view, loading.stop.signal);
}

async function load(view, signal) {
  while (!signal.aborted) {
    try {
      const data = document.hidden ? page.data : await view.load(page, signal);
      if (!signal.aborted) Object.assign(page, { data, error: null });
    } catch (error) {
      if (!signal.aborted) page.error = error;
    }
    redraw();
    if (!view.every && !page.error) return;
    await new Promise((resolve) => setTimeout(resolve, view.every ?? 2000));
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
  const hub = page.state.hub;
  page.calls = callsOf(page.state);
  page.services = servicesOf(page.state, page.calls);
  page.width = main.clientWidth - 2 * parseFloat(getComputedStyle(main).paddingLeft) - 2;
  const down = page.services.filter((it) => it.health === "down").map((it) => it.name);
  const view = VIEWS[page.view];
  if (hub) follow(view);
  const words = isLive
    ? state("up", "live")
    : state("part", hub ? `reconnecting… this is of ${clock(page.state.at)}` : "connecting…");
  draw(
    $("top"),
    h("a.brand", { href: "#/" }, hub?.process ?? "Dashboard"),
    words,
    hub && h("p", `${hub.version} · ${hub.mode === "call" ? "read and call" : "read only"} · knows since ${clock(hub.since)}`),
    hub?.links?.length > 0 && h("p.links", hub.links.map((it) => h("a", { key: it.url, href: it.url }, it.name))),
  );
  draw($("views"), navigation(down));
  draw(
    main,
    page.error && h("p.notice.bad", { role: "alert" }, `✕ ${page.error.message}`),
    hub ? h("div", { key: page.view }, drawn(view)) : h("p.empty", "Waiting for the hub…"),
  );
  draw($("news"), hub && !isLive ? "The connection is lost." : down.length ? `Down: ${down.join(", ")}` : "");
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
    events: all(page.state.followers).filter((it) => it.parked || !it.connected).length,
    work: all(page.state.work).filter((it) => it.state === "STUCK").length,
  };
  const current = VIEWS[page.view].within ?? page.view;
  return h(
    "ul",
    Object.entries(VIEWS)
      .filter(([, it]) => !it.within)
      .map(([key, { name }]) =>
        h(
          "li",
          { key },
          h(
            "a",
            { href: to(key), "aria-current": key === current && "page" },
            name,
            counts[key] > 0 && h("span.count", ` ✕ ${counts[key]}`),
          ),
        ),
      ),
  );
}

// --- Start ---

// The button that opens and closes a row.
const rowOf = (key) => key && document.querySelector(`[data-row="${CSS.escape(key)}"]`);

addEventListener("hashchange", () => {
  const before = [page.view, page.rest].join();
  show();
  if ([page.view, page.rest].join() === before) return;
  scrollTo(0, 0);
  requestAnimationFrame(() => (rowOf(page.query.open) || document.querySelector("h1"))?.focus());
});
addEventListener("resize", redraw);
// A hidden page leaves its connection to others: browsers have six for an origin.
document.addEventListener("visibilitychange", () => {
  if (document.hidden && source) timer = setTimeout(rest, HIDDEN);
  if (!document.hidden) {
    clearTimeout(timer);
    if (!source) connect();
  }
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
