// The documentation of the API, from /openapi.json. Every text of the document is set as text, never as HTML.

import { element, text } from "/docs/element.js";
import { limitsOf, resolve, typeOf } from "/docs/schema.js";
import { set as setToken } from "/docs/token.js";
import { form } from "/docs/try.js";

const VERBS = ["get", "post", "put", "patch", "delete"];
// How deep a schema is shown before its fields are only named.
const DEPTH = 3;

// The methods of the document, in its order.
function methodsOf(api) {
  const paths = Object.entries(api.paths);
  return paths.flatMap(([path, item]) =>
    VERBS.filter((verb) => item[verb]).map((verb) => ({ path, verb, operation: item[verb] })),
  );
}

function show(api) {
  const methods = methodsOf(api);
  const sections = api.tags.map((tag) => {
    const own = methods.filter(({ operation }) => operation.tags?.includes(tag.name));
    const section = element("section", {}, text("h2", tag.name), text("p", tag.description ?? ""));
    section.append(...own.map((method) => methodOf(api, method)));
    return section;
  });
  document.getElementById("main").replaceChildren(...sections);
}

// A method: a line that opens. Its content is made when it is opened first.
function methodOf(api, method) {
  const { path, verb, operation } = method;
  const needs = operation.security?.length ? [text("i", "token")] : [];
  const summary = element("summary", {}, text("b", verb.toUpperCase(), verb), text("code", path), ...needs, text("span", operation.summary ?? ""));
  const details = element("details", { id: operation.operationId }, summary);
  details.dataset.words = [verb, path, JSON.stringify(operation)].join(" ").toLowerCase();
  details.ontoggle = () => {
    if (details.open && details.childElementCount === 1) details.append(contentOf(api, method));
  };
  return details;
}

function contentOf(api, method) {
  const { operation } = method;
  const content = element("div", { className: "method" });
  for (const paragraph of (operation.description ?? "").split("\n\n")) content.append(text("p", paragraph));
  if (operation.parameters?.length) content.append(text("h3", "Parameters"), parametersOf(api, operation.parameters));
  const body = operation.requestBody?.content;
  if (body) content.append(text("h3", "Body"), body["application/json"] ? fieldsOf(api, body["application/json"].schema) : text("p", "The bytes as they are, with any content type but that of a form."));
  content.append(text("h3", "Answers"), ...Object.entries(operation.responses).map(([status, answer]) => answerOf(api, status, answer)));
  content.append(text("h3", "Try it"), form(api, method));
  return content;
}

function parametersOf(api, parameters) {
  const rows = parameters.map((parameter) =>
    rowOf(api, `${parameter.name} (${parameter.in})`, parameter.schema, parameter.required, parameter.description),
  );
  return element("dl", {}, ...rows.flat());
}

// The fields of a message, and of the messages in it.
function fieldsOf(api, schema, depth = 0) {
  const found = resolve(api, schema);
  const rows = Object.entries(found.properties ?? {}).map(([name, field]) => {
    const own = resolve(api, field);
    const row = rowOf(api, name, field, found.required?.includes(name), own.description, own.readOnly);
    const inner = own.type === "array" ? own.items : field;
    if (depth < DEPTH && resolve(api, inner).properties) row[1].append(fieldsOf(api, inner, depth + 1));
    return row;
  });
  return element("dl", {}, ...rows.flat());
}

function rowOf(api, name, schema, required, description, readOnly) {
  const notes = [typeOf(api, schema), limitsOf(api, schema), required && "required", readOnly && "read-only"];
  const term = element("dt", {}, text("code", name), text("span", notes.filter(Boolean).join(" · ")));
  return [term, element("dd", {}, text("p", description ?? ""))];
}

function answerOf(api, status, answer) {
  const json = answer.content?.["application/json"]?.schema ?? answer.content?.["application/x-ndjson"]?.schema;
  const shown = element("details", {}, element("summary", {}, text("b", status), text("span", answer.description)));
  for (const name of Object.keys(answer.content ?? {})) shown.append(text("p", name));
  if (json) shown.append(fieldsOf(api, json));
  return shown;
}

// Shows the methods that have all words of the filter.
function filter(words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of document.querySelectorAll("main > section")) {
    const methods = [...section.querySelectorAll(":scope > details")];
    for (const method of methods) method.hidden = !wanted.every((word) => method.dataset.words.includes(word));
    section.hidden = methods.every((method) => method.hidden);
  }
}

// `#errors/DOMAIN/REASON` shows the methods that fail for a reason, another name the method itself.
function jump() {
  const name = decodeURIComponent(location.hash.slice(1));
  const input = document.getElementById("filter");
  if (name.startsWith("errors/")) {
    input.value = name.split("/").pop();
    filter(input.value);
  } else if (name) {
    const method = document.getElementById(name);
    if (method) method.open = true;
    method?.scrollIntoView();
  }
}

document.getElementById("filter").oninput = (event) => filter(event.target.value);
document.getElementById("token").oninput = (event) => setToken(event.target.value);
addEventListener("hashchange", jump);
try {
  show(await (await fetch("/openapi.json")).json());
  jump();
} catch (error) {
  document.getElementById("main").replaceChildren(text("p", `cannot read /openapi.json: ${error.message}`, "failed"));
}
