// The page /demo in Chromium: titles are added, rendered and rented, while services are killed and started again. And in front
// of a process that asks for tokens.

import { execFileSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import puppeteer from "puppeteer-core";
import { check, end, picture, start, stop } from "./monolith.mjs";

const LIMIT = 60_000;
// Each process that is started adds a listener.
process.setMaxListeners(20);
const file = `${import.meta.dirname}/picture.png`;
writeFileSync(file, picture());

// Each service with the services that it calls, in an order in which they can start.
const CALLS = {
  catalog: [],
  billing: [],
  artwork: ["catalog"],
  library: ["catalog", "billing"],
  composer: ["catalog", "artwork", "library"],
  mobile: ["catalog", "artwork", "library"],
  tv: ["catalog", "artwork", "library"],
  gateway: ["catalog", "artwork", "library", "billing", "composer", "mobile", "tv"],
};
const processes = {};

// Starts a service, at its address if it had one.
async function run(name) {
  const peers = CALLS[name].map((peer) => [`MESH__STATIC__${peer.toUpperCase()}`, processes[peer].address]);
  const settings = { MESH__REGISTRY: "static", ...Object.fromEntries(peers) };
  const program = `${dirname(process.env.MONOLITH)}/${name}`;
  processes[name] = await start(processes[name]?.address, settings, program);
}

const kill = (name) => stop(processes[name].server, "SIGKILL");

for (const name of Object.keys(CALLS)) await run(name);
const { address } = processes.gateway;
const browser = await puppeteer.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
let page = await browser.newPage();
page.setDefaultTimeout(LIMIT);
const [errors, foreign] = [[], []];
page.on("pageerror", (error) => errors.push(error.message));
page.on("console", (message) => {
  // Connections that are refused while a process is away are expected.
  if (message.type() === "error" && !/Failed to load resource|ERR_/.test(message.text())) errors.push(message.text());
});
// A server without `auth.mode` takes any token.
const TOKEN = "a.b.c";
// Requests without the token once the reader is signed in, and addresses with it. Pictures are for all.
const leaks = [];
let isSigned = false;
page.on("requestfinished", (request) => {
  const url = request.url();
  const { authorization = "" } = request.headers();
  const needs = isSigned && url.includes("/v1/") && !url.includes("/renditions/");
  if (url.includes(TOKEN) || (needs && authorization !== `Bearer ${TOKEN}`)) leaks.push([request.method(), url, authorization]);
  if (!url.startsWith(`http://${address}/`) && !url.startsWith("blob:")) foreign.push(url);
});

// Waits until a text is in the elements of a selector.
const says = (selector, text) => page.waitForFunction((selector, text) =>
  [...document.querySelectorAll(selector)].some((it) => it.innerText.includes(text)), {}, selector, text);
const texts = (selector) => page.$$eval(selector, (all) => all.map((it) => it.innerText));
const loaded = (selector) => page.$$eval(selector, (all) => all.filter((it) => it.naturalWidth > 0).length);

async function shoot(name) {
  await page.evaluate(() => document.querySelector("dialog[open]") ?? scrollTo(0, 0));
  if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}.png` });
}

// Opens the page of a title, by its name on the television.
async function open(name) {
  await page.evaluate((name) => {
    [...document.querySelectorAll(".tile")].find((it) => it.querySelector("strong").innerText === name).click();
  }, name);
  await page.waitForFunction((name) => document.querySelector("#title-name")?.innerText.startsWith(`${name} (`), {}, name);
}

async function close() {
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => !document.querySelector("dialog[open]"));
}

async function upload() {
  await (await page.$("#title input[type=file]")).uploadFile(file);
  await page.$eval("#title .upload", (form) => form.requestSubmit());
}

async function rent(card) {
  await page.select("#title select", card);
  await page.$eval("#title .rent", (form) => form.requestSubmit());
}

// The numbers of the percent bar, as they come.
async function percents() {
  await page.evaluate(() => {
    window.seen = [];
    const see = () => {
      const text = document.querySelector("#title .percent")?.innerText;
      if (text && text !== window.seen.at(-1)) window.seen.push(text);
    };
    new MutationObserver(see).observe(document.querySelector("#title"), { subtree: true, childList: true, characterData: true });
  });
  return () => page.evaluate(() => window.seen);
}

async function enter(token) {
  await page.click("#sign-in");
  await page.type("#sign input", token);
  await page.keyboard.press("Enter");
  await says("#sign-in", "Signed in");
}

async function signsIn() {
  await enter(TOKEN);
  // Requests that have begun before.
  await page.waitForNetworkIdle({ concurrency: 2 });
  isSigned = true;
}

async function adds() {
  await page.goto(`http://${address}/demo`);
  await says(".tv .empty", "No titles yet");
  check("the page is where the redirect leads", page.url() === `http://${address}/demo/`, page.url());
  await page.evaluate(() => (window.isSame = true));
  await signsIn();
  await page.click("#samples");
  await page.waitForFunction(() => document.querySelectorAll(".tile img[src], .card img[src]").length === 10);
  await page.waitForNetworkIdle({ concurrency: 2 });
  const shown = [await loaded(".tile img"), await loaded(".card img")];
  check("both screens show five pictures", shown.every((it) => it === 5), shown);
  const [tv, phone] = await texts(".cost");
  const bytes = (text) => text.match(/([\d.]+) kB of pictures/)?.[1];
  const isSaid = [tv, phone].every((it) => /^[\d.]+ k?B.* in \d+ ms/.test(it));
  check("both screens say what they took", isSaid && bytes(tv) > 3 * bytes(phone) && bytes(phone) > 0, [tv, phone]);
}

async function byKeyboard() {
  await page.focus("#add");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#new[open]");
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => !document.querySelector("dialog[open]"));
  await page.focus(".tile");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#title[open] .rent");
  await close();
  const focused = await page.evaluate(() => document.activeElement.className);
  check("dialogs open and close by the keyboard, and the focus returns", focused.includes("tile"), focused);
}

