// Trees of elements, how they get into the document, and the parts that views share.
//
// A view is a function from the state to a tree. `draw` changes only what differs from the tree before; children are matched by
// key, so focus, scroll positions and selections stay. Texts of others become text nodes and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";
// The characters of a text that are shown.
const LIMIT = 4096;
// Control characters, and what turns or hides text: marks of direction and of zero width, lone surrogates.
const HIDDEN = /[^\P{Cc}\t\n]|[\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;
const trees = new WeakMap();
// What names of elements mean, such as td.number: views make thousands of them each second.
const names = new Map();

// A text as the page shows it: cut, and with what cannot be seen as ‹U+202E›.
export function shown(text) {
  const whole = String(text);
  const cut = whole.length > LIMIT ? `${whole.slice(0, LIMIT)}… (cut, of ${whole.length} characters)` : whole;
  return cut.replace(HIDDEN, (it) => `‹U+${it.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);
}

// An element: `h("td.number", { title: "…" }, 12)`; the properties may be left out. They are attributes, except `key`, handlers
// (`onclick`), `style` (an object) and `value`. A child is an element, a text, an array of them, or nothing (null, false).
export function h(name, ...rest) {
  if (!names.has(name)) {
    const [tag, ...classes] = name.split(".");
    names.set(name, { tag, own: classes.length ? { class: classes.join(" ") } : {} });
  }
  const { tag, own } = names.get(name);
  const [first] = rest;
  const isGiven = first && typeof first === "object" && !first.tag && !Array.isArray(first);
  const properties = isGiven ? Object.assign(rest.shift(), own) : own;
  return { tag, key: properties.key, properties, children: flat(rest) };
}

// Children without gaps. The key of one without is its position, so that one that comes and goes moves no other.
function flat(children, prefix = "", into = []) {
  children.forEach((it, at) => {
    if (it === null || it === undefined || it === false || it === "") return;
    if (Array.isArray(it)) return flat(it, `${prefix || "#"}${at}.`, into);
    const child = it.tag ? it : { text: String(it) };
    child.key ??= prefix ? prefix + at : at;
    into.push(child);
  });
  return into;
}

export function draw(parent, ...children) {
  const focused = document.activeElement;
  const next = flat(children);
  patch(parent, trees.get(parent) ?? [], next);
  trees.set(parent, next);
  // A row that has moved loses the focus.
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true });
}

function patch(parent, old, next) {
  // Most often the values differ alone.
  if (next.length === old.length && next.every((it, at) => it.key === old[at].key && it.tag === old[at].tag)) {
    return next.forEach((it, at) => apply(it, old[at], parent));
  }
  const before = new Map(old.map((it) => [it.key, it]));
  const pairs = next.map((it) => {
    const was = before.get(it.key);
    if (was?.tag !== it.tag) return [it];
    before.delete(it.key);
    return [it, was];
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
  if (it.properties === before) return;
  for (const name in before) if (!(name in it.properties)) set(it.dom, name, null);
  for (const name in it.properties) if (it.properties[name] !== before[name]) set(it.dom, name, it.properties[name]);
}

function set(dom, name, value) {
  if (name === "key") return;
  if (name.startsWith("on")) dom[name] = value;
  else if (name === "style") for (const key in value) dom.style.setProperty(key, value[key]);
  else if (name === "value" || name === "checked") dom[name] = value ?? "";
  else if (value === null || value === undefined || value === false) dom.removeAttribute(name);
  else dom.setAttribute(name, value === true ? "" : shown(value));
}

// --- Parts ---

const MARKS = { up: "●", busy: "●", part: "▲", down: "✕", absent: "○", odd: "?" };
// A state: the colour has a mark and a word beside it.
export const state = (kind, words) => h(`span.state.${kind}`, `${MARKS[kind]}\u00a0${words}`);
export const title = (...words) => h("h1", { key: "title", tabindex: "-1" }, ...words);
export const link = (href, ...words) => h("a", { href }, ...words);
export const why = (...words) => h("p.why", ...words);
// A method without its package. It may break after the slash.
export function code(method) {
  const [service, name] = method.replace(/^.*\.(?=[^./]+\/)/, "").split(/\/(.*)/s);
  return h("code", { title: method }, service, name && ["/", h("wbr"), name]);
}
export const button = (words, onclick, more) => h("button", { type: "button", onclick, ...more }, words);

// Names with values; those without a value are left out.
export const facts = (all) =>
  h(
    "dl.facts",
    { key: "facts" },
    all.filter((it) => it?.[1]).map(([name, ...value]) => h("div", { key: name }, h("dt", name), h("dd", value))),
  );

// A bar for a part of 1, from another part on. A text beside it has the same.
export const bar = (part, kind = "", from = 0) =>
  h(`div.bar.${kind}`, { "aria-hidden": "true" }, h("div", { style: { "margin-left": percent(from), width: percent(part) } }));
const percent = (part) => `${(100 * Math.min(1, Math.max(0, part || 0))).toFixed(2)}%`;

// A table. The name of a column may have flags: `*` for one that narrow pages leave out, `#` for numbers; or it is an object that
// has a `sort`, too. A row is { key, kind, cells, more, below }: `more` makes the details, which the first cell opens, and `below`
// is what that cell has outside of its button.
export function table(page, caption, columns, rows, none = "Nothing yet.") {
  const heads = columns.map((it) => (it.name ? it : { name: it }));
  const kinds = heads.map(({ name }) => (name.includes("*") ? ".extra" : "") + (name.includes("#") ? ".number" : ""));
  const head = heads.map(({ name, sort }, at) => {
    const words = name.replace(/^[*#]+/, "");
    const isSorted = sort && page.query.sort === sort;
    if (!words) return h("td");
    return h(
      `th${kinds[at]}`,
      { scope: "col", "aria-sort": isSorted && "descending" },
      sort ? button(isSorted ? `${words} ▾` : words, () => page.set({ sort: isSorted ? null : sort }), { class: "sort" }) : words,
    );
  });
  const body = rows.flatMap(({ key, kind = "", cells: [first, ...cells], more, below }) => {
    const isOpen = more && page.query.open === key;
    const opener = () =>
      button(
        [h("span.arrow", { "aria-hidden": "true" }, isOpen ? "▾" : "▸"), h("span", first)],
        () => page.set({ open: isOpen ? null : key }),
        { class: "opener", "aria-expanded": String(isOpen), "data-row": key },
      );
    return [
      h(
        "tr",
        { key, class: kind },
        h("th", { scope: "row" }, more ? opener() : first, below),
        cells.map((it, at) => h(`td${kinds[at + 1]}`, it)),
      ),
      isOpen && h("tr.details", { key: `${key} details` }, h("td", { colspan: columns.length }, more())),
    ];
  });
  return h(
    "div.scroll",
    { key: caption, tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      h("caption", caption),
      h("thead", h("tr", head)),
      h("tbody", rows.length ? body : h("tr", h("td.empty", { colspan: columns.length }, none))),
    ),
  );
}

export const loading = ({ data, error }, none) => (data ? none : error ? "There is no answer." : "Loading…");

// What filters a view; each is a key of the address.
export const filters = (...all) => h("div.filters", { key: "filters" }, ...all);
// Whether a text has each of the words that a reader looks for.
export const has = ({ query }, text) =>
  (query.words ?? "")
    .toLowerCase()
    .split(" ")
    .every((it) => text.toLowerCase().includes(it));
export const find = (page, name, words) =>
  h(
    "label",
    words,
    h("input", {
      type: "search",
      value: page.query[name] ?? "",
      oninput: ({ target }) => page.set({ [name]: target.value.trim() }),
    }),
  );
export const choice = (page, name, words, options) =>
  h(
    "label",
    words,
    h(
      "select",
      { value: page.query[name] ?? options[0]?.[0], onchange: ({ target }) => page.set({ [name]: target.value }) },
      options.map(([key, text]) => h("option", { key, value: key }, text)),
    ),
  );
