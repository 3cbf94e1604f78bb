// The page of one title, from the composer: pictures, rental, and forms for both.

import { Problem, get, post, sleep, upload } from "./api.js";
import { element, price, say, time } from "./element.js";
import { show as showPicture } from "./picture.js";
import { missing } from "./screens.js";

const dialog = document.querySelector("#title");
// How often the page is asked for again while a service is missing, in milliseconds.
const AGAIN = 2000;
let opened;

// Opens the page of a title. `work` follows an operation of it.
export async function open(titleId, viewer, work) {
  opened?.abort();
  const closed = (opened = new AbortController());
  const parts = make(titleId, viewer, work, () => load());
  dialog.replaceChildren(...parts.nodes);
  if (!dialog.open) dialog.showModal();
  // The event comes later than the close: the dialog may be open again.
  dialog.onclose = () => dialog.open || closed.abort();
  let followed = "";

  async function load() {
    try {
      for (;;) {
        const page = await get(`/v1/titles/${titleId}/page?viewer_id=${viewer}`, closed.signal);
        parts.show(page);
        const { rental } = page;
        // A rental that began before the page was loaded.
        if (rental && !rental.granted && rental.operation !== followed) parts.follow((followed = rental.operation));
        if (page.unreachable.length === 0) return;
        await sleep(AGAIN, closed.signal);
      }
    } catch (error) {
      if (!closed.signal.aborted) parts.fail(error);
    }
  }
  await load();
}

function make(titleId, viewer, work, load) {
  const name = element("h2", { id: "title-name", textContent: "…" });
  const server = element("p", { className: "server", role: "status" });
  say(server, document.querySelector(".server").textContent);
  const absent = element("p", { className: "missing", role: "status" });
  const picture = element("img", { alt: "", hidden: true });
  const synopsis = element("p", { className: "synopsis" });
  const rental = element("p", { className: "rental", role: "status" });
  const failure = element("p", { className: "failure", role: "alert" });
  const running = element("div", { className: "work" });
  const close = element("button", { type: "button", textContent: "Close", onclick: () => dialog.close() });
  const head = element("header", {}, name, close);
  let page;
  let rents = false;

  const fail = (error) => say(failure, describe(error));
  const follow = async (operation) => {
    await work(operation, page.name, titleId, (node) => running.replaceChildren(node));
    await load();
  };
  // Starts an operation, and follows it. The button waits for the answer.
  const start = (button, request) => async (event) => {
    event.preventDefault();
    say(failure, "");
    button.disabled = true;
    try {
      const operation = await request();
      button.disabled = false;
      await follow(operation.name);
    } catch (error) {
      fail(error);
    } finally {
      button.disabled = false;
    }
  };

  const rent = element("button", { type: "submit", className: "main", textContent: "Rent" });
  const card = element("select", { name: "card" },
    element("option", { value: "test", textContent: "test, which is charged" }),
    element("option", { value: "test-declined", textContent: "test-declined, which is declined" }));
  const rentForm = element("form", { className: "rent" }, element("label", {}, "Card ", card), rent);
  rentForm.onsubmit = start(rent, async () => {
    const order = { viewerId: viewer, expectedPriceCents: page.priceCents, card: card.value };
    return post(`/v1/titles/${titleId}:rent`, order);
  });

  const send = element("button", { type: "submit", textContent: "Upload" });
  const file = element("input", { type: "file", accept: "image/png,image/jpeg,image/webp", required: true });
  const uploadForm = element("form", { className: "upload" }, element("label", {}, "Picture ", file), send);
  uploadForm.onsubmit = start(send, () => upload(`/v1/titles/${titleId}/artwork:upload`, file.files[0]));

  const show = (found) => {
    page = found;
    say(name, `${page.name} (${page.year})`);
    say(absent, missing(page.unreachable));
    say(synopsis, page.synopsis);
    // The one that fits the dialog. Without artwork the last one stays.
    const fits = page.pictures.find((it) => it.width >= 800) ?? page.pictures.at(-1);
    if (fits || !page.unreachable.includes("services/artwork")) showPicture(picture, fits?.url ?? "");
    if (!page.unreachable.includes("services/library")) {
      rents = Boolean(page.rental);
      say(rental, rentalText(page.rental));
    }
    rentForm.hidden = rents;
    say(rent, Number(page.priceCents) === 0 ? "Rent for free" : `Rent for ${price(page.priceCents)}`);
  };
  const forms = element("div", { className: "forms" }, rentForm, uploadForm);
  const nodes = [head, server, absent, picture, synopsis, rental, running, forms, failure];
  return { nodes, show, fail, follow };
}

function rentalText(rental) {
  if (!rental) return "";
  return rental.granted ? `Yours until ${time(rental.expireTime)}.` : "Its rental goes on.";
}

// What is wrong, each field with its mistake.
export function describe(error) {
  if (!(error instanceof Problem) || error.fields.length === 0) return error.message;
  return error.fields.map((it) => `${it.field} ${it.description}`).join("; ");
}
