// The page of the dashboard in Chromium: each view in both colour schemes and at two widths, without a mouse, with hostile texts,
// over restarts and lost connections, and within its budget. See .ci/dashboard.

import { readFileSync, readdirSync, mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import puppeteer from "puppeteer-core";
import { MARKUP, TURNED, call, serve } from "./dashboard-hub.mjs";

const { CHROMIUM, DASHBOARD, ONLY, PAGE, PICTURE, SCREENSHOTS } = process.env;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const VIEWS = ["", "services", "calls", "work", "events", "problems", "logs", "contracts", "configuration"];
const UPDATES = 20;
// Bytes of all files, and of each file gzipped; milliseconds for an update.
const BUDGET = { files: 12, raw: 84_500, zipped: 32_500, update: 20 };

let failed = 0;
function check(name, passed, found = "") {
  if (!passed) failed++;
  console.log(passed ? `ok      ${name}` : `FAILED  ${name}: ${JSON.stringify(found)?.slice(0, 2000)}`);
}

// `pipe`: no other program of this machine can drive the browser.
const browser = await puppeteer.launch({ executablePath: CHROMIUM, pipe: true, args: ["--no-sandbox"] });
const [errors, foreign] = [[], []];

// A page of its own, without what others keep.
async function open(address, { width = 1200, scheme = "light", motion = "reduce", view = "" } = {}) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.on("pageerror", (error) => errors.push(error.stack ?? String(error)));
  page.on("console", (message) => {
    // Also violations of the policy. That a hub is away, or does not know a trace, is expected.
    const isExpected = /net::ERR_|Failed to load resource/.test(message.text());
    if (["error", "warn"].includes(message.type()) && !isExpected) errors.push(message.text());
  });
  page.on("request", (request) => request.url().startsWith(new URL("/", address).href) || foreign.push(request.url()));
  await page.emulateMediaFeatures([
    { name: "prefers-color-scheme", value: scheme },
    { name: "prefers-reduced-motion", value: motion },
  ]);
  await page.setViewport({ width, height: 900 });
  await page.goto(`${address}#/${view}`);
  await settled(page);
  return page;
}

const close = (page) => page.browserContext().close();
const text = (page, selector = "body") => page.$eval(selector, (it) => it.innerText);
const shows = (page, words, timeout = 15_000) =>
  page
    .waitForFunction((it) => document.body.innerText.replaceAll("\u00a0", " ").includes(it), { timeout }, words)
    .then(
      () => true,
      () => false,
    );

// Waits until a view has what it shows.
async function settled(page) {
  await page.waitForFunction(() => document.querySelector("main h1") && !/Loading…/.test(document.body.innerText), {
    timeout: 15_000,
  });
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
}

async function go(page, view) {
  await page.evaluate((it) => (location.hash = `#/${it}`), view);
  await settled(page);
}

async function axe(page) {
  await page.evaluate(`window.axe || (() => { ${AXE} })()`);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return violations.map(
    (it) =>
      `${it.id}: ${it.nodes
        .slice(0, 3)
        .map((one) => `${one.target} ${one.any[0]?.message ?? one.all[0]?.message ?? ""}`)
        .join(" | ")}`,
  );
}

// The views of a hub, also with what they open.
async function viewsOf(page) {
  const found = [...VIEWS];
  for (const view of ["services", "calls", "work"]) {
    await go(page, view);
    const key = await page.$eval("[data-row]", (it) => it.dataset.row).catch(() => null);
    if (key) found.push(`${view}?open=${encodeURIComponent(key)}`);
  }
  await go(page, "contracts");
  found.push(...(await page.$$eval("tbody a", (all) => all.slice(0, 1).map((it) => it.hash.slice(2)))));
  await go(page, "problems?show=all");
  found.push(...(await page.$$eval("tbody a", (all) => all.slice(0, 1).map((it) => it.hash.slice(2)))));
  return found;
}

// Each view of a hub, in each way.
async function everyView(name, address) {
  const views = [];
  for (const scheme of ["light", "dark"]) {
    for (const width of [1200, 400]) {
      const page = await open(address, { width, scheme });
      if (!views.length) views.push(...(await viewsOf(page)));
      const [wide, violations] = [[], []];
      for (const view of views) {
        await go(page, view);
        const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        if (over > 0) wide.push([view, over]);
        violations.push(...(await axe(page)).map((it) => `${view}: ${it}`));
        if (SCREENSHOTS) {
          mkdirSync(SCREENSHOTS, { recursive: true });
          await page.screenshot({
            path: `${SCREENSHOTS}/${name}-${view.replace(/[/?].*/, "-open") || "overview"}-${scheme}-${width}.png`,
            fullPage: true,
          });
        }
      }
      check(`${name}, ${scheme}, ${width} px: ${views.length} views fit the width`, !wide.length, wide);
      check(`${name}, ${scheme}, ${width} px: axe finds no violation`, !violations.length, violations);
      await close(page);
    }
  }
}

// --- Without the script of the hub -----------------------------------------------------------------------------------------

