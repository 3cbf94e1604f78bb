// The contracts: what services offer, who calls it, and a form to try it.

import { confirms, facts, filters, find, h, has, isArmed, items, link, loading } from "./dom.js";
import { mark, small, table, title, traceLink } from "./dom.js";
import { all, by, callerName, duration, list, perSecond, sum, timesIn, to, unique } from "./model.js";

// What a reader has entered and got, by method.
const trials = new Map();

export const contracts = {
  name: "Contracts",
  of: () => "",
  load: (page) => page.learn(),
  draw(page) {
    const services = page.contracts?.services ?? [];
    const one = services.flatMap((it) => it.methods).find((it) => it.full === page.rest);
    if (one) return methodOf(page, one);
    const found = services
      .map((it) => ({ ...it, methods: it.methods.filter((method) => has(page, method.full)) }))
      .filter((it) => it.methods.length)
      .sort(by((it) => it.name));
    const section = (it) =>
      h(
        "section",
        { key: it.name },
        h("h2", it.name),
        comment(it.comment),
        table(page, `Methods of ${it.name}`, it.methods, {
          Method: (method) => link(to("contracts", {}, method.full), method.name),
          "What it does": (method) => method.comment.split("\n\n")[0],
          "*Access": (method) => method.access,
          "*Called by": (method) => callersOf(page, method).map(callerName).join(", ") || "–",
        }),
      );
    return [
      title("Contracts"),
      page.rest && page.contracts && h("p.notice", `No running service has ${page.rest}.`),
      filters(find(page, "words", "Find a method")),
      found.map(section),
      !found.length && h("p.empty", loading(page, "No method fits.")),
    ];
  },
};

const comment = (text) => text && h("p.comment", text);
const callsOf = ({ calls }, it) => calls.filter((call) => call.method === it.full && call.used);
const callersOf = (page, it) => unique([...(it.declaredBy ?? []), ...callsOf(page, it).map((call) => call.caller)]).sort();

function methodOf(page, it) {
  const service = it.full.split("/")[0];
  const caller = (name) => {
    const own = callsOf(page, it).filter((call) => call.caller === name);
    return [
      link(to("calls", { words: `${callerName(name)} → ${it.full}` }), callerName(name)),
      own.length ? ` ${perSecond(sum(own, (call) => call.rate))}` : " declares it, no call yet",
      own[0]?.count > 0 && `, ${timesIn(own[0])}`,
    ];
  };
  return [
    h("p.crumb", link(to("contracts", { words: service }), service)),
    title(it.name),
    comment(it.comment),
    facts({
      "Called by": items(callersOf(page, it), caller) || "no service yet",
      Access: it.access,
      Effect: it.idempotency.toLowerCase().replaceAll("_", " "),
      Deadline: it.deadline && duration(it.deadline),
      Streams: list([it.clientStreaming && "requests", it.serverStreaming && "answers"].filter(Boolean)),
    }),
    trial(page, it),
    h("h2", "Request ", h("code", it.request)),
    message(page, it.request),
    h("h2", "Answer ", h("code", it.response)),
    message(page, it.response),
  ];
}

// The fields of a message. One within itself is described once.
function message(page, name, above = []) {
  const { messages, enums = {} } = page.contracts;
  const path = [...above, name];
  if (!messages[name]) return h("p.empty", "It is not described.");
  return [
    comment(messages[name].comment),
    table(
      page,
      `Fields of ${path.join(", ")}`,
      messages[name].fields,
      {
        Field: (it) => [h("code", it.name), it.required && small("required")],
        Type: (it) => [it.repeated && "repeated ", h("code", it.type)],
        Meaning: (it) => [
          it.comment,
          it.bounds && small(it.bounds),
          items(enums[it.type]?.values, (one) => [h("code", one.name), ` ${one.comment}`]),
          messages[it.type] && !path.includes(it.type) && h("details", h("summary", "its fields"), message(page, it.type, path)),
        ],
      },
      { none: "It has no fields." },
    ),
  ];
}

const text = (it) => JSON.stringify(it, null, 2);
// Another request has to be confirmed again.
const keyOf = ({ full }, { request }) => `${full} ${request}`;
const isRead = (it) => it.idempotency === "NO_SIDE_EFFECTS";

function trial(page, it) {
  const now = trials.get(it.full) ?? { request: text(it.example ?? {}) };
  trials.set(it.full, now);
  const { request, answer, error } = now;
  const waits = isArmed(keyOf(it, now));
  const canCall = page.mesh.hub.mode === "call" && !it.clientStreaming;
  const hint = it.clientStreaming
    ? "It takes a stream of requests: use grpcurl."
    : !canCall
      ? 'dashboard.mode = "call" allows calls.'
      : isRead(it)
        ? "It only reads."
        : "It may change data: the button asks once more.";
  const oninput = ({ target }) => {
    now.request = target.value;
    page.redraw();
  };
  return h(
    "form.try",
    { key: it.full, onsubmit: (event) => (event.preventDefault(), call(page, it, now)) },
    h("h2", "Try it"),
    h("label", { for: "request" }, "Request, as JSON"),
    h("textarea", {
      id: "request",
      spellcheck: "false",
      rows: Math.min(16, request.split("\n").length + 1),
      value: request,
      oninput,
    }),
    h(
      "p.links",
      h(
        `button.${waits ? "armed" : "main"}`,
        { type: "submit", disabled: !canCall || now.isBusy },
        waits ? "Really call it? It may change data" : "Call",
      ),
      small(hint),
    ),
    h("details", h("summary", "As grpcurl"), h("pre", { tabindex: "0" }, grpcurl(page, it, request))),
    h(
      "div",
      { role: "status" },
      error && mark("down", error),
      answer && [
        h(
          "p",
          answer.reason ? mark("down", answer.reason) : mark("up", "OK"),
          ` in ${duration(answer.took)} `,
          traceLink(answer.trace, "its trace"),
        ),
        answer.reason ? h("p", answer.message) : h("pre", { tabindex: "0", "aria-label": "Answer" }, text(answer.response)),
      ],
    ),
  );
}

async function call(page, it, now) {
  Object.assign(now, { error: null, answer: null });
  try {
    const request = JSON.parse(now.request || "{}");
    if (!isRead(it) && !confirms(page, keyOf(it, now))) return;
    now.isBusy = true;
    page.redraw();
    now.answer = await page.ask("api/call", { method: it.full, request, confirmed: !isRead(it) });
  } catch (error) {
    now.error = error.message;
  }
  now.isBusy = false;
  page.redraw();
}

function grpcurl({ mesh }, it, request) {
  const serving = all(mesh.processes).find((one) => one.services.some((own) => own.contracts.includes(it.full.split("/")[0])));
  const address = serving?.listeners?.find((one) => one.name === "services")?.address ?? serving?.address ?? "ADDRESS";
  return `grpcurl -plaintext -d '${request.replaceAll("'", "'\\''")}' ${address} ${it.full}`;
}
