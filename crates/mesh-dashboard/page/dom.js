// Trees of elements, and the parts that views share.
//
// A view is a function to a tree. `draw` changes what differs from the one before; children are matched by key, so focus and
// selections stay. Texts of others become text nodes and attributes, never markup.

import { all, to } from "./model.js";

const SVG = "http://www.w3.org/2000/svg";
const LIMIT = 4096;
// Control characters, marks of direction and of zero width, lone surrogates.
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

// A list, by `data-list`, that a reader points at, or is in by the keyboard: values alone change.
const HELD = ":is(:hover, :focus-visible, :has(:focus-visible))";
let isHeld = false;

// A list. While it is held its rows, its `onrows`, keep their order, new ones come last, and those that go are struck.
function held(list, rows, most) {
  const old = [...document.querySelectorAll(`[data-list]${HELD}`)].find((it) => it.dataset.list === list)?.onrows ?? [];
  const was = old.map((it) => ({ ...it, gone: true }));
  return all(new Map([...was, ...rows].map((it) => [it.key ?? it.name, it]))).slice(0, most);
}

function apply(it, was, parent) {
  if (!it.tag) {
    it.dom = was?.dom ?? document.createTextNode("");
    if (it.text !== was?.text) it.dom.data = shown(it.text);
    return;
  }
  const isSvg = it.tag === "svg" || parent.namespaceURI === SVG;
  it.dom = was?.dom ?? (isSvg ? document.createElementNS(SVG, it.tag) : document.createElement(it.tag));
  const before = was?.properties ?? {};
  const outer = isHeld;
  isHeld = was && (it.properties["data-list"] ? it.dom.matches(HELD) : isHeld);
  const stays = isHeld && (it.tag === "a" || /links|more/.test(before.class));
  if (stays) Object.assign(it, { properties: before, children: was.children });
  patch(it.dom, was?.children ?? [], it.children);
  isHeld = outer;
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

const MARKS = { up: "●", busy: "●", part: "▲", down: "✕", absent: "○", odd: "?" };
// A state: the colour has a mark and a word beside it.
export const mark = (kind, words) => h(`span.mark.${kind}`, `${MARKS[kind]}\u00a0${words}`);
const KINDS = { up: /up|SUCCEEDED|\bDONE/, busy: /RUNNING/, part: /draining|COMPENSATING/, down: /silent|gone|STUCK|FAILED/ };
export const kindOf = (name) => Object.keys(KINDS).find((it) => KINDS[it].test(name)) ?? "absent";
export const markOf = (name) => mark(kindOf(name), name.toLowerCase());

export const title = (...words) => h("h1", { key: "title", tabindex: "-1" }, words);
export const link = (href, ...words) => h("a", { href }, words);
export const traceLink = (trace, words = "trace") => trace && link(to("traces", {}, trace), words);
export const small = (...words) => h("p.small", words);
export const button = (words, onclick, more) => h("button", { type: "button", onclick, ...more }, words);

// The action that waits for its second click, and whether a click is that one.
let armed;
export const isArmed = (key) => key === armed;
export function confirms(page, key) {
  const isSecond = isArmed(key);
  armed = isSecond ? null : key;
  page.redraw();
  return isSecond;
}

export const items = (list, of, name, most) => {
  const rows = name ? held(name, list, most) : list;
  const entry = (it) => h("li", { key: it.key, class: it.gone && "gone" }, of(it));
  return rows?.length > 0 && h("ul", { "data-list": name, onrows: rows }, rows.map(entry));
};
// A method without its package. It may break after the slash.
export function code(method) {
  const [service, name] = method.replace(/^.*\.(?=[^./]+\/)/, "").split(/\/(.*)/s);
  return h("code", { title: method }, service, name && ["/", h("wbr"), name]);
}

// Names with values; those without a value are left out.
export const facts = (parts) => {
  const fact = ([name, value]) => value && h("div", { key: name }, h("dt", name), h("dd", value));
  return h("dl.facts", { key: "facts" }, Object.entries(parts).map(fact));
};

// A bar for a part of 1, from another part on.
export const bar = (part, kind = "", from = 0) =>
  h(`div.bar.${kind}`, { "aria-hidden": "true" }, h("div", { style: { "margin-left": percent(from), width: percent(part) } }));
const percent = (part) => `${(100 * Math.min(1, Math.max(0, part || 0))).toFixed(2)}%`;

// A table of rows, which have a `key` or a `name`. Columns are cells of a row by name, with flags: `*` narrow pages leave it out, `#`
// numbers, `^` sorts. `kind` is the class of a row, `more` makes the details that the first cell opens, `below` what it has outside
// of its button. A caption that changes needs a `key`.
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
        { key, class: it.gone ? "gone" : kind?.(it) },
        h("th", { scope: "row" }, words, below?.(it)),
        others.map((cell, at) => h(`td${heads[at + 1].kind}`, cell(it))),
      ),
      more && isOpen && h("tr.details", { key: `${key} details` }, h("td", { colspan: heads.length }, more(it))),
    ];
  };
  const list = JSON.stringify([own, page.rest, { ...page.query, open: "" }]);
  const drawn = held(list, rows);
  return h(
    "div.scroll",
    { key: own, "data-list": list, onrows: drawn, tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      h("caption", caption),
      h("thead", h("tr", heads.map(head))),
      h("tbody", drawn.length ? drawn.map(row) : h("tr", h("td.empty", { colspan: heads.length }, none))),
    ),
  );
}

export const loading = ({ data, error }, none) => (data ? none : error ? "There is no answer." : "Loading…");
export const notice = (list, of) => list?.length > 0 && h("div.notice", { key: "notice" }, items(list, of));
// The processes that did not answer: what they know is missing.
export const gaps = (data) => notice(data?.silent, (it) => mark("part", `${it.process}: ${it.why}`));

export const filters = (...parts) => h("div.filters", { key: "filters" }, parts);
// Whether a text has each of the words that a reader looks for.
export const has = ({ query: { words = "" } }, text) =>
  words.split(" ").every((it) => text.toLowerCase().includes(it.toLowerCase()));
export const find = (page, name, words) => {
  const oninput = ({ target }) => page.set({ [name]: target.value.trim() });
  return h("label", words, h("input", { type: "search", value: page.query[name], oninput }));
};
export const choice = (page, name, words, options) => {
  const choices = Object.entries(options).map(([key, text]) => h("option", { key, value: key }, text));
  const value = page.query[name] ?? Object.keys(options)[0];
  return h("label", words, h("select", { value, onchange: ({ target }) => page.set({ [name]: target.value }) }, choices));
};