async function keyboard(address) {
  const page = await open(address);
  const active = () =>
    page.evaluate(() => {
      const it = document.activeElement;
      return {
        tag: it.tagName,
        text: it.innerText?.trim() ?? "",
        id: it.id,
        row: it.dataset?.row,
        expanded: it.getAttribute("aria-expanded"),
        outline: getComputedStyle(it).outlineStyle,
      };
    });
  const tabTo = async (fits, most = 80) => {
    for (let i = 0; i < most; i++) {
      await page.keyboard.press("Tab");
      const it = await active();
      if (fits(it)) return it;
    }
    return null;
  };
  await page.keyboard.press("Tab");
  const skip = await active();
  await page.keyboard.press("Enter");
  check("the first stop of the keyboard skips to the content", skip.id === "skip" && (await active()).id === "main", skip);
  await page.reload();
  await settled(page);
  const link = await tabTo((it) => it.text.startsWith("Services"));
  check("the focus can be seen", link?.outline === "solid", link);
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("h1").innerText === "Services");
  await page.waitForFunction(() => document.activeElement.tagName === "H1", { timeout: 3000 }).catch(() => {});
  check("a view that opens has the focus", (await active()).tag === "H1", await active());
  const row = await tabTo((it) => it.row);
  await page.keyboard.press("Enter");
  await page.waitForSelector("tr.details");
  check("a row opens by Enter", (await active()).expanded === "true", await active());
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => !document.querySelector("tr.details"));
  check("Esc closes it, and the focus stays", (await active()).row === row.row, await active());
  const hash = await page.evaluate(() => location.hash);
  await go(page, "contracts");
  await page.$eval("tbody a", (it) => it.click());
  await settled(page);
  check("a method that opens has the focus", (await active()).tag === "H1", await active());
  await go(page, `services?open=${encodeURIComponent(row.row)}`);
  check("an open row that a link leads to has the focus", (await active()).row === row.row, await active());
  check("the address of a view can be shared", hash === "#/services", hash);
  await close(page);
}

// --- With it ---------------------------------------------------------------------------------------------------------------

async function traceOfRed(address) {
  for (const [what, selector] of [
    ["a red service", "a.node.down"],
    ["a red arrow", "g.link.bad"],
    ["the list of what is down", ".card .line a"],
  ]) {
    const page = await open(address);
    await page.waitForSelector(selector);
    // Without the mouse: others may lie above the middle of an arrow, and rows move.
    await page.$eval(selector, (it) => it.dispatchEvent(new MouseEvent("click", { bubbles: true })));
    await sleep(200);
    const trace = await page.$("main a[href^='#/traces/']");
    await trace?.evaluate((it) => it.click());
    check(
      `from ${what}, its trace is two clicks away`,
      trace && (await shows(page, "The innermost failure: NO_ENDPOINTS")),
      await text(page, "main"),
    );
    await close(page);
  }
  const page = await open(address);
  const words = await text(page, "main");
  check("the start says what is down and why", /^catalog is down/.test(words) && words.includes("NO_ENDPOINTS"), words);
  await go(page, "traces/00000000000000000000000000000000");
  check("an unknown trace is said", (await text(page, "main")).includes("TRACE_NOT_FOUND"));
  await close(page);
}

const CLOCK = "\\d\\d:\\d\\d:\\d\\d";
const matches = async (page, pattern) => {
  const fits = (it) => new RegExp(it).test(document.querySelector("main").innerText.replaceAll("\u00a0", " "));
  await page.waitForFunction(fits, { timeout: 8000 }, pattern).catch(() => {});
  return page.evaluate(fits, pattern);
};

// The start says which call is the slowest now, and where its time goes.
async function slowest() {
  const hub = await serve("normal");
  hub.isManual = true;
  const { scene } = hub;
  scene.traceAt = scene.at - 600_000;
  for (const it of scene.processes) it.slow = 0.5;
  const page = await open(hub.address);
  const card = async () => (await text(page, "main")).match(/Slowest[^]*(?=Call graph)/)?.[0];
  const none = "No call of the last minute was kept: calls under 500 ms are not \\(dashboard.slow\\)\\.";
  check(
    "a slow call of ten minutes ago is not one of the last minute",
    await matches(page, `${none} Slowest call kept since the start: 1.24 s outside → composer at ${CLOCK}`),
    await card(),
  );
  const trace = "0af7651916cd43dd8448eb211c80319c";
  const rent = { caller: "", callee: "library", method: "library.v1.LibraryService/RentTitle" };
  scene.kept = [call({ side: "server", span: "r1", parent: "", ...rent, start: scene.at - 50_000, took: 0.4, trace })];
  check(
    "the slowest call of the last minute has its time, its clock and its trace",
    (await matches(page, `Slowest call kept of the last minute: 400 ms outside → library at ${CLOCK}`)) &&
      (await page.$eval(".more a", (it) => it.hash)) === `#/traces/${trace}`,
    await card(),
  );
  const row = (await page.$$eval(".card li", (all) => all.map((it) => [it.innerText, it.querySelector("p.links a")?.hash]))).find(
    ([it]) => it.includes("RentTitle") && it.includes("p99"),
  );
  check("and so has its row", row && /400 ms at \d\d:/.test(row[0]) && row[1] === `#/traces/${trace}`, row);
  for (let i = 0; i < 11; i++) hub.tick();
  check("which goes after a minute", await matches(page, none), await card());
  await go(page, "problems");
  const caption = await text(page, "caption");
  check("problems say from when on calls are slow", caption.includes("slow (500 ms or more: dashboard.slow)"), caption);
  await close(page);
  hub.stop();
}

