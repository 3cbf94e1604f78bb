// What the scripts of .ci/node share: the monolith, work for it, and the list of checks.

import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import { crc32, deflateSync } from "node:zlib";

let failed = 0;

// Prints a check, and how it ended.
export function check(name, passed, found = "") {
  if (!passed) failed++;
  console.log(passed ? `ok      ${name}` : `FAILED  ${name}: ${JSON.stringify(found)}`);
}

// Ends the script: it has failed if a check has, or if there was an error.
export function end(error) {
  if (error) console.error(error);
  process.exit(failed || error ? 1 : 0);
}

// Starts the monolith, or another program, at an address. It prints where it listens.
export async function start(listen = "127.0.0.1:0", settings = {}, program = process.env.MONOLITH, cwd = process.cwd()) {
  const env = { ...process.env, MESH__LISTEN: listen, ...settings };
  const server = spawn(program, [], { env, cwd, stdio: ["ignore", "pipe", "inherit"] });
  process.once("exit", () => server.kill("SIGKILL"));
  for await (const line of createInterface({ input: server.stdout })) {
    const address = line.split(" listening on ")[1];
    if (address) return { server, address };
  }
  throw new Error(`${program} ended`);
}

// Stops a program, and waits for its end.
export function stop(server, signal = "SIGTERM") {
  const ended = new Promise((resolve) => server.once("exit", resolve));
  server.kill(signal);
  return ended;
}

// A PNG that takes seconds to render, and few bytes.
export function picture(width = 5000, height = 5000) {
  const line = Buffer.alloc(1 + 3 * width);
  for (let x = 0; x < width; x++) line.writeUIntBE((x * 0x010203) & 0xffffff, 1 + 3 * x, 3);
  const chunk = (type, data) => {
    const typed = Buffer.concat([Buffer.from(type), data]);
    const [length, checksum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    checksum.writeUInt32BE(crc32(typed));
    return Buffer.concat([length, typed, checksum]);
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  // Eight bits of red, green and blue.
  head.set([8, 2], 8);
  const lines = Buffer.concat(Array(height).fill(line));
  const chunks = [chunk("IHDR", head), chunk("IDAT", deflateSync(lines, { level: 1 })), chunk("IEND", Buffer.alloc(0))];
  return Buffer.concat([Buffer.from("89504e470d0a1a0a", "hex"), ...chunks]);
}

// Sends a request, and returns the JSON of its answer.
export async function send(address, path, type, body) {
  const headers = { "content-type": type, "idempotency-key": randomUUID() };
  const response = await fetch(`http://${address}${path}`, { method: "POST", headers, body });
  if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  return response.json();
}

// Starts the rendering of a picture, and returns the name of its operation.
export async function render(address, image = picture()) {
  const title = JSON.stringify({ name: "Metropolis", year: 1927 });
  const { titleId } = await send(address, "/v1/titles", "application/json", title);
  return (await send(address, `/v1/titles/${titleId}/artwork:upload`, "image/png", image)).name;
}

// The operation of a message of Watch; undefined for a heartbeat.
export const operation = (message) => message.snapshot ?? message.update;
