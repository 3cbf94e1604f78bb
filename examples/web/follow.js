// Follows an operation: the television by its progress, the phone by one notice at the end.

import { backoff, get, sleep } from "./api.js";
import { events } from "./events.js";
import { answered, failed } from "./server.js";
import { authorization } from "./sign.js";

// Operations that are followed at once, each by two streams: a browser has six connections to a server over HTTP/1.1, and
// requests need some.
const AT_ONCE = 2;
// How long a stream without a message counts as not open, in milliseconds.
const OPENING = 500;
let followed = 0;
const queue = [];

// Follows the operation `name` to its end. `progress` and `notice` are called with the messages.
export async function follow(name, { progress, notice }) {
  if (followed === AT_ONCE) await new Promise((resolve) => queue.push(resolve));
  else followed++;
  try {
    const ends = [
      stream(name, `/v1/tv/${name}:follow`, (message) => (progress(message), message.done)),
      stream(name, `/v1/mobile/${name}:await`, (message) => (notice(message), true)),
    ];
    await Promise.all(ends);
  } finally {
    const next = queue.shift();
    if (next) next();
    else followed--;
  }
}

// Reads events until `take` returns true. A stream that breaks is opened again: it begins with what is true then.
async function stream(name, url, take) {
  const request = {};
  try {
    for (let failures = 0; ; failures++) {
      const opened = () => {
        failures = 0;
        answered(request);
      };
      const { done, status, isRefused } = await open(url, opened, take);
      if (done) return;
      failed(request, status ? `The server cannot answer now: ${status.message}.` : "The server does not answer.");
      // An operation that does not exist is a Problem here.
      if (isRefused) await get(`/v1/${name}`);
      await sleep(backoff(failures));
    }
  } finally {
    answered(request);
  }
}

// One stream: how it ended.
async function open(url, opened, take) {
  const closed = new AbortController();
  const init = { headers: { Accept: "text/event-stream", ...authorization() }, cache: "no-store", signal: closed.signal };
  const response = await fetch(url, init).catch(() => null);
  if (!response) return {};
  // A stream behind its end is 204, and one that is refused has a problem.
  if (response.status !== 200) return { isRefused: true };
  // A server that cannot answer opens the stream, too, and ends it with its status.
  const timer = setTimeout(opened, OPENING);
  try {
    for await (const { type, data } of events(response.body)) {
      if (type === "status") return { status: JSON.parse(data) };
      if (type !== "message") continue;
      opened();
      if (take(JSON.parse(data))) return { done: true };
    }
    return {};
  } finally {
    clearTimeout(timer);
    closed.abort();
  }
}