// The answer to the first request is lost, so the page sends it again.
async function losesAnAnswer() {
  const keys = [];
  const lose = async (request) => {
    if (request.method() !== "POST") return request.continue();
    keys.push(request.headers()["idempotency-key"]);
    if (keys.length > 1) return request.continue();
    await fetch(request.url(), { method: "POST", headers: request.headers(), body: request.postData() });
    return request.abort("connectionreset");
  };
  await page.setRequestInterception(true);
  page.on("request", lose);
  await page.click("#add");
  await page.type("#new [name=name]", "Sunrise");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => !document.querySelector("dialog[open]"));
  page.off("request", lose);
  await page.setRequestInterception(false);
  await says(".tile strong", "Sunrise");
  check("a request is sent again with its key", keys.length === 2 && keys[0] === keys[1], keys);
  const names = (await texts(".tile strong")).filter((it) => it === "Sunrise");
  check("a title whose answer was lost is there once", names.length === 1, names);
}

async function renders() {
  await open("Sunrise");
  const seen = await percents();
  await upload();
  await says("#title .percent", "100 %");
  check("the television shows the progress", (await seen()).length >= 4, await seen());
  await says(".notices", "Sunrise: The picture is ready.");
  await page.waitForFunction(() => document.querySelector("#title > img").naturalWidth > 0);
  check("the phone shows one notice", (await texts(".notices p")).filter((it) => it.startsWith("Sunrise")).length === 1);
  await close();
}

