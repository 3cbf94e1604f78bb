// The calls between services: the graph, the table that has the same and more, the calls that were kept, and their traces.

import { bar, button, choice, code, facts, filters, find, gaps, h, has, items, link } from "./dom.js";
import { loading, state, table, title, traceLink, why } from "./dom.js";
import { graph } from "./graph.js";
import { all, arrow, by, clock, duration, endOf, histogram, isFault, linksOf, number } from "./model.js";
import { perSecond, plural, problemsOf, quantile, to, unique, waterfall } from "./model.js";

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
        "Calls: rates of the last 10 s, times of the last minute, or since the start if there are none",
        rows,
        {
          "Caller → callee, method": (it) => [arrow(it), " ", code(it.method)],
          "#^Calls": (it) => perSecond(it.rate),
          "#^Failed": (it) =>
            it.failing
              ? state("down", perSecond(it.faultRate))
              : it.faults
                ? `${number(it.faults)} before`
                : it.used
                  ? "none"
                  : "–",
          "*#p50": (it) => duration(it.p50),
          "#^p99": (it) => duration(it.p99),
          "*#In flight": (it) => (it.isStream ? plural(it.inFlight, "stream") : number(it.inFlight)),
          "*#Retries": (it) => number(it.retries),
          "*Path": (it) => it.path || "–",
        },
        { none: "No call.", kind: (it) => it.failing && "down", below, more: (it) => details(page, it) },
      ),
    ];
  },
};

const below = (it) => [
  it.failing &&
    h("p.links", state("down", it.last?.reason), !it.faultRate && `at ${clock(it.last?.at)}`, traceLink(it.last?.trace)),
  it.undeclared && state("odd", "not declared"),
  !it.used && state("absent", `declared${it.declared?.optional ? ", optional" : ""}, no call yet`),
];

function details({ state, processName }, it) {
  const served = histogram(it.servers.map((one) => state.tracks.get(one.key))).buckets;
  const isEnd = (one) => one.peer === it.callee && it.edges.some((edge) => edge.process === one.process);
  const codes = Object.entries(it.codes).map(([code, count]) => `${code} ${number(count)}`);
  return facts({
    Method: link(to("contracts", {}, it.method), it.method),
    "Last failure": it.last && [h("b", it.last.reason), ` at ${clock(it.last.at)} `, traceLink(it.last.trace, "open its trace")],
    "Since the start": codes.join(", "),
    "Server measured":
      it.servers.length && !it.isStream && `p50 ${duration(quantile(served, 0.5))}, p99 ${duration(quantile(served, 0.99))}`,
    "By process": items(
      it.edges,
      ({ process, memory }) => `${processName(process)} ${process}, in ${memory ? "memory" : "the network"}`,
    ),
    Instances: items(
      all(state.endpoints).filter(isEnd),
      (one) => `${one.address}: ${plural(one.picks, "attempt")}, ${plural(one.ejections, "ejection")}`,
    ),
    More: link(to("problems", { method: it.method }), "failed and slow calls of the method"),
  });
}

// --- Calls that were kept ---

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
    const rows = problemsOf(data?.calls ?? [])
      .filter(fits)
      .sort(by((it) => (query.sort ? -it.most : -it.last)));
    const methods = unique(page.calls.map((it) => it.method).concat(query.method ?? [])).sort();
    return [
      title("Problems"),
      filters(
        choice(page, "show", "Show", { "": "failed or slow", failed: "failed", slow: "slow", all: "all that were kept" }),
        choice(page, "method", "Method", { "": "all", ...Object.fromEntries(methods.map((it) => [it, it])) }),
      ),
      gaps(data),
      table(
        page,
        `Calls that processes have kept${data?.since ? ` since ${clock(data.since)}` : ""}: failed and slow ones, and a sample of the others`,
        query.every ? rows : rows.slice(0, MOST),
        {
          Call: (it) => [arrow(it), " ", code(it.method)],
          Result: result,
          "#Count": (it) => number(it.all.length),
          "#^Took": (it) => duration(it.most),
          "#Last": (it) => clock(it.last),
          "*Trace": (it) => traceLink(it.trace, it.trace.slice(0, 8)),
        },
        { none: loading(page, "No problem has been kept."), more: ({ all }) => kept(page, all) },
      ),
      rows.length > MOST &&
        !query.every &&
        h(
          "p",
          button(`Show ${rows.length - MOST} more`, () => page.set({ every: 1 })),
        ),
    ];
  },
};

const kept = ({ processName }, all) => [
  items(all.slice(0, LISTED), (it) => [
    `${clock(endOf(it))}, ${duration(it.took)}, ${processName(it.process)} (${it.side}) `,
    traceLink(it.trace, it.trace.slice(0, 8)),
  ]),
  all.length > LISTED && why(`and ${number(all.length - LISTED)} before`),
];

const result = (it) => [
  it.code === "OK" ? state("up", "OK") : state(isFault(it.code) ? "down" : "part", it.reason),
  it.attempts > 1 && why(plural(it.attempts, "attempt")),
  it.slow && why("slow"),
];

export const traces = {
  name: "Trace",
  within: "problems",
  every: 5000,
  load: ({ ask, rest }) => ask(`api/traces/${encodeURIComponent(rest)}`),
  draw(page) {
    const { data, rest, processName } = page;
    const { rows, start, seconds, longest } = waterfall(data?.calls ?? []);
    const failed = rows.findLast((it) => it.code !== "OK");
    const from = (it) => (it.start - start) / 1000;
    return [
      title("Trace ", h("code", rest)),
      longest &&
        h(
          "p.lead",
          `${duration(seconds)} in all; `,
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
              place(it),
              " ",
              code(it.method),
              it.unseen && why(`${it.callee} has no record of it`),
            ),
          Result: result,
          When: (it) => [
            `after ${duration(from(it))}, took ${duration(it.took)}`,
            bar(it.took / seconds, it.code === "OK" ? "" : "down", from(it) / seconds),
          ],
          "*Measured by": (it) => [processName(it.process), why(it.memory ? `${it.side}, in memory` : it.side)],
        },
        { none: loading(page, "No call of it has been kept."), kind: (it) => it.key === longest.key && "longest" },
      ),
      link(to("logs", { trace: rest }), "Logs of this trace"),
    ];
  },
};

const place = (it) => (it.side === "server" ? `${it.callee} itself` : arrow(it));
