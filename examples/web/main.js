// The page: two screens that are refreshed, and what one can do with the titles on them.

import { post, sleep, uuid } from "./api.js";
import { element } from "./element.js";
import { follow } from "./follow.js";
import { renew } from "./picture.js";
import { addSamples } from "./samples.js";
import { phone, television } from "./screens.js";
import { onChange, subject } from "./sign.js";
import { describe, open as openTitle } from "./title.js";
import { view } from "./work.js";

// How often the screens are asked for, in milliseconds: more often while something is missing or goes on.
const OFTEN = 2000;
const SELDOM = 5000;
// How long an operation that has ended stays on the television, in milliseconds.
const STAYS = 6000;
const NOTICES = 3;

const find = (selector) => document.querySelector(selector);
// A reader who is signed in is the viewer.
const viewer = () => subject() || (localStorage["films.viewer"] ??= uuid());
const open = (titleId, name) => openTitle({ titleId, name }, viewer(), work);
let running = 0;
// Ends the pause of a screen between two refreshes.
const pauses = new Map();
let asked = 0;

// Refreshes the screens now.
const now = () => {
  asked++;
  for (const end of pauses.values()) end();
};

async function keepFresh(screen) {
  let told = "";
  for (;;) {
    const at = asked;
    let isMissing = false;
    try {
      isMissing = await screen(viewer(), open);
      told = "";
    } catch (error) {
      // It lasts: it is said once, and a missing token elsewhere.
      const text = error.status === 401 ? told : describe(error);
      if (text !== told) notice((told = text), false);
    }
    // An answer that began before the last change does not have it.
    if (at !== asked) continue;
    const pause = isMissing || running > 0 ? OFTEN : SELDOM;
    await Promise.race([sleep(pause), new Promise((resolve) => pauses.set(screen, resolve))]);
    if (document.hidden) await new Promise((resolve) => addEventListener("visibilitychange", resolve, { once: true }));
  }
}

// Follows an operation on both screens, and where `place` puts it.
async function work(operation, name, titleId, place = () => {}) {
  // Under a dialog nothing is announced, so the view in it does that.
  const [far, near] = [view(name, false), view(name, true)];
  for (const ended of document.querySelectorAll(".tv .operation:is(.succeeded, .failed)")) ended.remove();
  find(".tv .work").append(far.node);
  place(near.node);
  running++;
  now();
  const views = [far, near];
  try {
    await follow(operation, {
      progress: (message) => views.forEach((it) => it.show(message)),
      notice: (message) => notice(`${name}: ${message.text}`, message.succeeded),
    });
    if (operation.startsWith("services/artwork/")) renew(titleId);
  } catch (error) {
    views.forEach((it) => it.fail(error));
  } finally {
    running--;
    now();
    setTimeout(() => far.node.remove(), STAYS);
  }
}

function notice(text, isGood) {
  const list = find(".notices");
  list.append(element("p", { textContent: text, className: isGood ? "good" : "bad" }));
  while (list.children.length > NOTICES) list.firstChild.remove();
}

find("#samples").onclick = async ({ target }) => {
  target.disabled = true;
  try {
    await addSamples({ added: now, work });
  } catch (error) {
    notice(describe(error), false);
  } finally {
    target.disabled = false;
  }
};

find("#add").onclick = () => find("#new").showModal();
find("#new .close").onclick = () => find("#new").close();
find("#new form").onsubmit = async (event) => {
  event.preventDefault();
  const form = event.target;
  const failure = form.querySelector(".failure");
  const button = form.querySelector(".main");
  const { name, year, price, synopsis } = Object.fromEntries(new FormData(form));
  failure.textContent = "";
  button.disabled = true;
  try {
    await post("/v1/titles", { name, year: Number(year), priceCents: Math.round(100 * Number(price)), synopsis });
    form.reset();
    find("#new").close();
    now();
  } catch (error) {
    failure.textContent = describe(error);
  } finally {
    button.disabled = false;
  }
};

onChange(now);
addEventListener("online", now);
keepFresh(television);
keepFresh(phone);
