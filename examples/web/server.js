// Whether the server answers. Each element of the class `server` says so.

import { say } from "./element.js";

// Requests and streams that wait for the server, with the reason.
const waiting = new Map();
// How long the page says that the server is back, in milliseconds.
const SHOWN = 4000;
let timer;

// Notes that `request`, any object, has no answer yet.
export function failed(request, why) {
  clearTimeout(timer);
  waiting.set(request, why);
  const [first] = waiting.values();
  show(`${first} What is shown stays, and the page tries again.`, true);
}

// Notes that `request` waits no more.
export function answered(request) {
  if (!waiting.delete(request) || waiting.size > 0) return;
  show("The server answers again.", false);
  timer = setTimeout(() => show("", false), SHOWN);
}

// Notes that nobody waits for `request` any more.
export function forgotten(request) {
  if (waiting.delete(request) && waiting.size === 0) show("", false);
}

function show(text, isAway) {
  for (const node of document.querySelectorAll(".server")) {
    say(node, text);
    node.classList.toggle("away", isAway);
  }
}

show("", false);