async function rents() {
  await open("Metropolis");
  await rent("test");
  await says("#title .rental", "Yours until");
  const steps = await texts("#title .steps li");
  check("a rental has three steps", steps.join() === "reserve: done,charge: done,grant: done", steps);
  await shoot("rented");
  await close();
  await says(".tile.rented", "yours until");
  await shoot("demo");
  await open("Nosferatu");
  await rent("test-declined");
  await says("#title .operation.failed", "CARD_DECLINED");
  const undone = await texts("#title .steps li");
  check("a declined rental is undone", undone.join() === "reserve: undone,charge: undone", undone);
  await shoot("declined");
  await close();
  check("a declined title is not rented", (await texts(".tile.rented strong")).join() === "Metropolis");
}

// The end of a stream is announced, and the page opens another.
async function survivesADrain() {
  await open("Sunrise");
  await upload();
  await page.waitForFunction(() => document.querySelector("#title .percent")?.innerText === "25 %");
  await stop(processes.tv.server);
  await run("tv");
  const before = await texts("#title .percent");
  await says("#title .percent", "100 %");
  check("a drain fell within the rendering", before[0] !== "100 %", before);
  await close();
}

async function survivesArtwork() {
  await open("Nosferatu");
  await upload();
  await page.waitForFunction(() => ["25 %", "50 %"].includes(document.querySelector("#title .percent")?.innerText));
  await kill("artwork");
  await says(".tv .missing", "artwork does not answer");
  await says(".phone .missing", "artwork does not answer");
  await says("#title .missing", "artwork does not answer");
  const shown = [await loaded(".tile img"), await loaded(".card img")];
  check("the pictures stay while artwork is away", shown.every((it) => it === 6), shown);
  const before = await texts("#title .percent");
  await shoot("artwork-away");
  await run("artwork");
  await says("#title .percent", "100 %");
  check("the kill fell within the rendering", before[0] !== "100 %", before);
  await page.waitForFunction(() => [...document.querySelectorAll(".missing")].every((it) => it.innerText === ""));
  await close();
}

async function survivesTheGateway() {
  await open("Nosferatu");
  await upload();
  await page.waitForFunction(() => document.querySelector("#title .percent")?.innerText === "25 %");
  await kill("gateway");
  await says("#title .server", "does not answer");
  // It is sent while no server is there.
  await rent("test");
  await sleep(2000);
  await shoot("gateway-away");
  const shown = await loaded(".tile img");
  await run("gateway");
  await says("#title .rental", "Yours until");
  check("the titles stay while the gateway is away", shown === 6, shown);
  await says(".notices", "Nosferatu: The picture is ready.");
  await page.waitForFunction(() => [...document.querySelectorAll(".server")].every((it) => it.innerText === ""));
  await close();
  const rented = await page.evaluate(async (token) => {
    const headers = { Authorization: `Bearer ${token}` };
    return (await fetch(`/v1/rentals?viewer_id=${localStorage["films.viewer"]}`, { headers })).json();
  }, TOKEN);
  const states = rented.rentals.map((it) => it.state).sort();
  const expected = ["RENTAL_STATE_GRANTED", "RENTAL_STATE_GRANTED", "RENTAL_STATE_RELEASED"];
  check("each rental was made once", states.join() === expected.join(), states);
  check("the page was never loaded again", await page.evaluate(() => window.isSame));
}

