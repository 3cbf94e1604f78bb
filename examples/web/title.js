// The page of one title, from the composer: pictures, rental, and forms for both.

import { Problem, get, post, sleep, upload } from "./api.js";
import { element, price, say, time } from "./element.js";
import { show as showPicture } from "./picture.js";
import { missing } from "./screens.js";

const dialog = document.querySelector("#title");
// How often the page is asked for again while a service is missing, in milliseconds.
const AGAIN = 2000;
let opened;

// Opens the page of a title, of which the name is known. `work` follows an operation of it.
export async function open(title, viewer, work) {
  const { titleId } = title;
  opened?.abort();
  const closed = (opened = new AbortController());
  const parts = make(title, viewer, work, () => load());
  dialog.replaceChildren(...parts.nodes);
  if (!dialog.open) dialog.showModal();
  // The event comes later than the close: the dialog may be open again.
  dialog.onclose = () => dialog.open || closed.abort();
  let followed = "";
  let asked = 0;
  let isLoading = false;
  let endPause = () => {};

  // Loads the page, and loads it again while something is missing or goes on.
  async function load() {
    asked++;
    endPause();
    if (isLoading) return;
    isLoading = true;
    try {
      for (;;) {
        const at = asked;
        const page = await get(`/v1/titles/${titleId}/page?viewer_id=${encodeURIComponent(viewer)}`, closed.signal);
        parts.show(page);
        const { rental } = page;
        // A rental that began before the page was loaded.
        if (rental && !rental.granted && !parts.isBusy() && rental.operation !== followed) {
          parts.follow((followed = rental.operation));
        }
        // An answer that began before the last change does not have it.
        if (at !== asked) continue;
        if (page.unreachable.length === 0 && !parts.isBusy()) return;
        await Promise.race([sleep(AGAIN, closed.signal), new Promise((resolve) => (endPause = resolve))]);
      }
    } catch (error) {
      if (!closed.signal.aborted) parts.fail(error);
    } finally {
      isLoading = false;
    }
  }
  await load();
}

function make(title, viewer, work, load) {
  const { titleId } = title;
  const name = element("h2", { id: "title-name", textContent: title.name });
  const server = document.querySelector(".server").cloneNode(true);
  const absent = element("p", { className: "missing", role: "status" });
  const picture = element("img", { alt: "", hidden: true });
  const synopsis = element("p", { className: "synopsis" });
  const rental = element("p", { className: "rental", role: "status" });
  const failure = element("p", { className: "failure", role: "alert" });
  const running = element("div", { className: "work" });
  const close = element("button", { type: "button", textContent: "Close", onclick: () => dialog.close() });
  const head = element("header", {}, name, close);
  let page;
  // The operations that are followed here.
  let busy = 0;

  const fail = (error) => say(failure, describe(error));
  const follow = async (operation) => {
    busy++;
    load();
    await work(operation, title.name, titleId, (node) => running.replaceChildren(node));
    busy--;
    load();
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
    forms.hidden = false;
    say(name, `${page.name} (${page.year})`);
    say(absent, missing(page.unreachable));
    say(synopsis, page.synopsis);
    // The one that fits the dialog. Without artwork the last one stays.
    const fits = page.pictures.find((it) => it.width >= 800) ?? page.pictures.at(-1);
    if (fits || !page.unreachable.includes("services/artwork")) showPicture(picture, fits?.url ?? "");
    if (!page.unreachable.includes("services/library")) {
      rentForm.hidden = Boolean(page.rental);
      say(rental, rentalText(page.rental));
    }
    say(rent, Number(page.priceCents) === 0 ? "Rent for free" : `Rent for ${price(page.priceCents)}`);
  };
  const forms = element("div", { className: "forms", hidden: true }, rentForm, uploadForm);
  const nodes = [head, server, absent, picture, synopsis, rental, running, forms, failure];
  return { nodes, show, fail, follow, isBusy: () => busy > 0 };
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
