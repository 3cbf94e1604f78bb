// Trees of elements, how they get into the document, and the parts that views share.
//
// A view is a function from the state to a tree. `draw` changes only what differs from the tree before; children are matched by
// key, so focus, scroll positions and selections stay. Texts of others become text nodes and attributes, never markup.

import { to } from "./model.js";

const SVG = "http://www.w3.org/2000/svg";
// The characters of a text that are shown.
const LIMIT = 4096;
// Control characters, and what turns or hides text: marks of direction and of zero width, lone surrogates.
const HIDDEN = /[^\P{Cc}\t\n]|[\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;
const trees = new WeakMap();

// A text as the page shows it: cut, and with what cannot be seen as ‹U+202E›.
export function shown(text) {
  const cut = text.length > LIMIT ? `${text.slice(0, LIMIT)}… (cut, of ${text.length} characters)` : text;
  return cut.replace(HIDDEN, (it) => `‹U+${it.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);
}

// An element: `h("td.number", { title: "…" }, 12)`; the properties may be left out. They are attributes, except `key`, handlers
// (`onclick`), `style` (an object) and `value`. A child is an element, a text, an array of them, or nothing (null, false, 0).
export function h(name, ...rest) {
  const [tag, ...classes] = name.split(".");
  const isGiven = rest[0]?.constructor === Object && !rest[0].tag;
  const { key, ...properties } = isGiven ? rest.shift() : {};
  if (classes.length) properties.class = classes.join(" ");
  return { tag, key, properties, children: flat(rest) };
}

// Children without gaps. The key of one without is its position, so that one that comes and goes moves no other.
const flat = (children) =>
  children.flat(Infinity).flatMap((it, at) => {
    if (!it) return [];
    const child = it.tag ? it : { text: String(it) };
    child.key ??= at;
    return child;
  });

export function draw(parent, ...children) {
  const focused = document.activeElement;
  const next = flat(children);
  patch(parent, trees.get(parent) ?? [], next);
  trees.set(parent, next);
  // A row that has moved loses the focus.
  if (focused !== document.activeElement) focused?.focus({ preventScroll: true });
}

function patch(parent, old, next) {
  // Most often the values differ alone.
  if (next.length === old.length && next.every((it, at) => it.key === old[at].key && it.tag === old[at].tag))
    return next.forEach((it, at) => apply(it, old[at], parent));
  const before = new Map(old.map((it) => [it.key, it]));
  const pairs = next.map((it) => {
    const was = before.get(it.key);
    return was?.tag === it.tag && before.delete(it.key) ? [it, was] : [it];
  });
  // First, so that what stays is in place already.
  const kept = new Set(pairs.map(([, was]) => was));
  for (const it of old) if (!kept.has(it)) it.dom.remove();
  let place = parent.firstChild;
  for (const [it, was] of pairs) {
    apply(it, was, parent);
    if (it.dom === place) place = place.nextSibling;
    else parent.insertBefore(it.dom, place);
  }
}

function apply(it, was, parent) {
  if (!it.tag) {
    it.dom = was?.dom ?? document.createTextNode("");
    if (it.text !== was?.text) it.dom.data = shown(it.text);
    return;
  }
  const isSvg = it.tag === "svg" || parent.namespaceURI === SVG;
  it.dom = was?.dom ?? (isSvg ? document.createElementNS(SVG, it.tag) : document.createElement(it.tag));
  patch(it.dom, was?.children ?? [], it.children);
  const before = was?.properties ?? {};
  for (const name in before) if (!(name in it.properties)) set(it.dom, name, false);
  for (const name in it.properties) if (it.properties[name] !== before[name]) set(it.dom, name, it.properties[name] ?? false);
}

function set(dom, name, value) {
  if (name.startsWith("on")) dom[name] = value;
  else if (name === "style") for (const key in value) dom.style.setProperty(key, value[key]);
  else if (name === "value") dom.value = value || "";
  else if (value === false) dom.removeAttribute(name);
  else dom.setAttribute(name, value === true ? "" : shown(String(value)));
}

// --- Parts ---

const MARKS = { up: "●", busy: "●", part: "▲", down: "✕", absent: "○", odd: "?" };
// A state: the colour has a mark and a word beside it.
export const state = (kind, words) => h(`span.state.${kind}`, `${MARKS[kind]}\u00a0${words}`);
const KINDS = {
  up: "up",
  draining: "part",
  silent: "down",
  gone: "down",
  RUNNING: "busy",
  COMPENSATING: "part",
  STUCK: "down",
  SUCCEEDED: "up",
  DONE: "up",
  FAILED: "down",
};
// The kind of a state of a process, of work or of a step; and that state.
export const kindOf = (name) => KINDS[name] ?? "absent";
export const stateOf = (name) => state(kindOf(name), name.toLowerCase());

export const title = (...words) => h("h1", { key: "title", tabindex: "-1" }, words);
export const link = (href, ...words) => h("a", { href }, words);
export const traceLink = (trace, words = "trace") => trace && link(to("traces", {}, trace), words);
export const why = (...words) => h("p.why", words);
export const button = (words, onclick, more) => h("button", { type: "button", onclick, ...more }, words);
export const items = (list, of) =>
  list?.length > 0 &&
  h(
    "ul",
    list.map((it) => h("li", { key: it.key }, of(it))),
  );
// A method without its package. It may break after the slash.
export function code(method) {
  const [service, name] = method.replace(/^.*\.(?=[^./]+\/)/, "").split(/\/(.*)/s);
  return h("code", { title: method }, service, name && ["/", h("wbr"), name]);
}

// Names with values; those without a value are left out.
export const facts = (all) =>
  h(
    "dl.facts",
    { key: "facts" },
    Object.entries(all).map(([name, value]) => value && h("div", { key: name }, h("dt", name), h("dd", value))),
  );

// A bar for a part of 1, from another part on. A text beside it has the same.
export const bar = (part, kind = "", from = 0) =>
  h(`div.bar.${kind}`, { "aria-hidden": "true" }, h("div", { style: { "margin-left": percent(from), width: percent(part) } }));
const percent = (part) => `${(100 * Math.min(1, Math.max(0, part || 0))).toFixed(2)}%`;

// A table of rows, which have a `key` or a `name`. A column has a name and makes the cell of a row. Flags before the name: `*`
// narrow pages leave it out, `#` numbers, `^` sorts. `kind` is the class of a row, `more` makes the details that the first cell
// opens, `below` what that cell has outside of its button. A caption that changes needs a `key`.
export function table(page, caption, rows, columns, { none = "Nothing yet.", kind, more, below, key: own = caption } = {}) {
  const { open, sort } = page.query;
  const [first, ...others] = Object.values(columns);
  const heads = Object.keys(columns).map((name) => {
    const [, flags, words] = name.match(/^([*#^]*)(.*)/);
    const has = (flag, yes) => (flags.includes(flag) ? yes : "");
    return { words, sorts: has("^", true), kind: has("*", ".extra") + has("#", ".number") };
  });
  const head = ({ words, sorts, kind }) => {
    const isSorted = sort === words;
    const sorter = () => button(words, () => page.set({ sort: isSorted ? null : words }), { class: "sort" });
    if (!words) return h("td");
    return h(`th${kind}`, { scope: "col", "aria-sort": sorts && isSorted && "descending" }, sorts ? sorter() : words);
  };
  const row = (it) => {
    const key = it.key ?? it.name;
    const isOpen = key === open;
    const opener = { class: "opener", "aria-expanded": String(isOpen), "data-row": key };
    const words = more ? button(h("span", first(it)), () => page.set({ open: isOpen ? null : key }), opener) : first(it);
    return [
      h(
        "tr",
        { key, class: kind?.(it) },
        h("th", { scope: "row" }, words, below?.(it)),
        others.map((cell, at) => h(`td${heads[at + 1].kind}`, cell(it))),
      ),
      more && isOpen && h("tr.details", { key: `${key} details` }, h("td", { colspan: heads.length }, more(it))),
    ];
  };
  return h(
    "div.scroll",
    { key: own, tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      h("caption", caption),
      h("thead", h("tr", heads.map(head))),
      h("tbody", rows.length ? rows.map(row) : h("tr", h("td.empty", { colspan: heads.length }, none))),
    ),
  );
}

export const loading = ({ data, error }, none) => (data ? none : error ? "There is no answer." : "Loading…");
export const notice = (list, of) => list?.length > 0 && h("div.notice", { key: "notice" }, items(list, of));
// The processes that did not answer: what they know is missing.
export const gaps = (data) => notice(data?.silent, (it) => state("part", `${it.process}: ${it.why}`));

// What filters a view; each is a key of the address.
export const filters = (...all) => h("div.filters", { key: "filters" }, all);
// Whether a text has each of the words that a reader looks for.
export const has = ({ query: { words = "" } }, text) =>
  words
    .toLowerCase()
    .split(" ")
    .every((it) => text.toLowerCase().includes(it));
export const find = (page, name, words) => {
  const oninput = ({ target }) => page.set({ [name]: target.value.trim() });
  return h("label", words, h("input", { type: "search", value: page.query[name], oninput }));
};
// `options` are their words by key.
export const choice = (page, name, words, options) => {
  const all = Object.entries(options).map(([key, text]) => h("option", { key, value: key }, text));
  const value = page.query[name] ?? Object.keys(options)[0];
  return h("label", words, h("select", { value, onchange: ({ target }) => page.set({ [name]: target.value }) }, all));
};
