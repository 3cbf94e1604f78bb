// The contracts: what services offer, who calls it, and a form to try it.

import { button, facts, filters, find, h, has, link, loading, state, table, title, why } from "./dom.js";
import { all, by, callerName, codeName, duration, list, perSecond, sum, to, unique } from "./model.js";

// What a reader has entered and got, by method; and the write that waits for its second click.
const trials = new Map();
let armed;

export const contracts = {
  name: "Contracts",
  of: () => "",
  load: async (page, signal) => (page.contracts = await page.get("api/contracts", signal)),
  draw(page) {
    const services = page.contracts?.services ?? [];
    const methods = services.flatMap((it) => it.methods);
    const one = methods.find((it) => it.full === page.rest);
    if (one) return methodOf(page, one);
    const found = services
      .map((it) => ({ ...it, methods: it.methods.filter((method) => has(page, method.full)) }))
      .filter((it) => it.methods.length);
    return [
      title("Contracts"),
      page.rest && page.contracts && h("p.notice", `No running service has ${page.rest}.`),
      filters(find(page, "words", "Find a method")),
      found.sort(by((it) => it.name)).map((it) =>
        h(
          "section",
          { key: it.name },
          h("h2", it.name),
          comment(it.comment),
          table(
            page,
            `Methods of ${it.name}`,
            ["Method", "What it does", "*Access", "*Called by"],
            it.methods.map((method) => ({
              key: method.full,
              cells: [
                link(to("contracts", {}, method.full), method.name),
                method.comment.split("\n\n")[0],
                method.access,
                callersOf(page, method).map(callerName).join(", ") || "–",
              ],
            })),
          ),
        ),
      ),
      !found.length && h("p.empty", loading(page, "No method fits.")),
    ];
  },
};

const comment = (text) => text && h("p.comment", text);
// Who calls a method: those that declare it, and those that do.
const callersOf = ({ calls }, it) =>
  unique([
    ...(it.declaredBy ?? []),
    ...calls.filter((call) => call.method === it.full && call.used).map((call) => call.caller),
  ]).sort();

