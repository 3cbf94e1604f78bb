// An EventSource over a connection that breaks misses and repeats no event, and stops after the end.

import { createServer, connect } from "node:net";
import { EventSource } from "eventsource";
import { check, end, operation, render, start, stop } from "./monolith.mjs";

// The time after which the proxy cuts a connection.
const CUT = 50;

let { server, address } = await start();

// A proxy that cuts each connection, at times within an event: after some bytes.
let connections = 0;
const proxy = createServer((client) => {
  connections++;
  const [host, port] = address.split(":");
  const upstream = connect(Number(port), host);
  const cut = () => [client, upstream].forEach((socket) => socket.destroy());
  let bytes = 500 + Math.random() * 4000;
  upstream.on("data", (data) => {
    client.write(data.subarray(0, bytes));
    bytes -= data.length;
    if (bytes <= 0) client.end(cut);
  });
  client.on("data", (data) => upstream.write(data));
  for (const socket of [client, upstream]) socket.on("error", cut).on("close", cut);
  setTimeout(cut, CUT);
});
await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));

// Without `retry`, an EventSource waits for three seconds before it connects again.
async function* soon(body) {
  yield new TextEncoder().encode("retry: 20\n\n");
  yield* body;
}

async function request(url, init) {
  const response = await fetch(url, init);
  const body = response.body && ReadableStream.from(soon(response.body));
  return { body, url: response.url, status: response.status, headers: response.headers, redirected: response.redirected };
}

try {
  const name = await render(address);
  const url = `http://127.0.0.1:${proxy.address().port}/v1/${name}:watch?progress=PROGRESS_ALL`;
  const source = new EventSource(url, { fetch: request });
  const seen = [];
  let restarted;
  const closed = await new Promise((resolve, reject) => {
    source.onmessage = (event) => {
      seen.push(operation(JSON.parse(event.data)));
      // The first picture is stored, and others follow.
      if (!restarted && seen.at(-1).metadata.progress) {
        restarted = { events: seen.length, done: seen.at(-1).done };
        stop(server).then(() => start(address)).then((started) => ({ server } = started)).catch(reject);
      }
    };
    source.onerror = (event) => source.readyState === EventSource.CLOSED && resolve(event.code);
    setTimeout(() => resolve("none after 60 s"), 60_000);
  });
  const requests = connections;
  const revisions = seen.map((operation) => Number(operation.metadata.revision));
  check("the connection was cut often", connections > 10, `${connections} connections`);
  check("the restart fell within the rendering", restarted?.done === false && restarted.events < seen.length, restarted);
  check("no event was missing, and none came twice", revisions.every((it, at) => it === revisions[0] + at), revisions);
  check("the last event is the end", seen.at(-1)?.done === true && "response" in seen.at(-1), seen.at(-1));
  check("a 204 closed the source after the end", closed === 204, String(closed));
  await new Promise((resolve) => setTimeout(resolve, 500));
  check("no request followed", connections === requests, `${connections - requests} more`);
  console.log(`        ${seen.length} events over ${connections} connections`);
  await stop(server);
  end();
} catch (error) {
  end(error);
}
