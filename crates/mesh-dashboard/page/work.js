// Long work, followers of events, logs and configuration.

import { bar, button, choice, facts, filters, find, h, has, link, loading, state, table, title, why } from "./dom.js";
import { all, by, clock, duration, number, order, plural, to } from "./model.js";
import { gaps } from "./calls.js";

const KINDS = {
  up: "up",
  draining: "part",
  silent: "down",
  gone: "down",
  PENDING: "absent",
  RUNNING: "busy",
  COMPENSATING: "part",
  STUCK: "down",
  SUCCEEDED: "up",
  FAILED: "down",
  CANCELLED: "absent",
};
// The state of a process or of work.
export const stateOf = (name) => state(KINDS[name] ?? "absent", name.toLowerCase());
export const percentOf = ({ percent }) => (Number.isFinite(percent) ? `${Math.round(percent)} %` : "");
export const isOpen = (it) => !["SUCCEEDED", "FAILED", "CANCELLED"].includes(it.state);

// The last answer to an action by name of the work, and the action that waits for its second click.
const answers = new Map();
let armed;

// What the hub cannot see, and why.
export const notes = (page) =>
  page.state.notes.size > 0 &&
  h(
    "ul.notice",
    { key: "notes" },
    all(page.state.notes).map(({ key, text }) => h("li", { key }, text)),
  );

export const work = {
  name: "Work",
  draw(page) {
    const rows = all(page.state.work).sort(by((it) => (isOpen(it) ? -it.created : 1 / it.created)));
    return [
      title("Work"),
      notes(page),
      table(
        page,
        "Long work: renderings, sagas and the like; the open first",
        ["Work", "State", "Progress", "*Service", "*#Updated"],
        rows.map((it) => ({
          key: it.name,
          cells: [
            [it.kind, why(it.name)],
            [stateOf(it.state), it.error && why(it.error.reason || it.error.code)],
            [percentOf(it), " ", it.phase, percentOf(it) && bar(it.percent / 100, KINDS[it.state])],
            it.service,
            clock(it.updated),
          ],
          more: () => details(page, it),
        })),
        "No long work: it appears when a service starts some.",
      ),
    ];
  },
};

function details(page, it) {
  const actions = [it.canCancel && "cancel", it.canRetry && "retry", it.canResume && "resume"].filter(
    (action) => action && page.state.hub.mode === "call",
  );
  const until = isOpen(it) ? page.state.at : it.updated;
  return facts([
    ["Started", `${clock(it.created)}, ${isOpen(it) ? "runs for" : "took"} ${duration(Math.max(0, until - it.created) / 1000)}`],
    [
      "Steps",
      it.steps?.length &&
        h(
          "ol",
          it.steps.map((one) => h("li", { key: one.name }, one.name, " ", stateOf(one.state))),
        ),
    ],
    ["Error", it.error && [h("b", it.error.reason || it.error.code), ` ${it.error.message}`]],
    ["Actions", actions.length && actions.map((action) => actionOf(page, it.name, action))],
    ["Answer", answers.has(it.name) && h("span", { role: "status" }, answers.get(it.name))],
  ]);
}

function actionOf(page, name, action) {
  const key = `${name} ${action}`;
  return button(
    armed === key ? `Really ${action}?` : action,
    async () => {
      if (armed !== key) return ((armed = key), page.redraw());
      armed = null;
      answers.set(
        name,
        await page.post("api/operations", { name, action }).then(
          () => `${action}: accepted`,
          (error) => `✕ ${error.message}`,
        ),
      );
      page.redraw();
    },
    { class: armed === key ? "armed" : null },
  );
}

