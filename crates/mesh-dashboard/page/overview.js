// The start, and the services with their instances.

import { bar, code, facts, h, items, link, mark, markOf, small, table, title, traceLink } from "./dom.js";
import { graph } from "./graph.js";
import { all, arrow, by, callOf, callerName, callsIn, clock, duration, isStream, lately, linksOf } from "./model.js";
import { isGone, list, number, perSecond, plural, recentOf, slowFrom, sum, to, unique } from "./model.js";
import { isOpen, notes, percentOf } from "./work.js";

const wordOf = ({ health, drains }) => (drains ? "drains" : health === "part" ? "impaired" : health);

export const overview = {
  name: "Overview",
  every: 5000,
  load: (page) => page.ask("api/calls?order=slowest&limit=1000"),
  draw(page) {
    const { calls, services, mesh } = page;
    const rate = (name) => (calls.some((it) => it.rate !== null) ? perSecond(sum(calls, (it) => it[name])) : "–");
    const failed = sum(calls, (it) => it.faultRate);
    const streams = sum(calls, (it) => it.isStream && it.inFlight);
    const others = sum(calls, (it) => it.inFlight) - streams;
    const figure = (name, value, more) => h("div", h("dt", name), h("dd", value, more && small(more)));
    return [
      title(headline(page)),
      h(
        "p.lead",
        `${plural(services.filter((it) => it.known !== false).length, "service")} in ${plural(mesh.processes.size, "process", "processes")}, at ${clock(mesh.at)}`,
      ),
      notes(page),
      h(
        "dl.figures",
        figure("Calls", rate("rate")),
        figure("Failed", h(failed ? "span.down" : "span", rate("faultRate"))),
        figure("In flight", number(others), streams > 0 && `and ${plural(streams, "stream")} open`),
        figure("Work under way", number(all(mesh.work).filter(isOpen).length)),
      ),
      h("div.cards", h("div", troubles(services), failures(page), running(all(mesh.work))), h("div", slow(page))),
      h("h2", "Call graph"),
      graph(page, services, linksOf(calls)),
    ];
  },
};

function headline({ services, calls, mesh }) {
  const those = (word, one, many) => {
    const names = services.filter((it) => wordOf(it) === word).map((it) => it.name);
    return names.length > 0 && `${list(names)} ${names.length === 1 ? one : many}`;
  };
  if (!mesh.processes.size) return "No process has been found";
  const failing = calls.filter((it) => it.failing).length;
  const fails = failing > 0 && `${plural(failing, "call")} ${failing === 1 ? "fails" : "fail"}`;
  const bad = those("down", "is down", "are down") || those("drains", "drains", "drain") || fails;
  return bad || those("impaired", "is impaired", "are impaired") || "All services are up";
}

// The first five of some entries: a key, an address, a name, words beside it, and what is below.
const card = (words, entries, none, more, key = words) =>
  h(
    "section.card",
    { key },
    h("h2", words),
    items(
      entries.map(([key, ...parts]) => ({ key, parts })),
      ({ parts: [href, name, beside, ...below] }) => [h("p.line", link(href, name), h("span", beside)), below],
      key,
      5,
    ) || h("p.empty", none),
    entries.length > 5 && small(`and ${entries.length - 5} more`),
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
      [mark(it.health, wordOf(it)), it.since && ` since ${clock(it.since)}`],
      h("p", [reason, it.why].filter(Boolean).join(": ") || "no reason is known"),
      h(
        "p.links",
        hit.length && h("span", `hits ${list(hit)}`),
        it.health === "down" && !it.callers.length && h("span.small", "calls from outside to it are not seen"),
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
    h("p.links", mark("down", it.last?.reason), traceLink(it.last?.trace)),
  ];
  return card("Failing", failing.map(entry), "● No call fails.");
}

// Quantiles are of all calls; those that were kept have a trace.
function slow({ calls, contracts, data, mesh }) {
  const timed = calls
    .filter((it) => it.p99)
    .sort(by((it) => -it.p99 - 1e9 * it.isRecent))
    .slice(0, 4);
  const most = Math.max(...timed.map((it) => it.p99));
  const kept = (data?.calls ?? []).filter((it) => isStream(mesh, it.method) === false);
  const recent = recentOf(mesh, kept);
  const entry = (it) => {
    const one = recent.find((one) => callOf(one) === it.key);
    const its = one && traceLink(one.trace, `${duration(one.took)} at ${clock(one.start)}`);
    return [
      it.key,
      opened(it),
      arrow(it),
      `p99 ${duration(it.p99)}`,
      h("p.links", code(it.method), h("span.small", callsIn(it)), its),
      bar(it.p99 / most),
    ];
  };
  const [slowest = kept[0]] = recent;
  const words = [
    !recent.length && `No call of the last minute was kept: calls under ${slowFrom(mesh)} are not (dashboard.slow). `,
    slowest && [
      `Slowest call kept ${recent.length ? "of the last minute" : "since the start"}: `,
      h("b", duration(slowest.took)),
      ` ${arrow(slowest)} at ${clock(slowest.start)}. `,
      traceLink(slowest.trace, "Where its time went"),
    ],
  ];
  const more = contracts && data && h("p.more", { "data-list": "more" }, words);
  return card(`Slowest, ${lately(mesh)}`, timed.map(entry), "No call yet.", more, "slowest");
}

function running(work) {
  const open = work.filter(isOpen).sort(by((it) => -it.updated));
  const entry = (it) => [
    it.name,
    to("work", { open: it.name }),
    it.kind,
    percentOf(it),
    h("p", markOf(it.state), ` ${it.service}`, it.phase && `: ${it.phase}`),
    percentOf(it) && bar(it.percent / 100),
  ];
  return card("Under way", open.map(entry), "No long work.");
}

const links = ({ id }) =>
  h("span.links", link(to("configuration", { process: id }), "configuration"), link(to("logs", { process: id }), "logs"));

export const services = {
  name: "Services",
  draw(page) {
    return [
      title("Services"),
      table(
        page,
        "Services, with what is wrong with them",
        page.services,
        {
          Service: (it) => it.name,
          State: (it) => [mark(it.health, wordOf(it)), it.why && small(it.why)],
          "#Ready": (it) => `${it.ready} of ${it.instances}`,
          Version: (it) => [it.versions.join(", "), it.versions.length > 1 && small("two versions run")],
          "*Database": (it) => it.own[0]?.database || "–",
          "*Follows": (it) => it.own[0]?.follows?.join(", ") || "–",
        },
        { kind: (it) => it.health, more: details },
      ),
      h("h2", "Processes"),
      table(page, "Processes that run the services", page.processes, {
        Process: (it) => [it.process, small(it.address || it.id)],
        State: (it) => [markOf(it.state), it.why && small(it.why)],
        Version: (it) => it.version,
        // Of what does not answer, its last answer.
        "*Since": (it) => (it.state === "up" ? clock(it.started) : it.since ? clock(it.since) : "–"),
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
        markOf(process.state),
        ` ${process.address || process.id}${isGone(process) ? "" : ready ? ", ready" : ", not ready"}${why && `: ${why}`} `,
        links(process),
      ]) || "none",
  });
