// A form that sends a request, and shows its answer or its stream.

import { element } from "/docs/element.js";
import { read } from "/docs/events.js";
import { exampleOf } from "/docs/schema.js";
import { isSet, withToken } from "/docs/token.js";

// The form of a method.
export function form(document, { path, verb, operation }) {
  const body = bodyOf(document, operation);
  const inputs = (operation.parameters ?? []).map((parameter) => ({ parameter, input: inputOf(parameter, body) }));
  const answer = element("div", { className: "answer", role: "status" });
  const curl = element("code", { className: "curl" });
  const request = () => requestOf(path, verb, inputs, body);
  const update = () => (curl.textContent = curlOf(request(), body));

  const streams = operation.responses["200"]?.content?.["text/event-stream"] !== undefined;
  const send = element("button", { type: "submit", textContent: streams ? "Follow" : "Send" });
  const stop = element("button", { type: "button", textContent: "Stop", hidden: true });
  const form = element("form", { className: "try", oninput: update });
  form.append(...inputs.map(({ parameter, input }) => field(parameter, input)));
  if (body) form.append(field({ name: body.file ? "file" : "body", in: "body", required: true }, body.input));
  form.append(send, stop, curl, answer);
  // The token is entered elsewhere.
  form.addEventListener("focusin", update);
  form.onsubmit = (event) => {
    event.preventDefault();
    update();
    if (streams) follow(request(), answer, send, stop);
    else ask(request(), answer);
  };
  update();
  return form;
}

function inputOf(parameter, body) {
  if (parameter.name === "Idempotency-Key") {
    // A body that has the field gives it: the header would have another value.
    const isGiven = body && !body.file && body.input.value.includes('"requestId"');
    return element("input", { value: isGiven ? "" : crypto.randomUUID(), required: parameter.required === true });
  }
  const example = parameter.in === "path" ? "" : (parameter.schema?.default ?? "");
  return element("input", { value: example, required: parameter.required === true, autocomplete: "off" });
}

function bodyOf(document, operation) {
  const content = operation.requestBody?.content;
  if (!content) return null;
  const json = content["application/json"];
  if (!json) return { file: true, input: element("input", { type: "file", required: true }) };
  const text = JSON.stringify(exampleOf(document, json.schema), null, 2);
  return { file: false, input: element("textarea", { value: text, rows: text.split("\n").length, spellcheck: false }) };
}

function field(parameter, input) {
  const name = `${parameter.name}${parameter.required ? " *" : ""}`;
  const label = element("label", {}, element("span", { textContent: name }), input);
  label.title = parameter.description ?? "";
  return label;
}

// What fetch needs: a URL, a method, headers and a body.
function requestOf(path, verb, inputs, body) {
  const query = new URLSearchParams();
  const headers = {};
  let url = path;
  for (const { parameter, input } of inputs) {
    if (parameter.in === "path") url = url.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value === "") continue;
    else if (parameter.in === "header") headers[parameter.name] = input.value;
    else query.append(parameter.name, input.value);
  }
  // A plus sign is one: `+` means no space here.
  const text = query.toString().replaceAll("+", "%20");
  if (text) url += `?${text}`;
  const file = body?.file ? body.input.files[0] : null;
  if (file) headers["Content-Type"] = file.type || "application/octet-stream";
  if (body && !body.file) headers["Content-Type"] = "application/json";
  return { url, verb, headers, file, text: body && !body.file ? body.input.value : null };
}

function curlOf({ url, verb, headers, file, text }, body) {
  const quote = (value) => `'${value.replaceAll("'", `'\\''`)}'`;
  const parts = ["curl", quote(`${location.origin}${url}`)];
  if (verb !== "get") parts.push("-X", verb.toUpperCase());
  for (const [name, value] of Object.entries(headers)) parts.push("-H", quote(`${name}: ${value}`));
  // The command may be passed on, and the token must not.
  if (isSet()) parts.push("-H", '"Authorization: Bearer $TOKEN"');
  if (text !== null) parts.push("-d", quote(text));
  if (body?.file) parts.push("--data-binary", quote(`@${file?.name ?? "FILE"}`));
  return parts.join(" ");
}

async function ask({ url, verb, headers, file, text }, answer) {
  answer.replaceChildren(element("p", { textContent: "…" }));
  const start = performance.now();
  try {
    const init = { method: verb.toUpperCase(), headers: withToken(headers), body: file ?? text ?? undefined };
    const response = await fetch(url, init);
    const type = response.headers.get("content-type") ?? "";
    const shown = type.startsWith("image/") ? await imageOf(response) : element("pre", { textContent: pretty(await response.text()) });
    const took = Math.round(performance.now() - start);
    const head = element("p", { className: response.ok ? "ok" : "failed", textContent: `${response.status} · ${took} ms · ${type}` });
    const etag = response.headers.get("etag");
    answer.replaceChildren(head, ...(etag ? [element("p", { textContent: `ETag: ${etag}` })] : []), shown);
  } catch (error) {
    answer.replaceChildren(element("p", { className: "failed", textContent: `no answer: ${error.message}` }));
  }
}

async function imageOf(response) {
  return element("img", { src: URL.createObjectURL(await response.blob()), alt: "the answer" });
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

// Shows each event of a stream until it ends. It is resumed after a break.
function follow({ url }, answer, send, stop) {
  const state = element("p", { textContent: "connecting" });
  const list = element("ol", { className: "events" });
  answer.replaceChildren(state, list);
  const closed = new AbortController();
  const end = (text) => {
    closed.abort();
    state.textContent = text;
    [send.hidden, stop.hidden] = [false, true];
  };
  const show = ({ type, id, data }) => {
    if (type === "heartbeat") return (state.textContent = `open · last heartbeat ${new Date().toLocaleTimeString()}`);
    const item = element("li", {}, element("p", { textContent: `${type}${id ? ` · ${id}` : ""}` }));
    item.append(element("pre", { textContent: pretty(data) }));
    list.append(item);
  };
  [send.hidden, stop.hidden] = [true, false];
  stop.onclick = () => end("stopped");
  read(url, closed.signal, {
    open: () => (state.textContent = "open"),
    event: show,
    resume: () => (state.textContent = "resuming"),
    // A stream that is over is answered with 204.
    end: async (response) => {
      if (response.status !== 204) list.append(element("li", {}, element("pre", { textContent: pretty(await response.text()) })));
      end(response.status === 204 ? "ended" : `refused: ${response.status}`);
    },
  }).catch((error) => end(`failed: ${error.message}`));
}
