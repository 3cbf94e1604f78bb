// gRPC-Web with the client of Connect: calls, errors with details, a stream, deadlines, and calls from pages elsewhere.

import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport as overNode } from "@connectrpc/connect-node";
import { createGrpcWebTransport as overFetch } from "@connectrpc/connect-web";
import { check, end, picture, render, start, stop } from "./monolith.mjs";

const folder = import.meta.dirname;
const programs = `${folder}/node_modules/.bin`;
const plugin = { local: `${programs}/protoc-gen-es`, out: `${folder}/gen`, opt: ["target=js", "import_extension=js"] };
const template = { version: "v2", plugins: [plugin] };
execFileSync(`${programs}/buf`, ["generate", process.env.PROTO, "--template", JSON.stringify(template)]);
writeFileSync(`${folder}/gen/package.json`, '{"type": "module"}');
const { CatalogService } = await import("./gen/catalog/v1/catalog_pb.js");
const { ArtworkService } = await import("./gen/artwork/v1/artwork_pb.js");
const { OperationEventsService } = await import("./gen/mesh/operations/v1/operations_pb.js");
const { BadRequestSchema, ErrorInfoSchema } = await import("./gen/google/rpc/error_details_pb.js");

const origin = "https://shop.example";
const { server, address } = await start("127.0.0.1:0", { MESH__EDGE__CORS_ORIGINS: origin });
const baseUrl = `http://${address}`;

// The error of a call.
const failure = (call) => call.then(() => new Error("the call succeeded"), (error) => ConnectError.from(error));
const reason = (error) => error.findDetails(ErrorInfoSchema)[0]?.reason;

async function calls(name, transport) {
  const catalog = createClient(CatalogService, transport);
  const { title } = await catalog.createTitle({ requestId: randomUUID(), name: "Metropolis – Ωμέγα", year: 1927 });
  const read = await catalog.getTitle({ titleId: title.titleId });
  check(`${name}: a call returns its answer`, read.title.name === "Metropolis – Ωμέγα", read.title.name);

  const missing = await failure(catalog.getTitle({ titleId: randomUUID() }));
  const isMissing = missing.code === Code.NotFound && reason(missing) === "TITLE_NOT_FOUND";
  check(`${name}: NOT_FOUND has its ErrorInfo`, isMissing, missing.message);
  const wrong = await failure(catalog.createTitle({ requestId: "1", name: "", year: 1 }));
  const fields = wrong.findDetails(BadRequestSchema)[0]?.fieldViolations.map(({ field }) => field).sort().join();
  check(`${name}: INVALID_ARGUMENT lists all fields`, fields === "name,request_id,year", fields);
  const hidden = await failure(createClient(ArtworkService, transport).getRendition({ titleId: title.titleId, size: 1 }));
  check(`${name}: a method without a path is UNIMPLEMENTED`, hidden.code === Code.Unimplemented, hidden.message);
  await streams(name, transport);
}

async function streams(name, transport) {
  const events = createClient(OperationEventsService, transport);
  const { event } = await last(events.watch({ name: await render(address, picture(1000, 1000)) }));
  check(`${name}: a stream ends with its operation`, event.value.done && event.value.result.case === "response", event.case);
  const unknown = await failure(last(events.watch({ name: `services/artwork/operations/${randomUUID()}` })));
  check(`${name}: a stream that fails has its ErrorInfo`, reason(unknown) === "OPERATION_NOT_FOUND", unknown.message);

  const late = await failure(last(events.subscribe({ parent: "services/artwork" }, { timeoutMs: 300 })));
  check(`${name}: a deadline passes`, late.code === Code.DeadlineExceeded, late.message);
}

// The last message of a stream.
async function last(stream) {
  let message;
  for await (message of stream);
  return message;
}

// Calls a method as a client would that has no timer of its own, and returns the answer and its trailers.
async function raw(method, headers, message = []) {
  const body = Uint8Array.from([0, 0, 0, 0, message.length, ...message]);
  const all = { "content-type": "application/grpc-web+proto", "x-grpc-web": "1", ...headers };
  const response = await fetch(`${baseUrl}/${method}`, { method: "POST", headers: all, body });
  return { response, text: Buffer.from(await response.arrayBuffer()).toString("latin1") };
}

async function deadline() {
  // The field 1, a text.
  const parent = Buffer.from("services/artwork");
  const message = [0x0a, parent.length, ...parent];
  const method = "mesh.operations.v1.OperationEventsService/Subscribe";
  const { response, text } = await raw(method, { "grpc-timeout": "300m" }, message);
  const isLast = /\x80\0\0..grpc-status: 4\r\n/s.test(text);
  check("the server ends a stream at its deadline", response.status === 200 && isLast, text.slice(-200));
}

async function pages() {
  const method = "catalog.v1.CatalogService/ListTitles";
  const asked = ["content-type", "x-grpc-web", "x-user-agent", "grpc-timeout"];
  const preflight = (page) => fetch(`${baseUrl}/${method}`, {
    method: "OPTIONS",
    headers: { origin: page, "access-control-request-method": "POST", "access-control-request-headers": asked.join(",") },
  });
  const list = (response, name) => (response.headers.get(`access-control-${name}`) ?? "").split(/, */);
  const allowed = await preflight(origin);
  check("a preflight allows the page", allowed.status === 204 && list(allowed, "allow-origin")[0] === origin, allowed.status);
  check("a preflight allows POST", list(allowed, "allow-methods").includes("POST"), list(allowed, "allow-methods"));
  const sent = list(allowed, "allow-headers");
  check("a preflight allows the headers of gRPC-Web", asked.every((it) => sent.includes(it)), sent);
  const called = (await raw(method, { origin })).response;
  const status = ["grpc-status", "grpc-message", "grpc-status-details-bin"];
  check("the page may read the answer", called.status === 200 && list(called, "allow-origin")[0] === origin);
  const readable = list(called, "expose-headers");
  check("the page may read the status", status.every((it) => readable.includes(it)), readable);
  const refused = await preflight("https://evil.example");
  check("a preflight does not allow another page", !refused.headers.has("access-control-allow-origin"));
  const foreign = await raw(method, { origin: "https://evil.example" });
  check("another page calls nothing", foreign.response.status === 403, foreign.response.status);
}

try {
  await calls("fetch", overFetch({ baseUrl }));
  await calls("HTTP/2", overNode({ baseUrl, httpVersion: "2" }));
  await deadline();
  await pages();
  await stop(server);
  end();
} catch (error) {
  end(error);
}
