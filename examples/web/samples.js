// Five films that are in the public domain, with pictures drawn here, so that an empty system has something to show.

import { post, upload } from "./api.js";

const WIDTH = 1920;
const HEIGHT = 1080;

const FILMS = [
  {
    name: "A Trip to the Moon", year: 1902, priceCents: 199, sky: ["#0b1026", "#3b3f73"], draw: moon,
    synopsis: "Six astronomers have themselves shot to the moon, and find that it is inhabited.",
  },
  {
    name: "The Phantom Carriage", year: 1921, priceCents: 249, sky: ["#0d0d14", "#5a2230"], draw: graves,
    synopsis: "Whoever dies last in a year drives the carriage of death through the next one.",
  },
  {
    name: "Nosferatu", year: 1922, priceCents: 299, sky: ["#101c18", "#4c6b4f"], draw: castle,
    synopsis: "An estate agent travels to a count in the Carpathians, who buys the house across the street.",
  },
  {
    name: "The General", year: 1926, priceCents: 299, sky: ["#6a8fae", "#f0d9a8"], draw: train,
    synopsis: "An engine driver loses his locomotive to spies, and goes after it by himself.",
  },
  {
    name: "Metropolis", year: 1927, priceCents: 399, sky: ["#1a1423", "#b5652b"], draw: city,
    synopsis: "A city lives in towers above, and works in halls below. The son of its master goes down.",
  },
];

// Adds the titles, then their pictures one after the other. `work` follows an operation.
export async function addSamples({ added, work }) {
  const titles = [];
  for (const { name, year, priceCents, synopsis } of FILMS) {
    titles.push(await post("/v1/titles", { name, year, priceCents, synopsis }));
    added();
  }
  for (const [at, { titleId, name }] of titles.entries()) {
    const operation = await upload(`/v1/titles/${titleId}/artwork:upload`, await picture(FILMS[at]));
    await work(operation.name, name, titleId);
  }
}

// A JPEG of a film.
function picture({ name, sky, draw }) {
  const canvas = new OffscreenCanvas(WIDTH, HEIGHT);
  const context = canvas.getContext("2d");
  const gradient = context.createLinearGradient(0, 0, 0, HEIGHT);
  gradient.addColorStop(0, sky[0]);
  gradient.addColorStop(1, sky[1]);
  fill(context, gradient, () => context.rect(0, 0, WIDTH, HEIGHT));
  draw(context);
  context.font = "600 96px system-ui, sans-serif";
  context.fillStyle = "#fff";
  context.shadowColor = "rgb(0 0 0 / .8)";
  context.shadowBlur = 24;
  context.fillText(name, 96, HEIGHT - 96, WIDTH - 192);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 });
}

function fill(context, style, path) {
  context.fillStyle = style;
  context.beginPath();
  path(context);
  context.fill();
}

const circle = (x, y, radius) => (context) => context.arc(x, y, radius, 0, 2 * Math.PI);

function moon(context) {
  for (let at = 0; at < 120; at++) {
    fill(context, "#ffffff90", circle((at * 433) % WIDTH, (at * 197) % 800, 1 + (at % 3)));
  }
  fill(context, "#e9e2c5", circle(1280, 470, 340));
  for (const [x, y, radius] of [[1120, 380, 60], [1420, 640, 80], [1340, 300, 36], [1180, 620, 44]]) {
    fill(context, "#c9bf98", circle(x, y, radius));
  }
  fill(context, "#7d8796", (path) => path.roundRect(1330, 420, 300, 90, 45));
}

function castle(context) {
  fill(context, "#dfe8c8", circle(1450, 300, 130));
  fill(context, "#07100c", (path) => {
    path.moveTo(500, HEIGHT);
    path.quadraticCurveTo(1000, 480, 1600, HEIGHT);
    for (const [x, top] of [[820, 420], [960, 330], [1110, 460]]) {
      path.rect(x, top, 110, 420);
      path.moveTo(x - 20, top);
      path.lineTo(x + 55, top - 150);
      path.lineTo(x + 130, top);
    }
  });
  fill(context, "#f2c94c", (path) => path.rect(1000, 420, 30, 60));
}

function train(context) {
  fill(context, "#6b7a3f", (path) => path.rect(0, 800, WIDTH, 280));
  fill(context, "#3b2f2a", (path) => path.rect(0, 800, WIDTH, 16));
  for (const [x, y, radius] of [[1410, 330, 60], [1300, 250, 90], [1140, 180, 120]]) {
    fill(context, "#ffffffb0", circle(x, y, radius));
  }
  fill(context, "#252b33", (path) => {
    path.roundRect(760, 500, 740, 190, 40);
    path.rect(640, 380, 240, 310);
    path.rect(1380, 380, 70, 140);
    path.rect(620, 680, 900, 50);
  });
  for (const x of [720, 920, 1120, 1320, 1460]) fill(context, "#8c2f2b", circle(x, 730, x > 1200 ? 55 : 75));
}

function city(context) {
  for (let layer = 0; layer < 3; layer++) {
    for (let at = 0; at < 14; at++) {
      const height = 300 + ((at * 7 + layer * 5) % 9) * 60 - layer * 90;
      fill(context, ["#4a2f3c", "#30202d", "#170f19"][layer], (path) => {
        path.rect(at * 145 - layer * 40, HEIGHT - height, 120, height);
      });
      if (layer < 2) continue;
      for (let window = 0; window < 8; window++) {
        const y = HEIGHT - height + 24 + window * 40;
        fill(context, "#f5c76a", (path) => path.rect(at * 145 - 60 + ((at + window) % 3) * 30, y, 14, 20));
      }
    }
  }
}

function graves(context) {
  fill(context, "#d8d3c0", circle(460, 260, 120));
  fill(context, "#120b10", (path) => path.rect(0, 820, WIDTH, 260));
  for (const [x, height] of [[260, 240], [620, 300], [1040, 260], [1400, 340], [1700, 230]]) {
    fill(context, "#2b2430", (path) => path.roundRect(x, 840 - height, 180, height, [90, 90, 0, 0]));
  }
}
