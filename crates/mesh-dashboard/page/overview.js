// The start: what is down and why, what fails, what is slow, what is under way. And the services with their instances.

import { bar, code, facts, h, items, link, state, stateOf, table, title, traceLink, why } from "./dom.js";
import { graph } from "./graph.js";
import { all, arrow, by, callOf, callerName, callsIn, clock, duration, isStream, lately, linksOf } from "./model.js";
import { list, number, perSecond, plural, recentOf, sum, to, unique } from "./model.js";
import { isOpen, notes, percentOf } from "./work.js";

const WORDS = { up: "up", part: "impaired", down: "down", absent: "absent" };

export const overview = {
  name: "Overview",
  every: 5000,
  // The calls that processes have kept: the slowest of them has a trace.
  load: (page) => page.ask("api/calls?order=slowest&limit=1000"),
  draw(page) {
    const { calls, services, state } = page;
    const rate = (of) => (calls.some((it) => it.rate !== null) ? perSecond(sum(calls, of)) : "–");
    const failed = sum(calls, (it) => it.faultRate);
    const streams = sum(calls, (it) => it.isStream && it.inFlight);
    const others = sum(calls, (it) => it.inFlight) - streams;
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
      h("div.cards", h("div", troubles(services), failures(page), running(all(state.work))), h("div", slow(page))),
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
const card = (words, entries, none, more, key = words) =>
  h(
    "section.card",
    { key },
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
    const away = it.own.find((one) => !one.ready) ?? it.own[0];
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
        it.health === "down" && !it.callers.length && h("span.why", "calls from outside to it are not seen"),
        traceLink(it.last?.trace),
        away && link(to("logs", { process: away.process.id }), "logs"),
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
function slow({ calls, contracts, data, state }) {
  const timed = calls
    .filter((it) => it.p99)
    .sort(by((it) => -it.p99 - 1e9 * it.isRecent))
    .slice(0, 4);
  const most = Math.max(...timed.map((it) => it.p99));
  const kept = (data?.calls ?? []).filter((it) => isStream(state, it.method) === false);
  const recent = recentOf(state, kept);
  const entry = (it) => {
    const one = recent.find((one) => callOf(one) === it.key);
    const its = one && traceLink(one.trace, `${duration(one.took)} at ${clock(one.start)}`);
    return [
      it.key,
      opened(it),
      arrow(it),
      `p99 ${duration(it.p99)}`,
      h("p.links", code(it.method), h("span.why", callsIn(it)), its),
      bar(it.p99 / most),
    ];
  };
  const [slowest = kept[0]] = recent;
  const words = [
    !recent.length && "No call of the last minute was kept: calls under 1 s are not (dashboard.slow). ",
    slowest && [
      `Slowest call kept ${recent.length ? "of the last minute" : "since the start"}: `,
      h("b", duration(slowest.took)),
      ` ${arrow(slowest)} at ${clock(slowest.start)}. `,
      traceLink(slowest.trace, "Where its time went"),
    ],
  ];
  return card(`Slowest, ${lately(state)}`, timed.map(entry), "No call yet.", contracts && data && h("p.more", words), "slowest");
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
        ` ${process.address || process.id}${process.state === "gone" ? "" : ready ? ", ready" : ", not ready"}${why && `: ${why}`} `,
        links(process),
      ]) || "none",
  });
