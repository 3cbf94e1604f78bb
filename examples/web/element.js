// Elements, and lists of them that keep what stays.

// An element with properties and children. A child that is null or undefined is left out.
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Sets a text if it changed: a live region announces only changes.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// Makes the children of `parent` those of `items`. The child of an item stays, with its focus and its picture.
export function keep(parent, items, key, make, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const children = items.map((item) => {
    const child = known.get(key(item)) ?? make(item);
    child.dataset.key = key(item);
    update(child, item);
    return child;
  });
  if (children.length === parent.children.length && children.every((it, at) => it === parent.children[at])) return;
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  parent.replaceChildren(...children);
  focused?.focus({ preventScroll: true });
}

export const price = (cents) => (Number(cents) === 0 ? "free" : (Number(cents) / 100).toFixed(2));

// A time of day, or a day with it if it is another one.
export function time(text) {
  const at = new Date(text);
  const isToday = at.toDateString() === new Date().toDateString();
  return at.toLocaleString([], { ...(isToday ? {} : { weekday: "short" }), hour: "2-digit", minute: "2-digit" });
}
