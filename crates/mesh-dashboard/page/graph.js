// The call graph: services in layers, arrows from caller to callee.

import { h, small } from "./dom.js";
import { all, arrow, by, callerName, perSecond, plural, sum, to, unique } from "./model.js";

// Nodes, the least gaps between them, the room at the sides, a line of text, and a character of a label.
const [WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN, LINE, CHARACTER] = [148, 44, 48, 18, 12, 15, 8];
// Beyond so many arrows, only those that fail have a text, and nothing moves.
const FEW = 30;

// The layer of each node: one after the last of its callers. "" (outside) is alone in the first. An arrow that closes a circle does
// not count.
export function layersOf(names, links) {
  const layers = new Map(names.map((it) => [it, it && names.includes("") ? 1 : 0]));
  const [open, done, forward] = [new Set(), new Set(), []];
  const visit = (name) => {
    if (done.has(name)) return;
    open.add(name);
    for (const it of links) {
      if (it.caller !== name || open.has(it.callee)) continue;
      forward.push(it);
      visit(it.callee);
    }
    open.delete(name);
    done.add(name);
  };
  [...names].sort().forEach(visit);
  for (const name of [...done].reverse()) {
    for (const { caller, callee } of forward)
      if (caller === name) layers.set(callee, Math.max(layers.get(callee), layers.get(name) + 1));
  }
  return layers;
}

// Where nodes are, and what arrows pass: their nodes, and a free place in each layer between.
export function layout(names, links) {
  const layers = layersOf(names, links);
  const columns = Array.from({ length: Math.max(...layers.values()) + 1 }, () => []);
  const place = (layer, height) => {
    const it = { layer, height, near: [], y: 0 };
    columns[layer].push(it);
    return it;
  };
  const nodes = new Map([...names].sort().map((name) => [name, place(layers.get(name), HEIGHT + (name.length > 16 && LINE))]));
  const chains = new Map(
    links.map(({ key, caller, callee }) => {
      const [from, until] = [nodes.get(caller), nodes.get(callee)];
      const chain = [from];
      for (let layer = from.layer + 1; layer < until.layer; layer++) chain.push(place(layer, 6));
      chain.push(until);
      chain.slice(1).forEach((it, at) => (it.near.push(chain[at]), chain[at].near.push(it)));
      return [key, chain];
    }),
  );
  const heightOf = (column) => sum(column, (it) => it.height + GAP_Y) + GAP_Y;
  const height = Math.max(...columns.map(heightOf));
  // Each column is in the order of the middles of its neighbours.
  for (let round = 0; round < 8; round++) {
    for (const column of round % 2 ? columns.toReversed() : columns) {
      column.sort(by((it) => sum(it.near, (one) => one.y) / (it.near.length || 1)));
      let y = (height - heightOf(column) + GAP_Y) / 2;
      for (const it of column) {
        it.y = y + (it.height + GAP_Y) / 2;
        y += it.height + GAP_Y;
      }
    }
  }
  return { nodes, chains, columns: columns.length, height };
}

// A name in two lines, if it is long.
function linesOf(name) {
  const [, first, rest] = name.match(/^(.{0,16}$|.{0,15}[-_.](?=.{1,16}$)|.{16})(.*)/);
  return [first, rest.length > 16 ? `${rest.slice(0, 15)}…` : rest];
}

// A place for a text beside an arrow, near its `spots`, where nothing is; it is taken then.
function placeOf({ spots, half, most }, taken, width) {
  for (let off = 0; off <= most; off = -off + (off <= 0 && 4)) {
    for (const [at, middle] of spots) {
      const [x, y] = [Math.max(half, Math.min(width - half, at)), middle + off];
      const box = [x - half, y - LINE, x + half, y];
      if (box[0] < 0 || taken.some((it) => box[0] < it[2] && it[0] < box[2] && box[1] < it[3] && it[1] < box[3])) continue;
      taken.push(box);
      return { x, y: y - 4 };
    }
  }
}

let laid = {};

