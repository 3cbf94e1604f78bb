// Requests to the API. A request that may not have arrived is sent again until there is an answer, and a write keeps its
// Idempotency-Key: it has one effect, however often it is sent.

import { answered, failed, forgotten } from "./server.js";
import { authorization, refused } from "./sign.js";

// An answer that repeating does not change.
export class Problem extends Error {
  constructor(status, problem) {
    super(problem.detail ?? `the server answered with ${status}`);
    this.status = status;
    const details = problem.details ?? [];
    this.reason = details.find((it) => it.reason)?.reason ?? "";
    this.fields = details.flatMap((it) => it.fieldViolations ?? []);
  }
}

// What may pass: the client is too fast, or a server behind this one is away.
const PASSES = [429, 502, 503, 504];
// The longest wait for an answer, in milliseconds: beyond it the server is not there. A server ends an upload that stalls.
const LIMIT = 10_000;
// The longest pause that a server may ask for, in milliseconds.
const MAX_PAUSE = 60_000;

export const get = (path, signal) => send("GET", path, { signal });
export const post = (path, json) => send("POST", path, { type: "application/json", body: JSON.stringify(json) });
export const upload = (path, file) =>
  send("POST", path, { type: file.type || "application/octet-stream", body: file, limit: 0 });

async function send(method, path, { type, body, signal, limit = LIMIT }) {
  const headers = method === "GET" ? {} : { "Content-Type": type, "Idempotency-Key": uuid() };
  const request = {};
  try {
    for (let failures = 0; ; failures++) {
      const { answer, why, pause } = await attempt(path, { method, headers, body }, [signal, limit && AbortSignal.timeout(limit)]);
      if (answer) return answer;
      failed(request, why);
      await sleep(Math.max(pause, backoff(failures)), signal);
    }
  } finally {
    if (signal?.aborted) forgotten(request);
    else answered(request);
  }
}

// One attempt: an answer, or why there is none and the pause that the server asks for.
async function attempt(path, init, [signal, limit]) {
  let response, json;
  try {
    const headers = { ...init.headers, ...authorization() };
    response = await fetch(path, { ...init, headers, signal: AbortSignal.any([signal, limit].filter(Boolean)) });
    json = await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    if (!response || limit?.aborted) return { why: "The server does not answer.", pause: 0 };
    json = null;
  }
  if (response.ok && json) return { answer: json };
  if (response.ok) return { why: "The answer broke off.", pause: 0 };
  if (!PASSES.includes(response.status)) {
    const problem = new Problem(response.status, json ?? {});
    if (problem.status === 401) refused(problem.reason);
    throw problem;
  }
  // A proxy may send a date instead of seconds.
  const asked = 1000 * Number(response.headers.get("Retry-After"));
  const pause = Number.isFinite(asked) ? Math.min(asked, MAX_PAUSE) : 0;
  return { why: `The server cannot answer now: ${json?.detail ?? response.status}.`, pause };
}

// The pause after failures in a row, in milliseconds. It varies, so that many pages do not come back at once.
export function backoff(failures) {
  return Math.min(5000, 400 * 2 ** failures) * (0.5 + Math.random() / 2);
}

export function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

// A random UUID, also where crypto.randomUUID is missing: on a page without TLS from another machine.
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = 0x40 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
