// The token of the reader: kept for this tab, and sent in a header, never in an address.

import { say } from "./element.js";

const KEY = "films.token";
const find = (selector) => document.querySelector(selector);
const listeners = [];

// The header that a request has while the reader is signed in.
export function authorization() {
  const token = sessionStorage[KEY];
  return token ? { Authorization: `Bearer ${token}` } : {};
}

// The subject of the token, or "" without one. The page does not trust it: the server checks the token.
export function subject() {
  try {
    const [, claims] = sessionStorage[KEY].split(".");
    const bytes = Uint8Array.from(atob(claims.replace(/-/g, "+").replace(/_/g, "/")), (it) => it.codePointAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)).sub ?? "";
  } catch {
    return "";
  }
}

// Calls `listener` when the reader has signed in or out.
export const onChange = (listener) => listeners.push(listener);

// Notes that the server refused a request for its token, with the reason.
export function refused(reason) {
  const isOld = reason === "TOKEN_EXPIRED" || reason === "TOKEN_INVALID";
  say(find(".token"), `${isOld ? "The server takes this token no more" : "The server asks for a token"}: sign in.`);
}

function keep(token) {
  if (token) sessionStorage[KEY] = token;
  else delete sessionStorage[KEY];
  say(find(".token"), "");
  show();
  find("#sign").close();
  for (const listener of listeners) listener();
}

function show() {
  const isSigned = Boolean(sessionStorage[KEY]);
  find("#sign-in").textContent = isSigned ? "Signed in" : "Sign in";
  find("#sign .out").hidden = !isSigned;
}

find("#sign-in").onclick = () => find("#sign").showModal();
find("#sign .close").onclick = () => find("#sign").close();
find("#sign .out").onclick = () => keep("");
find("#sign form").onsubmit = (event) => {
  event.preventDefault();
  const { token } = Object.fromEntries(new FormData(event.target));
  event.target.reset();
  keep(token.trim().replace(/^Bearer\s+/i, ""));
};
show();
