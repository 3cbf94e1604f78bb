// The two screens: the rows of the television, and the list of the phone.

import { get } from "./api.js";
import { show as showCost } from "./cost.js";
import { element, keep, price, say, time } from "./element.js";
import { keepKnown, show as showPicture } from "./picture.js";

const find = (selector) => document.querySelector(selector);
const TV = "/v1/tv/home";
const PHONE = "/v1/mobile/home";
// What is missing without a service.
const PARTS = { artwork: "pictures", library: "rentals" };

// The titles that each screen shows.
let tiles = [];
let cards = [];

const pictures = (items) => () => items().map((item) => item.pictureUrl).filter(Boolean);
showCost(find(".tv .cost"), TV, pictures(() => tiles));
showCost(find(".phone .cost"), PHONE, pictures(() => cards));

// Asks the backend of televisions, and shows what it has. Returns whether something is missing.
export async function television(viewer, open) {
  const home = await get(`${TV}?viewer_id=${encodeURIComponent(viewer)}`);
  const found = home.rows.flatMap((row) => row.tiles);
  keepKnown(tiles, found, home.unreachable);
  tiles = found;
  keep(find(".rows"), home.rows, (row) => row.name, makeRow, (node, row) => {
    keep(node.lastChild, row.tiles, (tile) => tile.titleId, (tile) => makeItem("tile", tile, open), updateTile);
  });
  return showMissing(find(".tv"), home.unreachable, tiles);
}

// Asks the backend of phones, and shows what it has. Returns whether something is missing.
export async function phone(viewer, open) {
  const home = await get(PHONE);
  keepKnown(cards, home.cards, home.unreachable);
  cards = home.cards;
  keep(find(".cards"), cards, (card) => card.titleId, makeCard(open), (node, card) => update(node.firstChild, card));
  return showMissing(find(".phone"), home.unreachable, cards);
}

function showMissing(screen, unreachable, items) {
  say(screen.querySelector(".missing"), missing(unreachable));
  screen.querySelector(".empty").hidden = items.length > 0;
  return unreachable.length > 0;
}

// Which services do not answer, and what is missing without them.
export function missing(unreachable) {
  const names = unreachable.map((service) => service.split("/")[1]);
  const parts = names.map((name) => `${name} does not answer: its ${PARTS[name] ?? "part"} may be missing or old.`);
  return parts.join(" ");
}

function makeRow(row) {
  const heading = element("h3", { textContent: row.name });
  return element("section", { ariaLabel: row.name }, heading, element("div", { className: "row" }));
}

const makeCard = (open) => (card) => element("li", {}, makeItem("card", card, open));

// A title as a button that opens its page.
function makeItem(className, { titleId, name }, open) {
  const picture = element("span", { className: "picture" }, element("img", { alt: "", hidden: true }));
  const text = element("span", { className: "text" }, element("strong"), element("span", { className: "facts" }));
  if (className === "tile") text.append(element("span", { className: "synopsis" }));
  return element("button", { type: "button", className, onclick: () => open(titleId, name) }, picture, text);
}

function update(node, item, facts = price(item.priceCents)) {
  say(node.querySelector("strong"), item.name);
  say(node.querySelector(".facts"), `${item.year} · ${facts}`);
  showPicture(node.querySelector("img"), item.pictureUrl);
}

function updateTile(node, tile) {
  const isRented = tile.rentedUntil !== undefined && tile.rentedUntil !== null;
  update(node, tile, isRented ? `yours until ${time(tile.rentedUntil)}` : price(tile.priceCents));
  say(node.querySelector(".synopsis"), tile.synopsis);
  node.classList.toggle("rented", isRented);
}