export function graph(page, services, links) {
  const names = unique([...services.map((it) => it.name), ...links.flatMap((it) => [it.caller, it.callee])]);
  if (!names.length) return h("p.empty", "No service has been found.");
  const key = JSON.stringify([names, links.map((it) => it.key)]);
  if (laid.key !== key) laid = { key, ...layout(names, links) };
  const width = Math.max(page.width, laid.columns * (WIDTH + GAP_X) - GAP_X + 2 * MARGIN);
  const step = (width - 2 * MARGIN - WIDTH) / Math.max(1, laid.columns - 1);
  const left = (it) => MARGIN + it.layer * step;
  // Those that fail are above the others.
  links.sort(by((it) => Boolean(it.failed)));
  const lines = links.map((it) => line(it, left, links.length <= FEW));
  const taken = all(laid.nodes).map((it) => [left(it), it.y - it.height / 2, left(it) + WIDTH, it.y + it.height / 2]);
  // No text is above or below the picture.
  taken.push([0, -99, width, 0], [0, laid.height, width, laid.height + 99]);
  const label = ([, it]) => {
    const place = it && placeOf(it, taken, width);
    return place && it.text && h(`text.label.${it.kind}`, { key: it.key, ...place }, it.text);
  };
  return [
    h(
      "div.graph",
      { key: "graph", role: "region", "aria-label": "Call graph", tabindex: "0" },
      h(
        "svg",
        { viewBox: `0 0 ${width} ${laid.height}`, width, height: laid.height },
        lines.map(([it]) => it),
        lines.toReversed().map(label),
        services.concat(others(page, services, names)).map((it) => node(it, laid.nodes.get(it.name), left)),
      ),
    ),
    small("Dashed: declared, no call yet. Red: fails. Violet: not declared."),
  ];
}

// The nodes that are no services, such as a gateway, and what is not known.
function others({ mesh }, services, names) {
  const unknown = names.filter((name) => !services.some((it) => it.name === name));
  return unknown.map((name) => {
    const own = all(mesh.processes).filter((it) => it.process === name);
    const ready = own.filter((it) => it.state === "up").length;
    const drains = !ready && own.some((it) => it.state === "draining");
    const health = own.length && (ready === own.length ? "up" : ready || drains ? "part" : "down");
    return { name, ready, instances: own.length, health, drains };
  });
}

// An arrow, and its text.
function line({ key, caller, callee, failed, undeclared, used, rate }, left, isFew) {
  const chain = laid.chains.get(key);
  const points = chain.map((it) => [left(it) + (it === chain[0] ? WIDTH : 0), it.y]);
  const [first, last] = [points[0], points.at(-1)];
  last[0] -= 7;
  let d = `M${first}`;
  const spots = [];
  points.slice(1).forEach(([x, y], at) => {
    const [x1, y1] = points[at];
    // An arrow back to the left turns around.
    const bend = x > x1 ? (x - x1) / 2 : 70;
    d += `C${x1 + bend},${y1} ${x - bend},${y} ${x},${y}`;
    for (const part of [0.5, 0.3, 0.7]) spots.push([x1 + (x - x1) * part, y1 + (y - y1) * part ** 2 * (3 - 2 * part)]);
    // It passes flat where others have a node.
    if (points[at + 1] === last) return;
    d += `H${(points[at + 1][0] += WIDTH)}`;
    spots.unshift([x + WIDTH / 2, y]);
  });
  const isMoving = isFew && rate > 0;
  const reason = failed?.last?.reason;
  const ends = arrow({ caller, callee });
  const words = [ends, used ? perSecond(rate) : "no call yet", failed && `fails: ${reason}`, undeclared && "not declared"];
  const text = failed ? `✕ ${reason}` : undeclared ? `? ${perSecond(rate)}` : isMoving && perSecond(rate);
  const half = (CHARACTER * Math.max(5, text.length || 0)) / 2;
  const kind = failed ? "bad" : undeclared ? "odd" : used ? "used" : "idle";
  return [
    h(
      `g.link.${kind}`,
      { key: `link ${key}`, onclick: () => (location.hash = to("calls", { words: ends, open: failed?.key })) },
      h("title", words.filter(Boolean).join(", ")),
      h("path.reach", { d }),
      h("path.line", { d, style: { "stroke-width": `${1.4 + Math.min(2.6, Math.log10(1 + rate))}px` } }),
      isMoving && h("path.flow", { d }),
      h("path.head", { d: `M${last[0]},${last[1] - 4}l7,4l-7,4z` }),
    ),
    // A rate that comes moves no other.
    (text || (isFew && used)) && { key: `label ${key}`, text, kind, spots, half, most: failed ? 90 : 12 },
  ];
}

const WORDS = {
  up: (it) => `● ${plural(it.ready, "instance")}`,
  part: (it) => (it.drains ? "▲ drains" : `▲ ${it.ready} of ${it.instances} ready`),
  down: () => "✕ down",
  absent: () => "○ absent",
};

function node({ name, health, ...it }, { layer, y, height }, left) {
  const [x, top] = [left({ layer }), y - height / 2];
  const [words, below] = [callerName(name), health ? WORDS[health](it) : name ? "not known" : "clients"];
  return h(
    `a.node.${health || "outside"}`,
    { key: `node ${name}`, href: to("calls", { words }) },
    h("title", `${words} ${below}`),
    h("rect", { x, y: top, width: WIDTH, height, rx: 8 }),
    linesOf(words).map((it, at) => it && h("text.name", { x: x + 10, y: top + 19 + LINE * at }, it)),
    h("text", { x: x + 10, y: top + height - 9 }, below),
  );
}
