// The start: what is down and why, what fails, what is slow, what is under way. And the services with their instances.

import { bar, code, facts, h, link, state, table, title, why } from "./dom.js";
import { graph } from "./graph.js";
import {
  all,
  arrow,
  by,
  callerName,
  clock,
  duration,
  linksOf,
  list,
  number,
  perSecond,
  plural,
  reasonOf,
  sum,
  to,
  unique,
} from "./model.js";
import { isOpen, notes, percentOf, stateOf } from "./work.js";

const WORDS = { up: "up", part: "impaired", down: "down", absent: "absent" };
const traceLink = (failure) => failure?.trace && link(to("traces", {}, failure.trace), "trace");

export const overview = {
  name: "Overview",
  every: 5000,
  // The calls that processes have kept: the slowest of them has a trace. And the contracts: they know the streams.
  async load(page, signal) {
    page.contracts ??= await page.get("api/contracts", signal).catch(() => null);
    return page.get("api/calls?order=slowest&limit=50", signal);
  },
  draw(page) {
    const { calls, services, state } = page;
    const fine = card("Down or failing", [], "● Every service is up, and no call fails.");
    const work = running(all(state.work));
    const known = calls.some((it) => it.rate !== null);
    const faults = sum(calls, (it) => it.faultRate);
    return [
      title(headline(page)),
      h(
        "p.lead",
        `${plural(services.filter((it) => it.known !== false).length, "service")} in ${plural(state.processes.size, "process", "processes")}, at ${clock(state.at)}`,
      ),
      notes(page),
      h(
        "dl.figures",
        [
          ["Calls", known ? perSecond(sum(calls, (it) => it.rate)) : "–"],
          ["Failed", known ? perSecond(faults) : "–", faults > 0 && ".bad"],
          ["In flight", number(sum(calls, (it) => it.inFlight))],
          ["Work under way", number(all(state.work).filter(isOpen).length)],
        ].map(([name, value, kind]) => h(`div${kind || ""}`, { key: name }, h("dt", name), h("dd", value))),
      ),
      h(
        "div.cards",
        isFine(page)
          ? [h("div", fine, work), h("div", slow(page))]
          : [h("div", troubles(services), failures(page)), h("div", slow(page), work)],
      ),
      h("h2", "Call graph"),
      graph(page, services, linksOf(calls)),
    ];
  },
};

// The state of the mesh in a sentence.
function headline({ services, calls, state }) {
  const [down, part] = ["down", "part"].map((health) => services.filter((it) => it.health === health).map((it) => it.name));
  const failing = calls.filter((it) => it.failing).length;
  const are = (names) => `${list(names)} ${names.length === 1 ? "is" : "are"}`;
  if (!state.processes.size) return "No process has been found";
  if (down.length) return `${are(down)} down`;
  if (failing) return `${plural(failing, "call")} between services ${failing === 1 ? "fails" : "fail"}`;
  return part.length ? `${are(part)} impaired` : "All services are up";
}

// A part of the start: rows of [key, kind, address, name, words beside it, what is below]. It has the first five.
const card = (words, rows, none, more) =>
  h(
    "section.card",
    { key: words },
    h("h2", words),
    rows.length
      ? h(
          "ul",
          rows
            .slice(0, 5)
            .map(([key, kind, href, name, beside, ...below]) =>
              h(`li.${kind}`, { key }, h("p.line", link(href, name), h("span", beside)), below),
            ),
        )
      : h("p.empty", none),
    rows.length > 5 && why(`and ${rows.length - 5} more`),
    more,
  );

const isBad = ({ health }) => health === "down" || health === "part";
const isFine = ({ calls, services }) => !services.some(isBad) && !calls.some((it) => it.failing);

function troubles(services) {
  const bad = services.filter(isBad).sort(by((it) => it.health));
  return card(
    "Down or impaired",
    bad.map((it) => {
      const hit = unique(it.failing.map((call) => callerName(call.caller)));
      return [
        it.name,
        it.health,
        to("services", { open: it.name }),
        it.name,
        [state(it.health, WORDS[it.health]), it.since > 0 && ` since ${clock(it.since)}`],
        h(
          "p",
          [it.why.includes(reasonOf(it.last)) ? "" : reasonOf(it.last), it.why].filter(Boolean).join(": ") ||
            "no reason is known",
        ),
        h(
          "p.links",
          hit.length > 0 && h("span", `hits ${list(hit)}`),
          traceLink(it.last),
          link(to("logs", { level: "warn" }), "logs"),
        ),
      ];
    }),
    "Every service is up.",
  );
}

