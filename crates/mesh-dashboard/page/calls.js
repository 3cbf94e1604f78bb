// The calls between services, those that were kept, and their traces.

import { bar, button, choice, code, facts, filters, find, gaps, h, has, items, link } from "./dom.js";
import { loading, mark, small, table, title, traceLink } from "./dom.js";
import { graph } from "./graph.js";
import { all, arrow, by, clock, duration, endOf, isFault, isGone, isStream, lately, linksOf, number } from "./model.js";
import { perSecond, plural, problemsOf, slowFrom, sum, timesIn, timesOf, to, unique, waterfall } from "./model.js";

// What the table is sorted by. Without it the order is by name: rows stay where they are.
const SORTS = {
  Calls: (it) => -it.rate,
  Failed: (it) => -it.faultRate - it.faults / 1e9 - 1e9 * it.failing,
  p99: (it) => -it.p99,
};

export const calls = {
  name: "Calls",
  draw(page) {
    const { query } = page;
    const rows = page.calls
      .filter((it) => has(page, `${arrow(it)} ${it.method}`))
      .sort(by(SORTS[query.sort] ?? ((it) => it.key)));
    const names = rows.flatMap((it) => [it.caller, it.callee]);
    return [
      title("Calls"),
      graph(
        page,
        page.services.filter((it) => !query.words || names.includes(it.name)),
        linksOf(rows),
      ),
      filters(
        find(page, "words", "Find a service, a → b, or a method"),
        query.words && h("p", `${rows.length} of ${page.calls.length} `, link("#/calls", "show all")),
      ),
      table(
        page,
        `Calls: rates of the last 10 s, times ${lately(page.mesh)} unless marked`,
        rows,
        {
          "Caller → callee, method": (it) => [arrow(it), " ", code(it.method)],
          "#^Calls": (it) => perSecond(it.rate),
          "#^Failed": (it) => (it.failing ? mark("down", perSecond(it.faultRate)) : before(it)),
          "*#p50": (it) => [duration(it.p50), isOld(it)],
          "#^p99": (it) => [duration(it.p99), isOld(it)],
          "*#In flight": (it) => (it.isStream ? plural(it.inFlight, "stream") : number(it.inFlight)),
          "*#Retries": (it) => number(it.retries),
          "*Path": (it) => it.path || "–",
        },
        { key: "calls", none: "No call.", kind: (it) => it.failing && "down", below, more: (it) => details(page, it) },
      ),
    ];
  },
};

const before = (it) => (it.faults ? `${number(it.faults)} before` : it.used ? "none" : "–");
const isOld = (it) => it.count > 0 && !it.isRecent && small("since the start");
const below = (it) => [
  it.failing &&
    h("p.links", mark("down", it.last?.reason), !it.faultRate && `at ${clock(it.last?.at)}`, traceLink(it.last?.trace)),
  it.undeclared && mark("odd", "not declared"),
  !it.used && mark("absent", `declared${it.declared?.optional ? ", optional" : ""}, no call yet`),
];

function details({ mesh, processName }, it) {
  const served = timesOf(it.servers.map((one) => mesh.tracks.get(one.key)));
  const isEnd = (one) => one.peer === it.callee && it.edges.some((edge) => edge.process === one.process);
  const codes = Object.entries(it.codes).map(([code, count]) => `${code} ${number(count)}`);
  return facts({
    Method: link(to("contracts", {}, it.method), it.method),
    "Last failure": it.last && [h("b", it.last.reason), ` at ${clock(it.last.at)} `, traceLink(it.last.trace, "open its trace")],
    "Since the start": codes.join(", "),
    Times: timesIn(it),
    "Server measured": it.isStream === false && timesIn(served),
    "By process": items(
      it.edges,
      ({ process, memory }) => `${processName(process)} ${process}, in ${memory ? "memory" : "the network"}`,
    ),
    Instances: items(
      all(mesh.endpoints).filter(isEnd),
      (one) => `${one.address}: ${plural(one.picks, "attempt")}, ${plural(one.ejections, "ejection")}`,
    ),
    More: link(to("problems", { method: it.method }), "failed and slow calls of the method"),
  });
}

// The rows that are shown at first, and the calls of one that are listed.
const [MOST, LISTED] = [25, 10];