export const events = {
  name: "Events",
  draw(page) {
    return [
      title("Events"),
      h("p.lead", "A service follows what another one publishes. Events of a parked key wait for an operator."),
      table(
        page,
        "Followers of events",
        ["Follower ← source", "Connection", "#Behind", "#Parked keys"],
        all(page.state.followers)
          .sort(by((it) => it.service + it.source))
          .map((it) => ({
            key: it.key,
            cells: [
              `${it.service} ← ${it.source}`,
              it.connected ? state("up", "connected") : state("down", "not connected"),
              Number.isFinite(it.lag) ? plural(it.lag, "event") : "not known",
              it.parked ? state("down", number(it.parked)) : "none",
            ],
          })),
        "No service follows another one.",
      ),
    ];
  },
};

const processes = ({ state }) =>
  all(state.processes)
    .sort((a, b) => order(a.process, b.process) || order(a.id, b.id))
    .map((it) => [it.id, `${it.process} ${it.id}`]);
// What the view of logs holds, in lines; a process keeps as many.
const LINES = 1000;

export const logs = {
  name: "Logs",
  every: 1000,
  // A process that starts again counts its lines from 1.
  of: ({ query, state }) => [query.process, query.level, query.trace, all(state.processes).map((it) => it.start)],
  // Only the lines that the view has not.
  async load({ data, query, get }, signal) {
    if (query.pause) return data;
    const { next = {}, lines = [] } = data ?? {};
    const asked = new URLSearchParams(["process", "level", "trace"].filter((it) => query[it]).map((it) => [it, query[it]]));
    for (const id in next) asked.append("after", `${id}~${next[id]}`);
    const more = await get(`api/logs?${asked}`, signal);
    return {
      silent: more.silent,
      next: { ...next, ...more.next },
      lines: [...lines, ...more.lines].sort(by((it) => it.at)).slice(-LINES),
    };
  },
  draw(page) {
    const { data, query } = page;
    return [
      title("Logs"),
      filters(
        choice(page, "process", "Process", [["", "all"], ...processes(page)]),
        choice(page, "level", "Level", [
          ["", "all"],
          ["info", "info and above"],
          ["warn", "warn and above"],
          ["error", "error"],
        ]),
        find(page, "trace", "Trace"),
        button(query.pause ? "Continue" : "Pause", () => page.set({ pause: query.pause ? "" : "1" })),
      ),
      gaps(data),
      h("p.lead", `The newest first. A process keeps its last ${number(LINES)} lines.`),
      h(
        "ol.lines",
        { key: "lines", tabindex: "0", "aria-label": "Lines of the log" },
        (data?.lines ?? [])
          .toReversed()
          .map((it) =>
            h(
              `li.${it.level}`,
              { key: `${it.process} ${it.number}` },
              h(
                "p.why",
                `${clock(it.at)} `,
                h("b", { error: "✕ ", warn: "▲ " }[it.level], it.level),
                ` ${page.processName(it.process)} ${it.target} `,
                it.trace && link(to("traces", {}, it.trace), it.trace.slice(0, 8)),
              ),
              it.text,
            ),
          ),
      ),
      !data?.lines.length && h("p.empty", loading(page, "No line fits. A process logs each call at the level debug alone.")),
    ];
  },
};

const chosen = (page) => page.query.process || processes(page)[0]?.[0];

export const configuration = {
  name: "Configuration",
  of: chosen,
  load: (page, signal) =>
    chosen(page) ? page.get(`api/processes/${encodeURIComponent(chosen(page))}/configuration`, signal) : { settings: [] },
  draw(page) {
    const { data, query } = page;
    const fits = (it) => has(page, `${it.key} ${it.value} ${it.origin}`) && (!query.origin || it.origin !== "default");
    return [
      title("Configuration"),
      filters(
        choice(page, "process", "Process", processes(page)),
        choice(page, "origin", "Show", [
          ["", "every key"],
          ["set", "what is not a default"],
        ]),
        find(page, "words", "Find a key"),
      ),
      table(
        page,
        "The configuration in force",
        ["Key", "Value", "Origin"],
        (data?.settings ?? [])
          .filter(fits)
          .map((it) => ({
            key: it.key,
            cells: [h("code", it.key), [h("code", it.value), it.secret && why("a secret")], it.origin],
          })),
        loading(page, "No key fits."),
      ),
    ];
  },
};
