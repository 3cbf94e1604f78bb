// Follows an operation: the television by its progress, the phone by one notice at the end.

import { backoff, get, sleep } from "./api.js";
import { answered, failed } from "./server.js";

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
      // EventSource does not say why it was refused. An operation that does not exist is a Problem here.
      if (isRefused) await get(`/v1/${name}`);
      await sleep(backoff(failures));
    }
  } finally {
    answered(request);
  }
}

// One stream: how it ended. EventSource would open another at once, and one behind the end, so it is closed in each case.
function open(url, opened, take) {
  return new Promise((resolve, reject) => {
    const events = new EventSource(url);
    let timer;
    const end = (how) => {
      clearTimeout(timer);
      events.close();
      resolve(how);
    };
    // A server that cannot answer opens the stream, too, and ends it with its status.
    events.onopen = () => (timer = setTimeout(opened, OPENING));
    events.onmessage = (event) => {
      opened();
      try {
        if (take(JSON.parse(event.data))) end({ done: true });
      } catch (error) {
        reject(error);
        end();
      }
    };
    events.addEventListener("status", (event) => end({ status: JSON.parse(event.data) }));
    events.onerror = () => end({ isRefused: events.readyState === EventSource.CLOSED });
  });
}
