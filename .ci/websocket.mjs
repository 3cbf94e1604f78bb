// WebSockets of a stream of responses: its messages, its end, and what breaks the rules.

import { randomUUID } from "node:crypto";
import WebSocket from "ws";
import { check, end, operation, picture, render, start, stop } from "./monolith.mjs";

let { server, address } = await start();

// Opens a socket, and returns what it receives. `closed` resolves to its close code and reason, or to the status of an
// answer that is none of WebSocket.
function open(path, options = {}) {
  const socket = new WebSocket(`ws://${address}${path}`, options);
  const messages = [];
  socket.on("message", (data, isBinary) => messages.push({ isBinary, json: JSON.parse(data) }));
  const closed = new Promise((resolve) => {
    socket.on("close", (code, reason) => resolve({ code, reason: String(reason) }));
    socket.on("unexpected-response", (_, response) => {
      resolve({ status: response.statusCode });
      socket.terminate();
    });
    socket.on("error", () => {});
  });
  const event = (name) => new Promise((resolve) => socket.once(name, resolve));
  return { socket, messages, closed, event };
}

const subscribe = "/v1/services/artwork/operations:subscribe";

// The checks run at the same time: a server pings a silent client after 20 s.
async function silent() {
  const idle = open(`${subscribe}?heartbeat=30s`);
  const pinged = idle.event("ping").then(() => true);
  const late = new Promise((resolve) => setTimeout(resolve, 35_000, false));
  check("a silent client is pinged", await Promise.race([pinged, late]));
  return idle;
}

async function follow() {
  const name = await render(address, picture(1000, 1000));
  const { socket, messages, closed, event } = open(`/v1/${name}:watch?progress=PROGRESS_ALL`);
  await event("open");
  check("compression is offered and not used", socket.extensions === "", socket.extensions);
  const { code, reason } = await closed;
  const operations = messages.map(({ json }) => operation(json)).filter(Boolean);
  const revisions = operations.map((it) => Number(it.metadata.revision));
  check("each message is a text", messages.length > 0 && messages.every(({ isBinary }) => !isBinary), messages);
  check("no message was missing, and none came twice", revisions.every((it, at) => it === revisions[0] + at), revisions);
  check("the last message is the end", operations.at(-1)?.done === true, messages.at(-1));
  check("a stream that succeeded closes with 1000", code === 1000 && reason === "", `${code} ${reason}`);
}

async function mistakes() {
  const unknown = await open(`/v1/services/artwork/operations/${randomUUID()}:watch`).closed;
  check("NOT_FOUND closes with 4005 and its message", unknown.code === 4005 && unknown.reason !== "", unknown);
  for (const [name, code, misuse] of [
    ["a message to a stream that takes none", 4003, (socket) => socket.send("{}")],
    ["the end of messages where there are none", 4003, (socket) => socket.send("")],
    ["a binary message", 4003, (socket) => socket.send(Buffer.from("{}"))],
    ["a frame over the limit", 1009, (socket) => socket.send("x".repeat(5 << 20))],
    ["a message over the limit", 1009, (socket) => {
      for (let part = 0; part < 5; part++) socket.send("x".repeat(1 << 20), { fin: part === 4 });
    }],
    ["text that is not UTF-8", 1007, (socket) => socket.send(Buffer.from([0xff]), { binary: false })],
    ["a frame without a mask", 1002, (socket) => socket.send("{}", { mask: false })],
  ]) {
    const { socket, closed, event } = open(subscribe);
    await event("open");
    misuse(socket);
    const found = await closed;
    check(`${name} closes with ${code}`, found.code === code, found);
  }
}

async function handshake() {
  const foreign = await open(subscribe, { origin: "https://evil.example" }).closed;
  check("a page of a foreign origin opens no socket", foreign.status === 403, foreign);
  const own = open(subscribe, { origin: `http://${address}` });
  await own.event("open");
  const pong = own.event("pong");
  own.socket.ping("hello");
  check("a ping is answered with its payload", String(await pong) === "hello");
  own.socket.close(1000, "enough");
  const { code } = await own.closed;
  check("a close of the client is answered", code === 1000, String(code));
  const older = await open(subscribe, { protocolVersion: 8 }).closed;
  check("an older version of the protocol is refused", older.status === 400, older);
}

try {
  const [idle] = await Promise.all([silent(), follow(), mistakes(), handshake()]);
  check("the silent client that answers is kept", idle.socket.readyState === WebSocket.OPEN);
  await stop(server);
  const { code } = await idle.closed;
  check("a restart closes with 1012", code === 1012, String(code));
  end();
} catch (error) {
  end(error);
}