function failures({ calls, services }) {
  // Calls of what is down are the cause of others.
  const isCause = (it) => services.some((one) => one.name === it.callee && one.health === "down");
  const failing = calls.filter((it) => it.failing).sort(by((it) => -it.faultRate - 1e9 * isCause(it)));
  return card(
    "Failing",
    failing.map((it) => [
      it.key,
      "down",
      to("calls", { open: it.key }),
      arrow(it),
      it.faultRate || !it.last ? `${perSecond(it.faultRate)} failed` : `at ${clock(it.last.at)}`,
      code(it.method),
      h("p.links", state("down", reasonOf(it.last)), traceLink(it.last)),
    ]),
    "No call fails.",
  );
}

// The quantiles are of all calls; a trace has only a call that was kept. Streams last as long as their readers want.
function slow({ calls, data, contracts }) {
  const streams =
    contracts?.services
      .flatMap((it) => it.methods)
      .filter((it) => it.serverStreaming || it.clientStreaming)
      .map((it) => it.full) ?? [];
  const isCall = (it) => !streams.includes(it.method);
  const timed = calls.filter((it) => it.p99 && isCall(it)).sort(by((it) => -it.p99 - 1e9 * it.isRecent));
  const most = Math.max(...timed.map((it) => it.p99));
  const [kept] = (data?.calls ?? []).filter(isCall).sort(by((it) => -it.took));
  return card(
    "Slowest",
    timed
      .slice(0, 4)
      .map((it) => [
        it.key,
        "",
        to("calls", { open: it.key }),
        arrow(it),
        `p99 ${duration(it.p99)}`,
        code(it.method),
        bar(it.p99 / most, "thin"),
      ]),
    "No call yet.",
    kept &&
      h(
        "p.more",
        "Slowest call kept: ",
        h("b", duration(kept.took)),
        ` ${arrow(kept)}. `,
        link(to("traces", {}, kept.trace), "Where its time went"),
      ),
  );
}

function running(work) {
  return card(
    "Under way",
    work
      .filter(isOpen)
      .sort(by((it) => -it.updated))
      .map((it) => [
        it.name,
        it.state === "STUCK" ? "down" : "",
        to("work", { open: it.name }),
        it.kind,
        percentOf(it),
        h("p", stateOf(it.state), ` ${it.service}`, it.phase && `: ${it.phase}`),
        percentOf(it) && bar(it.percent / 100),
      ]),
    "No long work.",
  );
}

export const services = {
  name: "Services",
  draw(page) {
    return [
      title("Services"),
      table(
        page,
        "Services, with what is wrong with them",
        ["Service", "State", "#Ready", "Version", "*Database", "*Follows"],
        page.services.map((it) => ({
          key: it.name,
          kind: it.health,
          cells: [
            it.name,
            [state(it.health, WORDS[it.health]), it.why && why(it.why)],
            `${it.ready} of ${it.instances}`,
            [it.versions.join(", "), it.versions.length > 1 && why("rolling: two versions run")],
            it.own[0]?.database || "–",
            it.own[0]?.follows?.join(", ") || "–",
          ],
          more: () => details(page, it),
        })),
      ),
      h("h2", "Processes"),
      table(
        page,
        "Processes that run the services",
        ["Process", "State", "Version", "*Since", "*Services", ""],
        all(page.state.processes)
          .sort(by((it) => it.process + it.id))
          .map((it) => ({
            key: it.id,
            cells: [
              [it.process, why(it.address || it.id)],
              [stateOf(it.state), it.why && why(it.why)],
              it.version,
              clock(it.started),
              it.services.map((one) => one.name).join(", ") || "none",
              links(it),
            ],
          })),
      ),
    ];
  },
};

const links = ({ id }) =>
  h("span.links", link(to("configuration", { process: id }), "configuration"), link(to("logs", { process: id }), "logs"));

function details(page, it) {
  const contracts = unique(it.own.flatMap((one) => one.contracts));
  const callers = unique(it.callers.map((one) => one.caller));
  return facts([
    [
      "Contracts",
      contracts.length &&
        h(
          "ul",
          contracts.map((one) => h("li", link(to("contracts", { words: one }), one))),
        ),
    ],
    ["Called by", callers.length ? link(to("calls", { words: `→ ${it.name}` }), list(callers)) : "no other service"],
    ["Last failure", it.last && [reasonOf(it.last), " ", traceLink(it.last)]],
    [
      "Unmet calls",
      it.unmet.length &&
        h(
          "ul",
          it.unmet.map((one) => h("li", code(one.method), ` ${one.why}`)),
        ),
    ],
    [
      "Instances",
      it.own.length
        ? h(
            "ul",
            it.own.map(({ process, ready, why }) =>
              h(
                "li",
                { key: process.id },
                stateOf(process.state),
                ` ${process.address || process.id}, ${ready ? "ready" : "not ready"}${why ? `: ${why}` : ""} `,
                links(process),
              ),
            ),
          )
        : "none",
    ],
  ]);
}
