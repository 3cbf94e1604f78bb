// The start: what is down and why, what fails, what is slow, what is under way. And the services with their instances.

import { bar, code, facts, h, items, link, state, stateOf, table, title, traceLink, why } from "./dom.js";
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
  sum,
  to,
  unique,
} from "./model.js";
import { isOpen, notes, percentOf } from "./work.js";

const WORDS = { up: "up", part: "impaired", down: "down", absent: "absent" };

export const overview = {
  name: "Overview",
  every: 5000,
  // The calls that processes have kept: the slowest of them has a trace.
  load: (page) => page.ask("api/calls?order=slowest&limit=50"),
  draw(page) {
    const { calls, services, state } = page;
    const rate = (of) => (calls.some((it) => it.rate !== null) ? perSecond(sum(calls, of)) : "–");
    const failed = sum(calls, (it) => it.faultRate);
    const [streams, others] = [true, false].map((is) =>
      sum(
        calls.filter((it) => it.isStream === is),
        (it) => it.inFlight,
      ),
    );
    const figure = (name, value, more) => h("div", h("dt", name), h("dd", value, more && why(more)));
    return [
      title(headline(page)),
      h(
        "p.lead",
        `${plural(services.filter((it) => it.known !== false).length, "service")} in ${plural(state.processes.size, "process", "processes")}, at ${clock(state.at)}`,
      ),
      notes(page),
      h(
        "dl.figures",
        figure(
          "Calls",
          rate((it) => it.rate),
        ),
        figure("Failed", failed ? h("span.down", perSecond(failed)) : rate(() => 0)),
        figure("In flight", number(others), streams > 0 && `and ${plural(streams, "stream")} open`),
        figure("Work under way", number(all(state.work).filter(isOpen).length)),
      ),
      h(
        "div.cards",
        h("div", troubles(services), failures(page), running(all(state.work))),
        h("div", slow(page)),
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

// A part of the start: the first five of some entries, which are a key, an address, a name, words beside it, and what is below.
const card = (words, entries, none, more) =>
  h(
    "section.card",
    { key: words },
    h("h2", words),
    items(
      entries.slice(0, 5).map(([key, ...parts]) => ({ key, parts })),
      ({ parts: [href, name, beside, ...below] }) => [h("p.line", link(href, name), h("span", beside)), below],
    ) || h("p.empty", none),
    entries.length > 5 && why(`and ${entries.length - 5} more`),
    more,
  );

function troubles(services) {
  const bad = services.filter(({ health }) => health === "down" || health === "part").sort(by((it) => it.health));
  const entry = (it) => {
    const hit = unique(it.failing.map((call) => callerName(call.caller)));
    const reason = it.last && !it.why.includes(it.last.reason) && it.last.reason;
    return [
      it.name,
      to("services", { open: it.name }),
      it.name,
      [state(it.health, WORDS[it.health]), it.since && ` since ${clock(it.since)}`],
      h("p", [reason, it.why].filter(Boolean).join(": ") || "no reason is known"),
      h(
        "p.links",
        hit.length && h("span", `hits ${list(hit)}`),
        traceLink(it.last?.trace),
        link(to("logs", { level: "warn" }), "logs"),
      ),
    ];
  };
  return card("Down or impaired", bad.map(entry), "● Every service is up.");
}

const opened = (it) => to("calls", { open: it.key });

function failures({ calls, services }) {
  // Calls of what is down are the cause of others.
  const isCause = (it) => services.some((one) => one.name === it.callee && one.health === "down");
  const failing = calls.filter((it) => it.failing).sort(by((it) => -it.faultRate - 1e9 * isCause(it)));
  const entry = (it) => [
    it.key,
    opened(it),
    arrow(it),
    it.faultRate || !it.last ? `${perSecond(it.faultRate)} failed` : `at ${clock(it.last.at)}`,
    code(it.method),
    h("p.links", state("down", it.last?.reason), traceLink(it.last?.trace)),
  ];
  return card("Failing", failing.map(entry), "● No call fails.");
}

// The quantiles are of all calls; a trace has only a call that was kept.
function slow({ calls, data, state }) {
  const timed = calls.filter((it) => it.p99).sort(by((it) => -it.p99 - 1e9 * it.isRecent));
  const most = Math.max(...timed.map((it) => it.p99));
  const kept = data?.calls.find((it) => !state.streams.has(it.method));
  const entry = (it) => [it.key, opened(it), arrow(it), `p99 ${duration(it.p99)}`, code(it.method), bar(it.p99 / most)];
  return card(
    "Slowest",
    timed.slice(0, 4).map(entry),
    "No call yet.",
    kept &&
      h(
        "p.more",
        "Slowest call kept: ",
        h("b", duration(kept.took)),
        ` ${arrow(kept)}. `,
        traceLink(kept.trace, "Where its time went"),
      ),
  );
}

function running(work) {
  const open = work.filter(isOpen).sort(by((it) => -it.updated));
  const entry = (it) => [
    it.name,
    to("work", { open: it.name }),
    it.kind,
    percentOf(it),
    h("p", stateOf(it.state), ` ${it.service}`, it.phase && `: ${it.phase}`),
    percentOf(it) && bar(it.percent / 100),
  ];
  return card("Under way", open.map(entry), "No long work.");
}

const links = ({ id }) =>
  h("span.links", link(to("configuration", { process: id }), "configuration"), link(to("logs", { process: id }), "logs"));

export const services = {
  name: "Services",
  draw(page) {
    const processes = all(page.state.processes).sort(by((it) => it.process + it.id));
    return [
      title("Services"),
      table(
        page,
        "Services, with what is wrong with them",
        page.services,
        {
          Service: (it) => it.name,
          State: (it) => [state(it.health, WORDS[it.health]), it.why && why(it.why)],
          "#Ready": (it) => `${it.ready} of ${it.instances}`,
          Version: (it) => [it.versions.join(", "), it.versions.length > 1 && why("rolling: two versions run")],
          "*Database": (it) => it.own[0]?.database || "–",
          "*Follows": (it) => it.own[0]?.follows?.join(", ") || "–",
        },
        { kind: (it) => it.health, more: details },
      ),
      h("h2", "Processes"),
      table(page, "Processes that run the services", processes, {
        Process: (it) => [it.process, why(it.address || it.id)],
        State: (it) => [stateOf(it.state), it.why && why(it.why)],
        Version: (it) => it.version,
        "*Since": (it) => clock(it.started),
        "*Services": (it) => it.services.map((one) => one.name).join(", ") || "none",
        "": links,
      }),
    ];
  },
};

const details = (it) =>
  facts({
    Contracts: items(unique(it.own.flatMap((one) => one.contracts)), (one) => link(to("contracts", { words: one }), one)),
    "Called by": it.callers.length ? link(to("calls", { words: `→ ${it.name}` }), list(it.callers)) : "no other service",
    "Last failure": it.last && [it.last.reason, " ", traceLink(it.last.trace)],
    "Unmet calls": items(it.unmet, (one) => [code(one.method), ` ${one.why}`]),
    Instances:
      items(it.own, ({ process, ready, why }) => [
        stateOf(process.state),
        ` ${process.address || process.id}, ${ready ? "ready" : "not ready"}${why && `: ${why}`} `,
        links(process),
      ]) || "none",
  });