export const problems = {
  name: "Problems",
  every: 2000,
  of: ({ query }) => [query.show === "all", query.method],
  load: ({ query, ask }) =>
    ask(`api/calls?${new URLSearchParams({ problems: query.show === "all" ? 0 : 1, method: query.method ?? "", limit: 1000 })}`),
  draw(page) {
    const { data, query } = page;
    const fits = { failed: (it) => it.code !== "OK", slow: (it) => it.slow }[query.show] ?? (() => true);
    // A stream has no time.
    const tookOf = (it) => (isStream(page.mesh, it.method) === false ? it.took : null);
    const rows = problemsOf(data?.calls ?? [])
      .filter(fits)
      .sort(by((it) => (query.sort ? -tookOf(it.slowest) : -it.last)));
    const since = Math.min(...rows.flatMap((it) => it.calls.map((one) => one.start)));
    const faults = sum(page.calls, (it) => it.recentFaults);
    const methods = unique(page.calls.map((it) => it.method).concat(query.method ?? [])).sort();
    return [
      title("Problems"),
      h(
        "p.lead",
        `${plural(faults, "failure")} with the callee as the cause, ${lately(page.mesh)}. Answers such as NOT_FOUND are not counted.`,
      ),
      filters(
        choice(page, "show", "Show", { "": "failed or slow", failed: "failed", slow: "slow", all: "all that were kept" }),
        choice(page, "method", "Method", { "": "all", ...Object.fromEntries(methods.map((it) => [it, it])) }),
      ),
      gaps(data),
      table(
        page,
        `Calls kept${rows.length ? ` since ${clock(since)}` : ""}: failed, slow (${slowFrom(page.mesh)} or more: dashboard.slow), and a sample`,
        query.every ? rows : rows.slice(0, MOST),
        {
          Call: (it) => [arrow(it), " ", code(it.method)],
          Result: result,
          "*#Count": (it) => number(it.calls.length),
          "#^Slowest": ({ slowest: it }) => (tookOf(it) === null ? "–" : traceLink(it.trace, duration(it.took))),
          "#Last": (it) => traceLink(it.trace, clock(it.last)),
        },
        {
          key: "problems",
          none: loading(page, "No problem has been kept."),
          more: (it) => kept(page, it, (it) => tookOf(it) !== null && ` ${duration(it.took)},`),
        },
      ),
      rows.length > MOST && !query.every && button(`Show ${rows.length - MOST} more`, () => page.set({ every: 1 })),
    ];
  },
};

const kept = ({ processName }, { key, calls }, took) => [
  items(
    calls,
    (it) => [
      `${clock(endOf(it))},`,
      took(it),
      ` ${processName(it.process)} (${it.side}) `,
      traceLink(it.trace, it.trace.slice(0, 8)),
    ],
    key,
    LISTED,
  ),
  calls.length > LISTED && small(`and ${number(calls.length - LISTED)} before`),
];

const result = (it) => [
  it.code === "OK" ? mark("up", "OK") : mark(isFault(it.code) ? "down" : "part", it.reason),
  it.attempts > 1 && small(plural(it.attempts, "attempt")),
  it.slow && small("slow"),
];

export const traces = {
  name: "Trace",
  within: "problems",
  every: 5000,
  load: ({ ask, rest }) => ask(`api/traces/${encodeURIComponent(rest)}`),
  draw(page) {
    const { data, rest, processName } = page;
    const { rows, start, root, seconds, longest } = waterfall(data?.calls ?? []);
    // That others were cancelled follows from it.
    const weight = (it) => it.depth + 1e3 * isFault(it.code) - 1e3 * (it.code === "CANCELLED");
    const [failed] = rows.filter((it) => it.code !== "OK").sort(by((it) => -weight(it)));
    const from = (it) => (it.start - start) / 1000;
    return [
      title("Trace ", h("code", rest)),
      longest &&
        h(
          "p.lead",
          `At ${clock(root.start)}, ${duration(root.took)} in all; `,
          h("b", `${duration(longest.own)} of it in ${place(longest)}`),
          ` (${processName(longest.process)}). `,
          failed && ["The innermost failure: ", h("b", failed.reason), ` of ${failed.method}.`],
        ),
      gaps(data),
      table(
        page,
        "The calls of the trace, each below the one that made it",
        rows,
        {
          Call: (it) =>
            h(
              "div",
              { style: { "padding-left": `${Math.min(12, it.depth)}em` } },
              it.depth ? place(it) : arrow(it),
              " ",
              code(it.method),
              it.unseen && small(lack(page, it)),
            ),
          Result: result,
          When: (it) => [
            `after ${duration(from(it))}, took ${duration(it.took)}`,
            bar(it.took / seconds, it.code === "OK" ? "" : "down", from(it) / seconds),
          ],
          "*Measured by": (it) => [processName(it.process), small(it.memory ? `${it.side}, in memory` : it.side)],
        },
        { none: loading(page, "No call of it has been kept."), kind: (it) => it.key === longest.key && "longest" },
      ),
      link(to("logs", { trace: rest }), "Logs of this trace"),
    ];
  },
};

// Why the server has no record of a call.
function lack({ data, mesh }, { callee }) {
  const own = all(mesh.processes).filter((it) => it.services.some((one) => one.name === callee));
  const isSilent = (it) => data.silent.some((one) => one.process === it.id);
  const hasAll = own.some((it) => !isGone(it)) && !own.some(isSilent);
  return hasAll
    ? `${callee} kept no record: it took less than dashboard.slow there, or failed before it`
    : `${callee} did not answer: a gap`;
}

const place = (it) => (it.side === "server" ? `${it.callee} itself` : arrow(it));