// A page measures since it was opened.
async function measures() {
  const hub = await serve("normal");
  hub.isManual = true;
  const page = await open(hub.address);
  const old = "p99 [^]*?of \\d+ calls? since the start";
  check("a page that opens says that times are since the start", await matches(page, old), await text(page, "main"));
  for (let i = 0; i < 9; i++) hub.tick();
  check("and since when it measures", await matches(page, "Slowest, measured for 9 s"), await text(page, "main"));
  for (let i = 9; i < 61; i++) hub.tick();
  const isLate = await matches(page, "Slowest, of the last minute");
  const late = await text(page, "main");
  check("and, after a minute, that they are of the last", isLate && !/calls? since the start/.test(late), late);
  await go(page, "calls");
  check("the table of calls says so, too", await matches(page, "times of the last minute"), await text(page, "caption"));
  await page.reload();
  await settled(page);
  const cells = () => page.$$eval("td.number", (all) => all.map((it) => it.innerText).join("|"));
  const isMarked = (await matches(page, "times measured for 0 s")) && (await matches(page, "ms\\s+since the start"));
  check("and marks times since the start", isMarked, await cells());
  await go(page, "contracts/catalog.v1.CatalogService%2FListTitles");
  const callers = "mobile [\\d.–/s]+, p50 [^,]*, p99 [^,]* of \\d+ calls since the start";
  check("and so do callers of a method", await matches(page, callers), await text(page, ".facts"));
  await close(page);
  hub.stop();
}

async function summaries() {
  const hub = await serve("down");
  const at = hub.scene.at - 9_000;
  const of = (caller, callee, name, more) => call({ caller, callee, method: `${callee}.v1.Service/${name}`, ...more });
  hub.scene.traced = [
    of("", "tv", "GetHome", {
      side: "server",
      span: "a",
      parent: "",
      start: at,
      took: 1,
      code: "UNAVAILABLE",
      reason: "NO_ENDPOINTS",
    }),
    of("tv", "library", "List", { span: "b", parent: "a", start: at + 10, took: 0.9, code: "INTERNAL", reason: "BROKEN" }),
    of("tv", "artwork", "Batch", { span: "c", parent: "a", start: at + 11, took: 0.5 }),
    of("tv", "catalog", "List", { span: "d", parent: "a", start: at + 12, took: 0.4 }),
    // A consequence, and what goes on after the caller has left.
    of("tv", "library", "List", {
      side: "server",
      span: "b2",
      parent: "b",
      start: at + 20,
      took: 4,
      code: "CANCELLED",
      reason: "CANCELLED",
    }),
    of("library", "billing", "Charge", {
      span: "e",
      parent: "b2",
      start: at + 30,
      took: 0.1,
      code: "CANCELLED",
      reason: "CANCELLED",
    }),
  ];
  const page = await open(hub.address, { view: "traces/4bf92f3577b34da6a3ce929d0e0e4736" });
  const words = (await text(page, "main")).replace(/\s+/g, " ");
  const says = (name, pattern) => check(name, pattern.test(words), words);
  says(
    "a trace takes as long as its first call, with its time of day",
    /At \d\d:\d\d:\d\d, 1 s in all; 8\d\d ms of it in library itself/,
  );
  says("the innermost failure is the cause and no cancellation", /The innermost failure: BROKEN of library/);
  says("the first call is from outside", /outside → tv Service\/GetHome/);
  says("a process that answers has kept no record", /artwork kept no record: it took less than dashboard.slow there/);
  says("one that does not leaves a gap", /catalog did not answer: a gap/);
  await close(page);
  hub.stop();
}