// Texts whose contrast is below 4.5, with their colours. It runs in the page.
function faint() {
  const rgba = (color) => color.match(/[\d.]+/g).map(Number);
  const light = ([red, green, blue]) => {
    const [r, g, b] = [red, green, blue].map((it) => it / 255).map((it) => (it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let it = node; it; it = it.parentElement) {
      const color = rgba(getComputedStyle(it).backgroundColor);
      if (color[3] !== 0) return color;
    }
    return [255, 255, 255];
  };
  const isText = (node) => [...node.childNodes].some((it) => it.nodeType === Node.TEXT_NODE && it.data.trim());
  return [...document.querySelectorAll("body *")].filter((it) => isText(it) && it.checkVisibility()).flatMap((node) => {
    const [text, paper] = [light(rgba(getComputedStyle(node).color)), light(behind(node))];
    const contrast = (Math.max(text, paper) + 0.05) / (Math.min(text, paper) + 0.05);
    return contrast < 4.5 ? [`${node.tagName} "${node.innerText.slice(0, 20)}" ${contrast.toFixed(1)}`] : [];
  });
}

async function isReadable() {
  for (const [scheme, width, height] of [["light", 1280, 800], ["dark", 1280, 800], ["light", 360, 740], ["dark", 360, 740]]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await page.setViewport({ width, height });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    check(`${scheme} at ${width}: nothing is cut off`, wide <= width, wide);
    check(`${scheme} at ${width}: every text is readable`, (await page.evaluate(faint)).length === 0, await page.evaluate(faint));
    await shoot(`${scheme}-${width}`);
    await open("Metropolis");
    check(`${scheme} at ${width}: so is the page of a title`, (await page.evaluate(faint)).length === 0, await page.evaluate(faint));
    await shoot(`${scheme}-${width}-title`);
    await close();
  }
}

// A process with `auth.mode = "required"`, and a token of the issuer for development.
async function asksForAToken() {
  const folder = mkdtempSync(`${import.meta.dirname}/required-`);
  writeFileSync(`${folder}/mesh.toml`, `[edge]\nweb = "/demo=${resolve("examples/web")}"\n`);
  const scopes = ["--scope", "catalog.write", "--scope", "artwork.write"];
  const mesh = `${dirname(process.env.MONOLITH)}/mesh`;
  const token = execFileSync(mesh, ["token", "--sub", "you", ...scopes], { cwd: folder, encoding: "utf8" }).trim();
  const settings = { MESH__AUTH__MODE: "required", MESH__DATA_DIR: `${folder}/data` };
  const { server, address } = await start("127.0.0.1:0", settings, process.env.MONOLITH, folder);
  page = await browser.newPage();
  page.setDefaultTimeout(LIMIT);
  await page.goto(`http://${address}/demo/`);
  await says(".token", "The server asks for a token");
  check("a phone shows titles without a token", (await texts(".phone .empty")).join() === "No titles yet.");
  await shoot("token-needed");
  await page.click("#sign-in");
  await shoot("sign-in");
  check("the page names a command for a token", (await texts("#sign .command")).join().includes(scopes.join(" ")));
  await close();
  await enter(token);
  await page.click("#samples");
  await page.waitForFunction(() => document.querySelectorAll(".tile img[src], .card img[src]").length === 10);
  await open("Metropolis");
  await rent("test");
  await says("#title .rental", "Yours until");
  await close();
  const rented = await page.evaluate(async (token) => {
    const answer = await fetch("/v1/rentals", { headers: { Authorization: `Bearer ${token}` } });
    return (await answer.json()).rentals.map((it) => it.viewerId);
  }, token);
  check("the user of the token is the viewer", rented.join() === "you", rented);
  check("a token that is taken is not asked for", (await texts(".token")).join() === "");
  await page.click("#sign-in");
  await page.click("#sign .out");
  await says(".token", "The server asks for a token");
  await enter(TOKEN);
  await says(".token", "The server takes this token no more");
  await stop(server);
}

try {
  await page.setViewport({ width: 1280, height: 800 });
  for (const part of [adds, rents, byKeyboard, losesAnAnswer, renders, survivesADrain, survivesArtwork, survivesTheGateway, isReadable]) await part();
  check("the page runs without an error", errors.length === 0, errors);
  check("the page loads from the gateway alone", foreign.length === 0, foreign);
  check("the token is in the headers of requests alone", leaks.length === 0, leaks);
  for (const { server } of Object.values(processes)) await stop(server);
  await asksForAToken();
  await browser.close();
  end();
} catch (error) {
  await page.screenshot({ path: `${process.env.SCREENSHOTS ?? import.meta.dirname}/failed.png` });
  console.error(await texts("body"), errors);
  await browser.close();
  end(error);
}
