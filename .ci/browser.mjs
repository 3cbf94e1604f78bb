// Drives /docs in Chromium: a title is added and its picture uploaded by the forms, and the rendering is followed while
// the server restarts. Arguments: Chromium, a command that starts the server, a picture.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import puppeteer from "puppeteer-core";

const [chromium, command, picture] = process.argv.slice(2);
const failures = [];

// Starts the server at an address, and returns where it listens.
async function start(listen) {
  const server = spawn(command, [], { env: { ...process.env, MESH__LISTEN: listen }, stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: server.stdout })) {
    const address = line.split(" listening on ")[1];
    if (address) return { server, address };
  }
  throw new Error("the server ended");
}

// Ends the server, and waits for its end.
function stop(server) {
  server.kill("SIGTERM");
  return new Promise((resolve) => server.once("exit", resolve));
}

let { server, address } = await start("127.0.0.1:0");
const browser = await puppeteer.launch({ executablePath: chromium, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  page.on("pageerror", (error) => failures.push(`error: ${error.message}`));
  // A connection that is refused while the server restarts is expected.
  page.on("console", (message) => {
    if (message.type() === "error" && !/Failed to load resource|ERR_/.test(message.text())) failures.push(message.text());
  });
  page.on("requestfinished", (request) => {
    if (!request.url().startsWith(`http://${address}/`) && !request.url().startsWith("blob:")) failures.push(`loads ${request.url()}`);
  });
  await page.goto(`http://${address}/docs`, { waitUntil: "networkidle0" });

  // Opens a method, fills its form, sends it, and returns the form.
  const send = async (id, fill) => {
    await page.waitForSelector(`#${id}`);
    await page.$eval(`#${id}`, (method) => (method.open = true));
    await page.waitForSelector(`#${id} form`);
    for (const [label, value] of Object.entries(fill)) {
      const input = await page.evaluateHandle(
        (id, label) => [...document.querySelectorAll(`#${id} label`)].find((it) => it.innerText.startsWith(label))?.querySelector("input, textarea"),
        id,
        label,
      );
      if (label === "file") await input.uploadFile(value);
      else await input.evaluate((it, value) => { it.value = value; it.dispatchEvent(new Event("input", { bubbles: true })); }, value);
    }
    await page.$eval(`#${id} form`, (form) => form.requestSubmit());
  };
  // The answer of a method as JSON, once its status is there.
  const answer = async (id) => {
    await page.waitForFunction((id) => /^\d{3} /.test(document.querySelector(`#${id} .answer p`)?.innerText ?? ""), {}, id);
    const [status, json] = await page.$eval(`#${id} .answer`, (it) => [it.querySelector("p").innerText, it.querySelector("pre")?.innerText]);
    if (!status.startsWith("200")) throw new Error(`${id}: ${status} ${json}`);
    return JSON.parse(json);
  };

  const body = JSON.stringify({ requestId: crypto.randomUUID(), name: "Metropolis", year: 1927 });
  await send("CatalogService_CreateTitle", { body });
  const { titleId } = await answer("CatalogService_CreateTitle");
  await send("ArtworkService_RenderArtwork_2", { titleId, file: picture });
  const { name } = await answer("ArtworkService_RenderArtwork_2");

  const [, service, , operation] = name.split("/");
  await send("OperationEventsService_Watch", { service, operation, progress: "PROGRESS_ALL" });
  await page.waitForSelector("#OperationEventsService_Watch .events li");
  await stop(server);
  ({ server } = await start(address));
  const state = () => page.$eval("#OperationEventsService_Watch .answer", (it) => it.innerText);
  await page.waitForFunction(
    () => document.querySelector("#OperationEventsService_Watch .answer p").innerText === "ended",
    { timeout: 60_000 },
  ).catch(async () => failures.push(`the stream did not end: ${await state()}`));
  if (!/STATE_SUCCEEDED/.test(await state())) failures.push(`the operation did not succeed: ${await state()}`);
  const ids = await page.$$eval("#OperationEventsService_Watch .events li > p", (items) => items.map((it) => it.innerText));
  const messages = ids.filter((id) => id.startsWith("message"));
  if (new Set(messages).size !== messages.length) failures.push(`an event came twice: ${messages}`);

  await send("ArtworkService_DownloadRendition", { titleId, size: "SIZE_THUMBNAIL" });
  await page.waitForFunction(() => document.querySelector("#ArtworkService_DownloadRendition img")?.naturalWidth === 160);

  await page.goto(`http://${address}/errors/catalog/TITLE_NOT_FOUND`, { waitUntil: "networkidle0" });
  const shown = await page.$$eval("main > section > details", (all) => all.filter((it) => !it.hidden).map((it) => it.id));
  if (!shown.includes("CatalogService_GetTitle") || shown.includes("CatalogService_ListTitles")) failures.push(`errors: ${shown}`);
} catch (error) {
  failures.push(error.stack);
} finally {
  await browser.close();
  await stop(server);
}
for (const failure of failures) console.error(failure);
console.log(failures.length ? "failed" : "the page works");
process.exit(failures.length ? 1 : 0);
