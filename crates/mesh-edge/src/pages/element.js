// An element with properties and children.
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// An element with a text.
export const text = (name, content, className = "") => element(name, { textContent: content, className });