function methodOf(page, it) {
  const callers = callersOf(page, it).map((caller) => {
    const own = page.calls.filter((call) => call.method === it.full && call.caller === caller && call.used);
    return h(
      "li",
      { key: caller },
      link(to("calls", { words: `${callerName(caller)} → ${it.full}` }), callerName(caller)),
      own.length ? ` ${perSecond(sum(own, (call) => call.rate))}, p99 ${duration(own[0].p99)}` : " declares it, no call yet",
    );
  });
  return [
    h("p.crumb", link(to("contracts", { words: it.full.split("/")[0] }), it.full.split("/")[0])),
    title(it.name),
    comment(it.comment),
    facts([
      ["Called by", callers.length ? h("ul", callers) : "no service yet"],
      ["Access", it.access],
      ["Effect", it.idempotency.toLowerCase().replaceAll("_", " ")],
      ["Deadline", it.deadline && duration(it.deadline)],
      ["Streams", list([it.clientStreaming && "requests", it.serverStreaming && "answers"].filter(Boolean))],
    ]),
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
  if (!messages[name]) return h("p.empty", "It is not described.");
  const within = (type) =>
    messages[type] &&
    ![...above, name].includes(type) &&
    h("details", h("summary", "its fields"), message(page, type, [...above, name]));
  return [
    comment(messages[name].comment),
    table(
      page,
      `Fields of ${[...above, name].join(", ")}`,
      ["Field", "Type", "Meaning"],
      messages[name].fields.map((it) => ({
        key: it.name,
        cells: [
          [h("code", it.name), it.required && why("required")],
          [it.repeated && "repeated ", h("code", it.type)],
          [
            it.comment,
            it.bounds && why(it.bounds),
            enums[it.type] &&
              h(
                "ul",
                enums[it.type].values.map((one) => h("li", { key: one.name }, h("code", one.name), ` ${one.comment}`)),
              ),
            within(it.type),
          ],
        ],
      })),
      "It has no fields.",
    ),
  ];
}

// --- Try it ---

const text = (it) => JSON.stringify(it, null, 2);
const isRead = (it) => it.idempotency === "NO_SIDE_EFFECTS";
// A text as one word of a shell.
const quoted = (it) => `'${it.replaceAll("'", "'\\''")}'`;

function trial(page, it) {
  const now = trials.get(it.full) ?? { request: text(it.example ?? {}) };
  trials.set(it.full, now);
  const isArmed = armed === it.full;
  const canCall = page.state.hub.mode === "call" && !it.clientStreaming;
  const hint = it.clientStreaming
    ? "It takes a stream of requests: use grpcurl."
    : !canCall
      ? 'dashboard.mode = "call" allows calls.'
      : isRead(it)
        ? "It only reads."
        : "It may change data: the button asks once more.";
  const enter = ({ target }) => {
    now.request = target.value;
    armed = null;
    page.redraw();
  };
  const { answer, error, copied } = now;
  return h(
    "form.try",
    { key: `try ${it.full}`, onsubmit: (event) => (event.preventDefault(), call(page, it, now)) },
    h("h2", "Try it"),
    h("label", { for: "request" }, "Request, as JSON"),
    h("textarea", {
      id: "request",
      spellcheck: "false",
      rows: Math.min(16, now.request.split("\n").length + 1),
      value: now.request,
      oninput: enter,
    }),
    h(
      "p.links",
      h(
        `button.${isArmed ? "armed" : "main"}`,
        { type: "submit", disabled: !canCall || now.isBusy },
        isArmed ? "Really call it? It may change data" : "Call",
      ),
      button("Copy as grpcurl", () => copy(page, now, grpcurl(page, it, now.request))),
      button("Copy as curl", () => copy(page, now, curl(it, now.request))),
      h("span.why", hint),
    ),
    h(
      "div",
      { role: "status" },
      copied && [why(copied.words), h("pre", { tabindex: "0" }, copied.command)],
      error && state("down", error),
      answer && [
        h(
          "p",
          answer.code === 0 ? state("up", "OK") : state("down", answer.reason || codeName(answer.code)),
          ` in ${duration(answer.took)} `,
          answer.trace && link(to("traces", {}, answer.trace), "its trace"),
        ),
        h("p", answer.message),
        answer.code === 0 && h("pre", { tabindex: "0", "aria-label": "Answer" }, text(answer.response)),
      ],
    ),
  );
}

async function call(page, it, now) {
  Object.assign(now, { copied: null, error: null, answer: null });
  try {
    const request = JSON.parse(now.request || "{}");
    if (!isRead(it) && armed !== it.full) return ((armed = it.full), page.redraw());
    armed = null;
    now.isBusy = true;
    page.redraw();
    now.answer = await page.post("api/call", { method: it.full, request, confirmed: !isRead(it) });
  } catch (error) {
    now.error = error.message;
  }
  now.isBusy = false;
  page.redraw();
}

function grpcurl({ state }, it, request) {
  const serving = all(state.processes).find((one) => one.services.some((own) => own.contracts.includes(it.full.split("/")[0])));
  const address = serving?.listeners?.find((one) => one.name === "services")?.address ?? serving?.address ?? "ADDRESS";
  return `grpcurl -plaintext -d ${quoted(request)} ${address} ${it.full}`;
}

function curl(it, request) {
  const body = `{"method":${JSON.stringify(it.full)},"request":${request},"confirmed":true}`;
  return `curl -sS -H 'content-type: application/json' -H 'x-dashboard: 1' -d ${quoted(body)} ${new URL("api/call", document.baseURI)}`;
}

// A page needs loopback or TLS to write to the clipboard.
async function copy(page, now, command) {
  const isCopied = await navigator.clipboard?.writeText(command).then(
    () => true,
    () => false,
  );
  now.copied = { command, words: isCopied ? "Copied:" : "Copy this:" };
  page.redraw();
}
