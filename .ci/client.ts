// Calls the monolith with a generated client: a title is created, read and listed, and errors have their problems. The
// compiler checks that each call and each field is one of the document. Argument: the URL of the monolith.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type CreateTitle = components["schemas"]["catalog.v1.CreateTitleRequest"];
type Title = components["schemas"]["catalog.v1.Title"];
type Problem = components["schemas"]["Problem"];

const baseUrl = process.argv[2];
assert(baseUrl, "the URL is missing");
const client = createClient<paths>({ baseUrl });

// The reason of a problem, and the fields that it names.
function problem(error: Problem | undefined) {
  assert(error, "the call succeeded");
  const { status, type, details } = error;
  const violations = details.flatMap((detail) => (detail.fieldViolations ?? []) as { field: string }[]);
  return { status, reason: type.split("/").at(-1), fields: violations.map((violation) => violation.field) };
}

const body: CreateTitle = { requestId: randomUUID(), name: "Metropolis", year: 1927, priceCents: "399" };
const created = await client.POST("/v1/titles", { body });
assert.equal(created.error, undefined);
const title: Title | undefined = created.data;
assert(title?.titleId);
assert.deepEqual([title.name, title.year, title.priceCents, title.synopsis], ["Metropolis", 1927, "399", ""]);

const path = { titleId: title.titleId };
const read = await client.GET("/v1/titles/{titleId}", { params: { path } });
assert.deepEqual(read.data, title);

const second = await client.POST("/v1/titles", { body: { ...body, requestId: randomUUID(), name: "M", year: 1931 } });
const first = await client.GET("/v1/titles", { params: { query: { pageSize: 1 } } });
assert.deepEqual(first.data?.titles, [title]);
const pageToken = first.data?.nextPageToken;
assert(pageToken, "there is another page");
const rest = await client.GET("/v1/titles", { params: { query: { pageSize: 1, pageToken } } });
assert.deepEqual(rest.data, { titles: [second.data], nextPageToken: "" });

const changed = await client.PATCH("/v1/titles/{titleId}", {
  params: { path },
  body: { revision: title.revision, synopsis: "A city." },
});
assert.deepEqual([changed.data?.synopsis, changed.data?.name, changed.data?.revision], ["A city.", "Metropolis", "2"]);

const bad = await client.POST("/v1/titles", { body: { ...body, requestId: randomUUID(), year: 1887, name: "" } });
assert.deepEqual(problem(bad.error), { status: 400, reason: "INVALID_FIELDS", fields: ["name", "year"] });
const absent = await client.GET("/v1/titles/{titleId}", { params: { path: { titleId: randomUUID() } } });
assert.deepEqual(problem(absent.error), { status: 404, reason: "TITLE_NOT_FOUND", fields: [] });

console.log("the generated client creates, reads, lists and changes titles, and reads problems");
