// Server-sent events by fetch: EventSource sends no Authorization, and a token is in no URL.

import { withToken } from "/docs/token.js";

// The pause before a stream is opened again, in milliseconds, unless the server names one.
const PAUSE = 3000;

// Reads the events of a stream, and opens it again behind the last one after a break, until it is over or `signal` aborts.
// `on` has the functions `open`, `event`, `resume` and `end`.
export async function read(url, signal, on) {
  let [last, pause] = ["", PAUSE];
  for (;;) {
    try {
      const headers = withToken({ Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) });
      const response = await fetch(url, { headers, cache: "no-store", signal });
      // The stream is over, or refused.
      if (response.status !== 200) return on.end(response);
      on.open();
      for await (const { id, retry, ...event } of events(response.body)) {
        last = id ?? last;
        pause = retry ?? pause;
        if (event.data !== undefined) on.event({ ...event, id: last });
      }
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof TypeError)) throw error;
    }
    on.resume();
    await new Promise((resolve) => setTimeout(resolve, pause));
    if (signal.aborted) return;
  }
}

// The events of a body. One that breaks off is none.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    yield* parts.map(parse);
  }
}

function parse(text) {
  const event = { type: "message" };
  for (const line of text.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "event") event.type = value;
    else if (name === "id") event.id = value;
    else if (name === "retry") event.retry = Number(value);
    else if (name === "data") event.data = event.data === undefined ? value : `${event.data}\n${value}`;
  }
  return event;
}