async function hostile() {
  const hub = await serve("hostile");
  const page = await open(hub.address);
  const [found, missing] = [[], []];
  const views = [
    ...VIEWS,
    `contracts/${encodeURIComponent(MARKUP)}`,
    `services?open=${encodeURIComponent(MARKUP)}`,
    `traces/${encodeURIComponent(MARKUP)}`,
    "contracts/catalog.v1.CatalogService%2FGetTitle",
  ];
  for (const view of views) {
    await go(page, view);
    if (view.includes("GetTitle")) {
      await page.click(".try [type=submit]");
      await shows(page, "onerror");
    }
    const it = await page.evaluate(() => {
      const texts = [];
      for (
        const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
        walk.nextNode();
      ) {
        const node = walk.currentNode;
        // The value of an option is sent, and not shown.
        texts.push(...(node.data ? [node.data] : [...node.attributes].filter((it) => it.name !== "value").map((it) => it.value)));
      }
      return {
        elements: [...document.querySelectorAll("img, body script, iframe, object, [onerror], [style*=url]")].map(
          (it) => it.outerHTML,
        ),
        harm: window.harm,
        turned: texts.some((it) => it.includes("\u202E")),
        longest: Math.max(...texts.map((it) => it.length)),
        words: document.body.innerText,
      };
    });
    if (it.elements.length || it.harm || it.turned || it.longest > 13_000) found.push([view, { ...it, words: "" }]);
    if (view !== "events" && !view.includes("%3C") && !it.words.includes("onerror=")) missing.push(view);
  }
  check("hostile texts make no element, and turn no text", !found.length, found);
  check("hostile texts are shown as texts", !missing.length, missing);
  await go(page, "calls");
  const words = await text(page);
  check("marks of direction can be seen", words.includes(TURNED.replace("\u202E", "‹U+202E›")), "");
  check("a text of 1 MiB is cut", words.includes("characters)"), "");
  check("hostile texts fit the width", await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  await close(page);
  hub.stop();
}

const numbers = (page) => page.$$eval("td.number", (all) => all.map((it) => it.innerText));

async function restarts() {
  const hub = await serve("restart");
  hub.isManual = true;
  const page = await open(hub.address, { view: "calls" });
  const seen = [];
  const tick = async () => {
    hub.tick();
    await sleep(60);
    seen.push(...(await numbers(page)));
  };
  for (let i = 0; i < 6; i++) await tick();
  for (const { id } of hub.scene.processes) hub.scene.restart(id);
  for (let i = 0; i < 6; i++) await tick();
  check(
    "a restart makes no negative number",
    seen.length > 500 && !seen.some((it) => /[-−]\d|NaN|undefined|Infinity/.test(it)),
    seen.filter((it) => /[-−]\d|NaN|undefined/.test(it)),
  );
  check("rates come back after a restart", (await text(page, "tbody tr")).includes("/s"), await text(page, "tbody tr"));
  await close(page);
  hub.stop();
}

async function quantiles() {
  const hub = await serve("frozen");
  const [row] = hub.scene.edges.map((it) => it.row).filter((it) => it.side === "client");
  const copy = (start, codes, buckets) => ({
    ...row,
    key: `copy ${start}`,
    start,
    process: start,
    codes,
    buckets,
    at: hub.scene.at,
  });
  // 9,900 calls of 1 to 1.25 ms (number 40), 200 of 14.3 to 16.4 ms (55): the p99 is in the middle of the second bucket. The mean of both is 8 ms.
  hub.scene.edges = [copy("a", { 0: 9900 }, [[41, 9900]]), copy("b", { 0: 200 }, [[55, 200]])].map((it) => ({ row: it }));
  const page = await open(hub.address, { view: "calls" });
  const p99 = await page.$$eval(
    "tbody tr",
    (all) =>
      all[0].parentElement &&
      [...document.querySelectorAll("tbody tr")].find((it) => it.innerText.includes("ms"))?.querySelectorAll("td")[3].innerText,
  );
  check("quantiles are read from merged buckets", /^1[3-6](\.\d+)? ms\s+since the start$/.test(p99 ?? ""), p99);
  await close(page);
  hub.stop();
}

async function reconnects() {
  const hub = await serve("normal");
  const page = await open(hub.address, { view: "calls" });
  const live = () =>
    page
      .waitForFunction(() => /●\slive/.test(document.body.innerText), { timeout: 25_000 })
      .then(
        () => true,
        () => false,
      );
  await live();
  hub.isOpen = false;
  let attempts = 0;
  page.on("request", (request) => (attempts += request.url().endsWith("/events") ? 1 : 0));
  hub.drop();
  check("a lost connection is shown, with the age of what is shown", await shows(page, "reconnecting… this is of"));
  check("old numbers are greyed", await page.evaluate(() => getComputedStyle(document.querySelector("main")).filter !== "none"));
  check("what is greyed has no violation of axe", !(await axe(page)).length, await axe(page));
  await sleep(5000);
  check("attempts to reconnect are few", attempts >= 2 && attempts <= 5, attempts);
  hub.isOpen = true;
  check("the page reconnects by itself", await live());
  check("the colours are back", await page.evaluate(() => getComputedStyle(document.querySelector("main")).filter === "none"));
  hub.scene.isIdle = true;
  await sleep(13_000);
  const rates = await page.$$eval("tbody td:nth-child(2)", (all) => all.map((it) => it.innerText));
  check(
    "rates fall to 0 while the hub has nothing to say",
    (await live()) && rates.every((it) => it === "0/s" || it === "–"),
    rates,
  );
  check("a hub that has nothing to say is kept", hub.streams.size === 1 && attempts <= 6, [hub.streams.size, attempts]);
  hub.isManual = hub.isStopped = true;
  check("a hub that hangs is left", await shows(page, "reconnecting…", 20_000));
  hub.isManual = hub.isStopped = false;
  check("and found again", await live());
  check("a page has one stream", hub.streams.size === 1, hub.streams.size);
  await close(page);
  await sleep(100);
  check("a closed page leaves none", hub.streams.size === 0, hub.streams.size);
  hub.stop();
}

async function actions() {
  const hub = await serve("normal");
  const page = await open(hub.address, { view: "contracts/catalog.v1.CatalogService%2FGetTitle" });
  await page.click(".try [type=submit]");
  check(
    "a read is called by one click",
    (await shows(page, "Metropolis")) && hub.scene.called.method === "catalog.v1.CatalogService/GetTitle",
    hub.scene.called,
  );
  hub.scene.called = null;
  await page.$$eval(".try summary", (all) => all.find((it) => it.innerText === "As grpcurl").click());
  check("the call as grpcurl", await shows(page, "grpcurl -plaintext -d"), await text(page, ".try"));
  await go(page, "contracts/catalog.v1.CatalogService%2FCreateTitle");
  await page.click(".try [type=submit]");
  await shows(page, "Really call it?");
  const early = hub.scene.called;
  await page.click(".try [type=submit]");
  check(
    "a write is called by the second click",
    early === null && (await shows(page, "Metropolis")) && hub.scene.called.confirmed === true,
    [early, hub.scene.called],
  );
  await page.$eval("#request", (it) => ((it.value = "{"), it.dispatchEvent(new Event("input", { bubbles: true }))));
  await page.click(".try [type=submit]");
  check("a request that is no JSON is said", await shows(page, "JSON"), await text(page, ".try"));
  await go(page, `work?open=${encodeURIComponent("services/artwork/operations/5f3c")}`);
  const press = async (words) =>
    (
      await page.waitForFunction(
        (it) => [...document.querySelectorAll(".facts button")].find((one) => one.textContent === it),
        { timeout: 5000 },
        words,
      )
    ).click();
  await press("cancel");
  await press("Really cancel?");
  check("work is cancelled by the second click", await shows(page, "cancel: accepted"), await text(page, "main"));
  const buttons = await page.$$eval(".facts button", (all) => all.map((it) => it.innerText));
  check("and only once", !buttons.length, buttons);
  hub.scene.mode = "read";
  hub.drop();
  await shows(page, "read only");
  await go(page, "contracts/catalog.v1.CatalogService%2FGetTitle");
  check("a hub that only reads calls nothing", await page.$eval(".try [type=submit]", (it) => it.disabled));
  await close(page);
  hub.stop();
}

async function streams(address) {
  const page = await open(address, { view: "calls?sort=p99" });
  await page.waitForFunction(() => /2 streams/.test(document.querySelector("main").innerText), { timeout: 5000 }).catch(() => {});
  const rows = await page.$$eval("tbody tr", (all) => all.map((it) => it.innerText));
  const at = rows.findIndex((it) => it.includes("WatchHome"));
  check("a stream is not the slowest call, and is in no flight", at > 10 && rows[at].includes("2 streams"), rows);
  await go(page, "");
  const words = await text(page, "main");
  check("streams that are open are apart from calls in flight", /In flight\s+\d+\s+and 2 streams open/.test(words), words);
  check("and in no list of slow calls", !words.includes("WatchHome"), words);
  await close(page);
}

// What is a stream is known by the contracts.
async function early() {
  const hub = await serve("normal");
  let learn;
  hub.contracts = new Promise((done) => (learn = done));
  const page = await open(hub.address, { view: "calls" });
  const times = () =>
    page.$$eval("td.number", (all) => all.map((it) => it.innerText).filter((it) => /\d (µs|ms|s|min)/.test(it)));
  await sleep(1500);
  const before = await times();
  learn();
  check("before the contracts no call has times", !before.length && (await matches(page, "\\d ms")), before);
  await close(page);
  hub.stop();
}

// 40 problems, each three times.
async function problems() {
  const hub = await serve("down");
  const at = hub.scene.at;
  hub.scene.kept = Array.from({ length: 120 }, (_, i) =>
    call({
      ...{ span: `p${i}`, parent: "", caller: "tv", callee: "catalog", method: `catalog.v1.CatalogService/Get${i % 40}` },
      ...{ start: at + i, took: 0.01, code: "UNAVAILABLE", reason: "NO_ENDPOINTS" },
    }),
  );
  const page = await open(hub.address, { view: "problems" });
  const rows = () => page.$$eval("tbody [data-row]", (all) => all.map((it) => it.closest("tr").innerText));
  const few = await rows();
  check("equal problems are one row with their number", few.length === 25 && /\s3\s/.test(few[0]), few.slice(0, 2));
  await page.$eval("tbody [data-row]", (it) => it.click());
  await page.waitForSelector("tr.details li");
  check("which opens each", (await page.$$("tr.details li")).length === 3);
  await page.$$eval("main button", (all) => all.find((it) => /^Show \d+ more$/.test(it.innerText)).click());
  await sleep(200);
  check("a long list of problems is cut, and shows more", (await rows()).length > 40, (await rows()).length);
  const badge = () => page.$eval("nav a[href='#/problems']", (it) => it.innerText);
  await page
    .waitForFunction(() => /\d/.test(document.querySelector("nav a[href='#/problems']").innerText), { timeout: 5000 })
    .catch(() => {});
  check("the tab of problems has the number of the last minute", /Problems\s+\d+/.test(await badge()), await badge());
  const [slow, late, lost] = ["11", "22", "33"].map((it) => it.repeat(16));
  const one = { parent: "", caller: "tv", callee: "billing", method: "billing.v1.B/Get", code: "NOT_FOUND", reason: "NO_CARD" };
  hub.scene.traceAt = at;
  hub.scene.kept = [
    call({ ...one, span: "1", start: at - 7_200_000, took: 0.9, trace: slow }),
    call({ ...one, span: "2", start: at - 1000, took: 0.1, trace: late }),
    call({
      ...{ ...one, span: "3", method: "tv.v1.TvService/WatchHome", start: at - 146_000, took: 146, trace: lost },
      ...{ code: "UNAVAILABLE", reason: "CONNECTION_LOST" },
    }),
  ];
  await go(page, "problems?show=failed");
  await page.waitForFunction(() => document.body.innerText.includes("CONNECTION_LOST"));
  const found = await page.$$eval("tbody tr", (all) =>
    all.map((it) => [it.innerText, [...it.querySelectorAll("td a")].map((a) => a.hash)]),
  );
  const [card, stream] = ["NO_CARD", "CONNECTION_LOST"].map((words) => found.find(([it]) => it.includes(words)));
  check(
    "a problem's slowest time and its last one have their own traces",
    card && /900 ms/.test(card[0]) && card[1].join() === `#/traces/${slow},#/traces/${late}`,
    card,
  );
  check("a stream that failed has no time", stream && /\s–\s/.test(stream[0]) && !/ min /.test(stream[0]), stream);
  const caption = await text(page, "caption");
  const first = await page.evaluate((it) => new Date(it).toTimeString().slice(0, 8), at - 7_200_000);
  check("problems are since the first that is shown", caption.includes(`since ${first}`), [caption, first]);
  await close(page);
  hub.stop();
}

async function words() {
  const hub = await serve("down");
  const reason = "A_REASON_THAT_IS_LONGER_THAN_THE_ARROW_THAT_IT_IS_THE_TEXT_OF_AND_THAN_ALL_THAT_IS_AT_ITS_RIGHT_SIDE";
  for (const { row } of hub.scene.edges) if (row.last) row.last.reason = reason;
  const [, , saga] = hub.scene.work;
  Object.assign(saga, { state: "CANCELLED", phase: "", error: { reason: "CARD_DECLINED", message: "The card was declined." } });
  hub.scene.notes = [{ key: "work a", text: "the long work of a is not shown: forbidden" }];
  hub.scene.isIdle = true;
  const page = await open(hub.address);
  const outside = await page.$$eval("svg text.label", (all) =>
    all
      .filter((it) => it.getBBox().x < 0 || it.getBBox().x + it.getBBox().width > it.ownerSVGElement.width.baseVal.value)
      .map((it) => it.textContent),
  );
  check("the texts of arrows are within the picture", (await shows(page, reason)) && !outside.length, outside);
  const entry = await page.$$eval(".card li", (all) => all[0].innerText);
  const logsOf = await page.$$eval(".card li a", (all) => all.find((it) => it.innerText === "logs").hash);
  const away = hub.scene.processes.find((it) => it.process === "catalog").id;
  check("the logs of what is down are its own", logsOf === `#/logs?process=${encodeURIComponent(away)}`, [entry, logsOf]);
  await go(page, logsOf.slice(2));
  check("and say that they went with it", await shows(page, "It has ended", 3000), await text(page, "main"));
  await go(page, "services?open=catalog");
  const instance = await text(page, "tr.details");
  check("what is gone is not ready", instance.includes("gone") && !/, (not )?ready/.test(instance), instance);
  const rows = await page.$$eval(".scroll:last-child tbody tr", (all) => all.map((it) => it.innerText.split(/\s*\t\s*/)));
  const { since } = hub.scene.processes.find((it) => it.id === away);
  const answered = await page.evaluate((it) => new Date(it).toTimeString().slice(0, 8), since);
  const ended = rows.find(([name]) => name.startsWith("catalog"));
  check("what is gone says when it answered last", ended?.includes(answered), [ended, answered]);
  await go(page, "events");
  check("how far behind is unknown without a connection", await shows(page, "unknown", 3000), await text(page, "main"));
  await go(page, "work");
  const row = await page.$eval(`[data-row="${saga.name}"]`, (it) => it.closest("tr").innerText);
  check("work that was cancelled is no failed one", row.includes("cancelled") && !row.includes("CARD_DECLINED"), row);
  const before = await text(page, "main");
  hub.tick({ at: hub.scene.at, gone: { notes: ["work a"] } });
  await sleep(200);
  const after = await text(page, "main");
  check("a note goes when the hub takes it back", before.includes("is not shown") && !after.includes("is not shown"), after);
  await close(page);
  hub.stop();
}

async function drains() {
  const hub = await serve("restart");
  hub.isManual = true;
  hub.scene.drain();
  const page = await open(hub.address);
  const words = await text(page, "main");
  check("a service that drains is not down", /^catalog drains/.test(words) && !words.includes("down\n"), words);
  const node = await page.$$eval(".node.part", (all) => all.map((it) => it.textContent));
  check("nor is it in the graph", node.length === 1 && node[0].includes("▲ drains") && !(await page.$(".node.down")), node);
  const heads = [await page.title(), await text(page, "nav a[href='#/services']"), await text(page, "#news")];
  check("nor counted as a failure", !/✕|down/i.test(heads.join()), heads);
  await close(page);
  hub.stop();
}

// What a reader points at, or is in with the keyboard, stays; and goes on afterwards.
async function held() {
  const hub = await serve("normal");
  hub.isManual = true;
  const { scene } = hub;
  const kept = (name, took, more) =>
    call({
      side: "server",
      span: name,
      trace: name.repeat(32),
      parent: "",
      caller: "",
      callee: "library",
      took,
      start: scene.at - 5000,
      ...more,
    });
  const method = (it) => `library.v1.LibraryService/${it}`;
  const tick = async (count = 1) => {
    for (let i = 0; i < count; i++) hub.tick();
    await sleep(150);
  };
  // Others become the slowest, and other calls are kept.
  const change = async () => {
    for (const it of scene.edges) it.median = 500 - it.median;
    scene.kept = [
      kept("c", 9, { method: method("RentTitle"), code: "UNAVAILABLE", reason: "NEW" }),
      kept("d", 0.7, { method: method("RentTitle"), code: "INTERNAL", reason: "OLD", start: scene.at }),
      ...scene.kept,
    ];
    await tick(61);
    // The view asks for kept calls each 2 or 5 s.
    await sleep(page.url().includes("calls?") ? 0 : 5500);
  };
  const page = await open(hub.address, { view: "" });
  const linksOf = async (selector) =>
    page.$eval(selector, (it) => [...it.querySelectorAll("[data-row], a")].map((one) => one.hash ?? one.dataset.row));
  for (const [name, view, selector, by] of [
    ["slowest calls", "", "[data-list=slowest]", "pointer"],
    ["the slowest call", "", ".more", "pointer"],
    ["problems", "problems?show=all", "[data-list*='\"problems']", "pointer"],
    ["problems", "problems?show=all", "[data-list*='\"problems']", "keyboard"],
    ["calls by their p99", "calls?sort=p99", "[data-list*='\"calls']", "pointer"],
    ["the calls of a problem", "problems?show=all&open=x", "tr.details ul", "pointer"],
  ]) {
    Object.assign(scene, { traceAt: scene.at - 600_000 });
    scene.kept = [
      kept("a", 0.4, { method: method("RentTitle"), code: "INTERNAL", reason: "OLD" }),
      kept("b", 0.3, { method: method("RentTitle"), code: "INTERNAL", reason: "OLD", start: scene.at - 3000 }),
    ];
    await go(page, "events");
    await tick();
    await go(page, view);
    if (view.includes("open")) {
      await page.waitForFunction(() => document.querySelector("main").innerText.includes("OLD"));
      await page.$$eval("tbody tr", (all) =>
        all
          .find((it) => it.innerText.includes("OLD"))
          .querySelector("button")
          .click(),
      );
    }
    await page.waitForSelector(selector);
    await sleep(300);
    if (by === "pointer") await page.hover(selector);
    else (await page.focus(`${selector} [data-row]`), await page.keyboard.press("Tab"), await page.keyboard.press("Tab"));
    await tick();
    const before = await linksOf(selector);
    const values = await text(page, selector);
    await change();
    const during = await linksOf(selector);
    check(`${name} keep their rows and links at the ${by}`, before.length > 0 && before.every((it, at) => it === during[at]), [
      before,
      during,
    ]);
    if (view.startsWith("calls")) check(`${name} have new values meanwhile`, (await text(page, selector)) !== values, values);
    if (by === "pointer") await page.mouse.move(5, 5);
    else await page.evaluate(() => document.activeElement.blur());
    await tick(2);
    const after = await linksOf(selector);
    check(`${name} go on after it`, JSON.stringify(after) !== JSON.stringify(before), [before, after]);
  }
  await go(page, "");
  const underWay = "[data-list='Under way']";
  await page.waitForSelector(underWay);
  await page.hover(underWay);
  for (const it of scene.work) it.state = "SUCCEEDED";
  await tick(2);
  const struck = () => page.$$eval("[data-list] > li.gone", (all) => all.length);
  check("what ends at the pointer stays, struck", (await struck()) > 0, await text(page, "main"));
  await page.mouse.move(5, 5);
  await tick(2);
  check("and goes after it", (await struck()) === 0, await struck());
  await close(page);
  hub.stop();
}

// No text of the graph is cut, or lies on another one.
async function labels() {
  for (const scene of ["normal", "down", "names"]) {
    const hub = await serve(scene);
    for (const width of [400, 800, 1200]) {
      const page = await open(hub.address, { width });
      await page.waitForFunction(() => document.querySelectorAll("svg text.label").length > 2, { timeout: 8000 }).catch(() => {});
      if (SCREENSHOTS) {
        mkdirSync(SCREENSHOTS, { recursive: true });
        await page.$eval(".graph", (it) => it.scrollIntoView());
        await (await page.$(".graph")).screenshot({ path: `${SCREENSHOTS}/graph-${scene}-${width}.png` });
        await (await page.$(".graph svg")).screenshot({ path: `${SCREENSHOTS}/graph-${scene}-${width}-whole.png` });
      }
      const found = await page.evaluate(() => {
        const box = (it) => it.getBBox();
        const [svg, nodes] = [document.querySelector(".graph svg"), [...document.querySelectorAll("a.node")]];
        const on = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
        const labels = [...document.querySelectorAll("svg text.label")];
        const lies = labels.filter(
          (it) =>
            labels.some((one) => one !== it && on(box(it), box(one))) ||
            nodes.some((one) => on(box(it), box(one.querySelector("rect")))),
        );
        const wide = nodes.flatMap((node) => {
          const { x, y, width, height } = box(node.querySelector("rect"));
          const isOut = (it) => it.x < x || it.x + it.width > x + width || it.y < y || it.y + it.height > y + height;
          return [...node.querySelectorAll("text")].filter((it) => isOut(box(it)));
        });
        const within = nodes.flatMap((node) => {
          const texts = [...node.querySelectorAll("text")];
          return texts.filter((it, at) => texts.slice(at + 1).some((one) => on(box(it), { ...box(one), y: box(one).y + 4 })));
        });
        const beyond = labels.filter((it) => box(it).x < 0 || box(it).x + box(it).width > svg.width.baseVal.value);
        return {
          labels: labels.length,
          failing: labels.filter((it) => it.classList.contains("bad")).length,
          bad: [...lies, ...wide, ...within, ...beyond].map((it) => it.textContent),
          names: nodes.map((it) => [...it.querySelectorAll(".name")].map((one) => one.textContent).join("")),
        };
      });
      const lacks = hub.scene.services.filter(({ name }) => !found.names.includes(name));
      const isRight = found.labels > 2 && !found.bad.length && !lacks.length && (scene === "normal" || found.failing > 0);
      check(`the graph of ${scene} at ${width} px cuts no text, and none lies on another`, isRight, [found, lacks]);
      await close(page);
    }
    hub.stop();
  }
}

async function motion(address) {
  const moving = (page) => page.evaluate(() => document.getAnimations().filter((it) => it.playState === "running").length);
  for (const [value, fits] of [
    ["no-preference", (it) => it > 0],
    ["reduce", (it) => it === 0],
  ]) {
    const page = await open(address, { motion: value, view: "calls" });
    await page.waitForSelector("g.link.used");
    await sleep(1500);
    check(`prefers-reduced-motion: ${value}`, fits(await moving(page)), await moving(page));
    await close(page);
  }
}

// The median and the worst time of a drawing in ms, and what the browser spends on an update besides.
async function drawings(page, hub) {
  const before = await page.metrics();
  await page.evaluate(() => (window.times.length = 0));
  for (let i = 0; i < UPDATES; i++) {
    hub.tick();
    await sleep(100);
  }
  const after = await page.metrics();
  const times = (await page.evaluate(() => window.times)).sort((a, b) => a - b);
  const [median, worst] = [times[times.length >> 1], times.at(-1)];
  const spent = ["LayoutDuration", "RecalcStyleDuration"].map((it) => (1000 * (after[it] - before[it])) / UPDATES);
  return { count: times.length, median, worst, words: [median, worst, ...spent].map((it) => it?.toFixed(1)).join(", ") };
}

async function update() {
  const hub = await serve("heavy");
  hub.isManual = true;
  for (const view of ["", "calls", "services"]) {
    const name = view || "overview";
    const page = await open(hub.address, { view });
    const hasRow = await page.evaluate(() => {
      window.times = [];
      const observe = (entries) => window.times.push(...entries.getEntriesByName("render").map((it) => it.duration));
      new PerformanceObserver(observe).observe({ type: "measure" });
      return (window.before = document.querySelector("tbody tr, .graph a")) !== null;
    });
    // Other programs of this machine take time, too: the best of three.
    let best;
    for (let i = 0; i < 3 && !(best?.median < BUDGET.update); i++) {
      const it = await drawings(page, hub);
      if (!best || it.median < best.median) best = it;
    }
    console.log(`        ${name}, 60 processes, 200 edges: median, worst, layout and style ${best.words} ms`);
    const isFast = best.count >= UPDATES / 2 && best.median < BUDGET.update;
    check(`an update of ${name} takes less than ${BUDGET.update} ms`, isFast, best);
    check(`${name} is updated in place`, hasRow && (await page.evaluate(() => window.before.isConnected)));
    const drawn = () => page.evaluate(() => new Promise((done) => setTimeout(() => done(window.times.length), 100)));
    await page.evaluate(() => Object.defineProperty(document, "hidden", { configurable: true, get: () => true }));
    const seen = await drawn();
    for (let i = 0; i < 3; i++) {
      hub.tick();
      await sleep(60);
    }
    const hidden = await drawn();
    await page.evaluate(() => {
      delete document.hidden;
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await sleep(100);
    check(`${name} is not drawn while it is hidden`, hidden === seen && (await drawn()) > hidden, [seen, hidden]);
    await close(page);
  }
  hub.stop();
}

async function same() {
  for (const scheme of ["light", "dark"]) {
    for (const view of ["", "calls"]) {
      const shots = [];
      for (let i = 0; i < 2; i++) {
        const hub = await serve("normal");
        hub.isManual = true;
        hub.scene.traceAt = hub.scene.at + 50_000;
        const page = await open(hub.address, { scheme, view });
        // A minute later; and the contracts have come.
        for (let second = 0; second < 61; second++) hub.tick();
        await shows(page, "of the last minute");
        await shows(page, "2 streams");
        await sleep(300);
        shots.push(Buffer.from(await page.screenshot({ fullPage: true })));
        // That of the README.
        if (PICTURE && !view && scheme === "light" && !i) {
          await page.screenshot({ path: PICTURE, type: "webp", quality: 80, fullPage: true });
        }
        await close(page);
        hub.stop();
      }
      check(`two pictures of ${view || "overview"} in ${scheme} are equal`, shots[0].equals(shots[1]));
    }
  }
}

function budget() {
  const names = readdirSync(PAGE).filter((it) => /\.(html|css|js)$/.test(it));
  const files = names.map((it) => readFileSync(`${PAGE}/${it}`));
  const raw = files.reduce((sum, it) => sum + it.length, 0);
  const zipped = files.reduce((sum, it) => sum + gzipSync(it, { level: 9 }).length, 0);
  console.log(`        ${names.length} files, ${raw} bytes, ${zipped} gzipped`);
  check("the page is within its budget", names.length <= BUDGET.files && raw <= BUDGET.raw && zipped <= BUDGET.zipped, {
    files: names.length,
    raw,
    zipped,
  });
  const unsafe =
    /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|createContextualFragment|setHTML|srcdoc|DOMParser|\sstyle="|setAttribute\("style/;
  const found = names.filter((it, at) => unsafe.test(files[at].toString()));
  check("the page makes elements of texts nowhere", !found.length, found);
}

// A check of a scene that is served for it.
const on = (scene, run) => async () => {
  const hub = await serve(scene);
  await run(hub.address, scene);
  hub.stop();
};
const views = (address, scene) => everyView(scene, address);
const CHECKS = DASHBOARD
  ? { views: () => views(DASHBOARD, "hub"), keyboard: () => keyboard(DASHBOARD) }
  : {
      budget,
      views: on("normal", views),
      viewsDown: on("down", views),
      viewsEmpty: on("empty", views),
      keyboard: on("normal", keyboard),
      motion: on("normal", motion),
      traces: on("down", traceOfRed),
      slowest,
      measures,
      summaries,
      streams: on("normal", streams),
      early,
      problems,
      words,
      drains,
      held,
      labels,
      hostile,
      restarts,
      quantiles,
      reconnects,
      actions,
      update,
      same,
    };

try {
  for (const [name, run] of Object.entries(CHECKS)) if (!ONLY || ONLY.split(",").includes(name)) await run();
  check("the page runs without an error, and within its policy", !errors.length, errors);
  check("no request leaves the origin", !foreign.length, foreign);
} catch (error) {
  console.error(error);
  failed++;
}
await browser.close();
process.exit(failed ? 1 : 0);
