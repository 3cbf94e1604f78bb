// Long work, followers of events, logs and configuration.

import { bar, button, choice, confirms, facts, filters, find, gaps, h, has, isArmed, items, kindOf } from "./dom.js";
import { loading, mark, markOf, notice, small, table, title, traceLink } from "./dom.js";
import { all, by, clock, duration, isGone, number, plural } from "./model.js";

export const percentOf = ({ percent }) => (Number.isFinite(percent) ? `${Math.round(percent)} %` : "");
export const isOpen = (it) => !["SUCCEEDED", "FAILED", "CANCELLED"].includes(it.state);
export const notes = (page) => notice(all(page.mesh.notes), (it) => it.text);

// The last answer to an action by name of the work.
const answers = new Map();

export const work = {
  name: "Work",
  draw: (page) => [
    title("Work"),
    notes(page),
    table(
      page,
      "Long work, the open first",
      all(page.mesh.work).sort(by((it) => (isOpen(it) ? -it.created : 1 / it.created))),
      {
        Work: (it) => [it.kind, small(it.name)],
        State: (it) => [markOf(it.state), it.state !== "CANCELLED" && it.error && small(it.error.reason)],
        Progress: (it) => [percentOf(it), " ", it.phase, percentOf(it) && bar(it.percent / 100, kindOf(it.state))],
        "*Service": (it) => it.service,
        "*#Updated": (it) => clock(it.updated),
      },
      { none: "No long work: it appears when a service starts some.", more: (it) => details(page, it) },
    ),
  ],
};

function details(page, it) {
  const isCancelled = answers.get(it.name) === "cancel: accepted";
  const can = { cancel: it.canCancel && !isCancelled, retry: it.canRetry, resume: it.canResume };
  const actions = Object.keys(can).filter((action) => can[action] && page.mesh.hub.mode === "call");
  const took = Math.max(0, (isOpen(it) ? page.mesh.at : it.updated) - it.created) / 1000;
  return facts({
    Started: `${clock(it.created)}, ${it.state === "PENDING" ? "waits for" : isOpen(it) ? "runs for" : "took"} ${duration(took)}`,
    Steps: items(it.steps, (one) => [one.name, " ", markOf(one.state)]),
    Error: it.error && [h("b", it.error.reason), ` ${it.error.message}`],
    Actions: actions.length && actions.map((action) => actionOf(page, it.name, action)),
    Answer: answers.has(it.name) && h("span", { role: "status" }, answers.get(it.name)),
  });
}

function actionOf(page, name, action) {
  const key = `${name} ${action}`;
  const waits = isArmed(key);
  const act = async () => {
    if (!confirms(page, key)) return;
    const answer = await page.ask("api/operations", { name, action }).then(
      () => `${action}: accepted`,
      (error) => `✕ ${error.message}`,
    );
    answers.set(name, answer);
    page.redraw();
  };
  return button(waits ? `Really ${action}?` : action, act, { class: waits && "armed" });
}

export const events = {
  name: "Events",
  draw: (page) => [
    title("Events"),
    h("p.lead", "A service follows what another one publishes. Events of parked keys wait for an operator."),
    table(
      page,
      "Followers of events",
      all(page.mesh.followers).sort(by((it) => it.service + it.source)),
      {
        "Follower ← source": (it) => `${it.service} ← ${it.source}`,
        Connection: (it) => (it.connected ? mark("up", "connected") : mark("down", "not connected")),
        "#Behind": (it) => (it.connected && Number.isFinite(it.lag) ? plural(it.lag, "event") : "unknown"),
        "#Parked keys": (it) => (it.parked ? mark("down", number(it.parked)) : "none"),
      },
      { none: "No service follows another one." },
    ),
  ],
};

const choices = ({ processes }) => Object.fromEntries(processes.map((it) => [it.id, `${it.process} ${it.id}`]));
// The lines that the view holds, as does a process.
const LINES = 1000;

export const logs = {
  name: "Logs",
  every: 1000,
  // A process that starts again counts its lines from 1.
  of: ({ query, processes }) => [query.process, query.level, query.trace, processes.map((it) => it.start)],
  // Only the lines that the view has not.
  async load({ data, query, ask }) {
    if (query.pause) return data;
    const { next = {}, lines = [] } = data ?? {};
    const asked = new URLSearchParams(["process", "level", "trace"].filter((it) => query[it]).map((it) => [it, query[it]]));
    for (const id in next) asked.append("after", `${id}~${next[id]}`);
    const more = await ask(`api/logs?${asked}`);
    return { ...more, lines: [...lines, ...more.lines].sort(by((it) => it.at)).slice(-LINES) };
  },
  draw(page) {
    const { data, query } = page;
    const line = (it) =>
      h(
        `li.${it.level}`,
        { key: `${it.process} ${it.number}` },
        h(
          "p.small",
          `${clock(it.at)} `,
          h("b", { error: "✕ ", warn: "▲ " }[it.level], it.level),
          ` ${page.processName(it.process)} ${it.target} `,
          traceLink(it.trace, it.trace.slice(0, 8)),
        ),
        it.text,
      );
    const one = page.mesh.processes.get(query.process);
    const none = one && isGone(one) ? "It has ended, and its lines with it." : "No line fits. Calls are logged at debug alone.";
    return [
      title("Logs"),
      filters(
        choice(page, "process", "Process", { "": "all", ...choices(page) }),
        choice(page, "level", "Level", { "": "all", info: "info and above", warn: "warn and above", error: "error" }),
        find(page, "trace", "Trace"),
        button(query.pause ? "Continue" : "Pause", () => page.set({ pause: query.pause ? "" : 1 })),
      ),
      gaps(data),
      h("p.lead", `The newest first. A process keeps its last ${number(LINES)} lines.`),
      h("ol.lines", { key: "lines", tabindex: "0", "aria-label": "Lines of the log" }, data?.lines.toReversed().map(line)),
      !data?.lines.length && h("p.empty", loading(page, none)),
    ];
  },
};

const chosen = ({ query, processes }) => query.process || processes[0]?.id;

export const configuration = {
  name: "Configuration",
  of: chosen,
  load: async (page) =>
    chosen(page) ? page.ask(`api/processes/${encodeURIComponent(chosen(page))}/configuration`) : { settings: [] },
  draw(page) {
    const { data, query } = page;
    const fits = (it) => has(page, `${it.key} ${it.value} ${it.origin}`) && (!query.origin || it.origin !== "default");
    return [
      title("Configuration"),
      filters(
        choice(page, "process", "Process", choices(page)),
        choice(page, "origin", "Show", { "": "every key", set: "what is not a default" }),
        find(page, "words", "Find a key"),
      ),
      table(
        page,
        "The configuration in force",
        (data?.settings ?? []).filter(fits),
        {
          Key: (it) => h("code", it.key),
          Value: (it) => [h("code", it.value), it.secret && small("a secret")],
          Origin: (it) => it.origin,
        },
        { none: loading(page, "No key fits.") },
      ),
    ];
  },
};
