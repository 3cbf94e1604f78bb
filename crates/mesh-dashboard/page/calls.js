// The calls between services: the graph, the table that has the same and more, the calls that were kept, and their traces.

import { bar, choice, code, facts, filters, find, h, has, link, loading, state, table, title, why } from "./dom.js";
import { graph } from "./graph.js";
import {
  all,
  arrow,
  by,
  clock,
  codeName,
  duration,
  histogram,
  isFault,
  linksOf,
  number,
  perSecond,
  plural,
  quantile,
  reasonOf,
  to,
  unique,
  waterfall,
} from "./model.js";

const traceLink = (trace, words = "trace") => trace && link(to("traces", {}, trace), words);

// What the table is sorted by. Without it the order is by name: rows stay where they are.
const SORTS = {
  rate: (it) => -it.rate,
  failed: (it) => -it.faultRate - it.faults / 1e9 - (it.failing ? 1e9 : 0),
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
        [
          "Caller → callee, method",
          { name: "#Calls", sort: "rate" },
          { name: "#Failed", sort: "failed" },
          "*#p50",
          { name: "#p99", sort: "p99" },
          "*#In flight",
          "*#Retries",
          "*Path",
        ],
        rows.map((it) => ({
          key: it.key,
          kind: it.failing ? "down" : it.used ? "" : "unused",
          cells: cells(it),
          below: below(it),
          more: () => details(page, it),
        })),
        "No call.",
      ),
    ];
  },
};

function cells(it) {
  const failed = it.failing
    ? state("down", perSecond(it.rate === null ? null : it.faultRate))
    : it.faults
      ? `${number(it.faults)} before`
      : it.used
        ? "none"
        : "–";
  return [
    [arrow(it), " ", code(it.method)],
    perSecond(it.rate),
    failed,
    duration(it.p50),
    duration(it.p99),
    number(it.inFlight),
    number(it.retries),
    it.path || "–",
  ];
}

const below = (it) => [
  it.failing &&
    h("p.links", state("down", reasonOf(it.last)), it.faultRate === 0 && `at ${clock(it.last?.at)}`, traceLink(it.last?.trace)),
  it.undeclared && state("odd", "not declared"),
  !it.used && state("absent", `declared${it.declared?.optional ? ", optional" : ""}, no call yet`),
];

function details(page, it) {
  const served = histogram(
    it.servers.map((one) => page.state.tracks.get(one.key)),
    page.state.at,
  ).buckets;
  const ends = all(page.state.endpoints).filter(
    (one) => one.peer === it.callee && it.edges.some((edge) => edge.process === one.process),
  );
  const codes = Object.entries(it.codes);
  return facts([
    ["Method", link(to("contracts", {}, it.method), it.method)],
    [
      "Last failure",
      it.last && [h("b", reasonOf(it.last)), ` at ${clock(it.last.at)} `, traceLink(it.last.trace, "open its trace")],
    ],
    ["Since the start", codes.length && codes.map(([code, count]) => `${codeName(code)} ${number(count)}`).join(", ")],
    [
      "Caller measured",
      it.p50 !== null &&
        `p50 ${duration(it.p50)}, p99 ${duration(it.p99)}; ${number(it.inFlight)} in flight, ${plural(it.retries, "retry", "retries")}`,
    ],
    ["Server measured", it.servers.length && `p50 ${duration(quantile(served, 0.5))}, p99 ${duration(quantile(served, 0.99))}`],
    [
      "By process",
      it.edges.length &&
        h(
          "ul",
          it.edges.map((edge) =>
            h(
              "li",
              { key: edge.key },
              `${page.processName(edge.process)} ${edge.process}, in ${edge.memory ? "memory" : "the network"}`,
            ),
          ),
        ),
    ],
    [
      "Instances",
      ends.length &&
        h(
          "ul",
          ends.map((one) =>
            h("li", { key: one.key }, `${one.address}: ${plural(one.picks, "attempt")}, ${plural(one.ejections, "ejection")}`),
          ),
        ),
    ],
    ["More", link(to("problems", { method: it.method }), "failed and slow calls of the method")],
  ]);
}

// --- Calls that were kept ---

