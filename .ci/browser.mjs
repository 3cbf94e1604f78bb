// The page /docs in Chromium: a title is added and its picture uploaded by the forms, and the rendering is followed while
// the monolith restarts.

import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import puppeteer from "puppeteer-core";
import { check, end, operation, picture, start, stop } from "./monolith.mjs";

const file = `${import.meta.dirname}/picture.png`;
writeFileSync(file, picture());
let { server, address } = await start();
const browser = await puppeteer.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
const page = await browser.newPage();
const errors = [];
const foreign = [];
page.on("pageerror", (error) => errors.push(error.message));
page.on("console", (message) => {
  // A connection that is refused while the server restarts is expected.
  if (message.type() === "error" && !/Failed to load resource|ERR_/.test(message.text())) errors.push(message.text());
});
// Requests to methods without the token, and addresses with it.
const TOKEN = "a.b.c";
const leaks = [];
page.on("requestfinished", (request) => {
  const { authorization = "" } = request.headers();
  const isRight = !request.url().includes("/v1/") || authorization === `Bearer ${TOKEN}`;
  if (!isRight || request.url().includes(TOKEN)) leaks.push([request.url(), authorization]);
  if (!request.url().startsWith(`http://${address}/`) && !request.url().startsWith("blob:")) foreign.push(request.url());
});

// The field of a method's form that has a label.
const field = (id, label) => page.evaluateHandle((id, label) => {
  const labels = [...document.querySelectorAll(`#${id} label`)];
  return labels.find((it) => it.innerText.startsWith(label))?.querySelector("input, textarea");
}, id, label);

// Enters a value as a reader does. It runs in the page.
function enter(input, value) {
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
}

// Opens a method, fills its form, and sends it.
async function send(id, fill) {
  await page.waitForSelector(`#${id}`);
  await page.$eval(`#${id}`, (method) => (method.open = true));
  await page.waitForSelector(`#${id} form`);
  for (const [label, value] of Object.entries(fill)) {
    const input = await field(id, label);
    if (label === "file") await input.uploadFile(value);
    else await input.evaluate(enter, value);
  }
  await page.$eval(`#${id} form`, (form) => form.requestSubmit());
}

// The answer of a method as JSON, once its status is there.
async function answer(id) {
  await page.waitForFunction((id) => /^\d{3} /.test(document.querySelector(`#${id} .answer p`)?.innerText ?? ""), {}, id);
  const texts = (answer) => ["p", "pre"].map((part) => answer.querySelector(part)?.innerText);
  const [status, json] = await page.$eval(`#${id} .answer`, texts);
  if (!status.startsWith("200")) throw new Error(`${id}: ${status} ${json}`);
  return JSON.parse(json);
}

// The operations of the events that the page shows.
async function events() {
  const shown = await page.$$eval("#OperationEventsService_Watch .events pre", (all) => all.map((it) => it.innerText));
  return shown.map((json) => operation(JSON.parse(json))).filter(Boolean);
}

async function follow(name) {
  const [, service, , id] = name.split("/");
  await send("OperationEventsService_Watch", { service, operation: id, progress: "PROGRESS_ALL" });
  // The first size is rendered, and others follow.
  await page.waitForFunction(() => /"progress"/.test(document.querySelector("#OperationEventsService_Watch .events")?.innerText));
  await stop(server);
  const before = await events();
  ({ server } = await start(address));
  const isEnded = () => document.querySelector("#OperationEventsService_Watch .answer p").innerText === "ended";
  const ended = await page.waitForFunction(isEnded, { timeout: 60_000 }).then(() => true, () => false);
  const all = await events();
  const revisions = all.map((it) => Number(it.metadata.revision));
  const isWithin = before.length > 0 && !before.at(-1).done && all.length > before.length;
  check("the restart fell within the rendering", isWithin, `${before.length} of ${all.length} events before it`);
  check("the page shows each event once", revisions.every((it, at) => it === revisions[0] + at), revisions);
  check("the page shows the end of the operation", ended && all.at(-1).metadata.state === "STATE_SUCCEEDED", all.at(-1));
}

try {
  await page.goto(`http://${address}/docs`, { waitUntil: "networkidle0" });
  await page.$eval("#token", enter, TOKEN);
  const body = JSON.stringify({ requestId: randomUUID(), name: "Metropolis", year: 1927 });
  await send("CatalogService_CreateTitle", { body });
  const { titleId } = await answer("CatalogService_CreateTitle");
  await send("ArtworkService_RenderArtwork_2", { titleId, file });
  await follow((await answer("ArtworkService_RenderArtwork_2")).name);

  await send("ArtworkService_DownloadRendition", { titleId, size: "SIZE_THUMBNAIL" });
  const width = await page.waitForFunction(() => document.querySelector("#ArtworkService_DownloadRendition img")?.naturalWidth);
  check("the page shows the picture", await width.jsonValue() === 160, await width.jsonValue());

  check("the token is in the headers of requests alone", leaks.length === 0, leaks);
  const commands = await page.$$eval(".curl", (all) => all.map((it) => it.innerText));
  const isKept = commands.every((it) => it.includes("Bearer $TOKEN") && !it.includes("a.b.c"));
  check("the commands to copy have a place for the token", isKept, commands);

  await page.goto(`http://${address}/errors/catalog/TITLE_NOT_FOUND`, { waitUntil: "networkidle0" });
  const shown = await page.$$eval("main > section > details", (all) => all.filter((it) => !it.hidden).map((it) => it.id));
  const isRight = shown.includes("CatalogService_GetTitle") && !shown.includes("CatalogService_ListTitles");
  check("the page of an error shows the methods that have it", isRight, shown);
  check("the page runs without an error", errors.length === 0, errors);
  check("the page loads from the monolith alone", foreign.length === 0, foreign);
  await browser.close();
  await stop(server);
  end();
} catch (error) {
  await browser.close();
  end(error);
}