export const problems = {
  name: "Problems",
  every: 2000,
  of: ({ query }) => [query.show === "all", query.method],
  load: ({ query, get }, signal) =>
    get(
      `api/calls?${new URLSearchParams({ problems: query.show === "all" ? 0 : 1, method: query.method ?? "", limit: 1000 })}`,
      signal,
    ),
  draw(page) {
    const { data, query } = page;
    const fits = { failed: (it) => it.code > 0, slow: (it) => it.slow }[query.show] ?? (() => true);
    const kept = (data?.calls ?? []).filter(fits).sort(by((it) => (query.sort ? -it.took : -it.start)));
    const methods = unique(page.calls.map((it) => it.method).concat(query.method ?? [])).sort();
    return [
      title("Problems"),
      filters(
        choice(page, "show", "Show", [
          ["", "failed or slow"],
          ["failed", "failed"],
          ["slow", "slow"],
          ["all", "all that were kept"],
        ]),
        choice(page, "method", "Method", [["", "all"], ...methods.map((it) => [it, it])]),
      ),
      gaps(data),
      table(
        page,
        `Calls that processes have kept${data?.since ? ` since ${clock(data.since)}` : ""}: failed and slow ones, and a sample of the others`,
        ["Call", "Result", { name: "#Took", sort: "took" }, "*#Ended", "*Process", "Trace"],
        kept.map((it) => ({
          key: `${it.process} ${it.side} ${it.span}`,
          cells: [
            [arrow(it), " ", code(it.method)],
            result(it),
            duration(it.took),
            clock(it.start + it.took * 1000),
            [page.processName(it.process), why(it.side)],
            traceLink(it.trace, it.trace.slice(0, 8)),
          ],
        })),
        loading(page, "No problem has been kept."),
      ),
    ];
  },
};

// The processes that did not answer: what they know is missing.
export const gaps = (data) =>
  data?.silent?.length > 0 &&
  h(
    "ul.notice",
    { key: "gaps" },
    data.silent.map((it) => h("li", { key: it.process }, state("part", `${it.process}: ${it.why}`))),
  );

const result = (it) => [
  it.code === 0 ? state("up", "OK") : state(isFault(it.code) ? "down" : "part", reasonOf(it)),
  it.attempts > 1 && why(plural(it.attempts, "attempt")),
  it.slow && why("slow"),
];

export const traces = {
  name: "Trace",
  within: "problems",
  every: 5000,
  load: ({ get, rest }, signal) => get(`api/traces/${encodeURIComponent(rest)}`, signal),
  draw(page) {
    const { data, rest } = page;
    const { rows, start, seconds, longest } = waterfall(data?.calls ?? []);
    const failed = rows.findLast((it) => it.code > 0);
    return [
      title("Trace ", h("code", rest)),
      longest &&
        h(
          "p.lead",
          `${duration(seconds)} in all; `,
          h("b", `${duration(longest.own)} of it in ${place(longest)}`),
          ` (${page.processName(longest.process)}). `,
          failed && ["The innermost failure: ", h("b", reasonOf(failed)), ` of ${failed.method}.`],
        ),
      gaps(data),
      table(
        page,
        "The calls of the trace, each below the one that made it",
        ["Call", "Result", "When", "*Measured by"],
        rows.map((it) => {
          const from = (it.start - start) / 1000;
          return {
            key: `${it.process} ${it.side} ${it.span}`,
            kind: it.span === longest.span && it.side === longest.side ? "longest" : "",
            cells: [
              h(
                "div",
                { style: { "padding-left": `${Math.min(12, it.depth)}em` } },
                place(it),
                " ",
                code(it.method),
                it.unseen && why(`${it.callee} has no record of it`),
              ),
              result(it),
              [
                `after ${duration(from)}, took ${duration(it.took)}`,
                bar(it.took / seconds, it.code ? "down" : "", from / seconds),
              ],
              [page.processName(it.process), why(it.memory ? `${it.side}, in memory` : it.side)],
            ],
          };
        }),
        loading(page, "No call of it has been kept."),
      ),
      link(to("logs", { trace: rest }), "Logs of this trace"),
    ];
  },
};

const place = (it) => (it.side === "server" ? `${it.callee} itself` : arrow(it));
