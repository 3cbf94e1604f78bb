// The call graph: services in layers, arrows from caller to callee. The table of calls has the same for readers without it.

import { h, why } from "./dom.js";
import { all, arrow, by, callerName, perSecond, plural, sum, to, unique } from "./model.js";

// Of nodes, the least gaps between them, and the room at the sides; the characters of a name, and the width of those of a label.
const [WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN, NAME, CHARACTER] = [148, 44, 40, 18, 12, 16, 8];
// Beyond so many arrows, only those that fail have a text, and nothing moves.
const FEW = 30;

// The layer of each node: one after the last of its callers. "" (outside), if it is there, is alone in the first one. An arrow
// that closes a circle does not count.
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

// Where nodes are, by name, and what arrows pass, by key: their nodes, and a free place in each layer between.
export function layout(names, links) {
  const layers = layersOf(names, links);
  const columns = Array.from({ length: Math.max(...layers.values()) + 1 }, () => []);
  const place = (layer, height) => {
    const it = { layer, height, near: [], y: 0 };
    columns[layer].push(it);
    return it;
  };
  const nodes = new Map([...names].sort().map((name) => [name, place(layers.get(name), HEIGHT)]));
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

let laid = {};

export function graph(page, services, links) {
  const names = unique([...services.map((it) => it.name), ...links.flatMap((it) => [it.caller, it.callee])]);
  if (!names.length) return h("p.empty", "No service has been found.");
  const key = JSON.stringify([names, links.map((it) => it.key)]);
  if (laid.key !== key) laid = { key, ...layout(names, links) };
  const width = Math.max(page.width, laid.columns * (WIDTH + GAP_X) - GAP_X + 2 * MARGIN);
  const step = (width - 2 * MARGIN - WIDTH) / Math.max(1, laid.columns - 1);
  const left = (it) => MARGIN + it.layer * step;
  // Those that fail are above the others, the longest first: it has the reason, which is often that of all.
  links.sort(by((it) => (it.failed ? 1 / laid.chains.get(it.key).length : 0)));
  const causeOf = ({ callee, failed }) => `${callee} ${failed?.last?.reason}`;
  const lines = links.map((it) => {
    const isFirst = links.find((one) => one.failed && causeOf(one) === causeOf(it)) === it;
    return line(it, { left, width, isFew: links.length <= FEW, isFirst });
  });
  return [
    h(
      "div.graph",
      { key: "graph", role: "region", "aria-label": "Call graph", tabindex: "0" },
      h(
        "svg",
        { viewBox: `0 0 ${width} ${laid.height}`, width, height: laid.height },
        lines.map(([it]) => it),
        lines.map(([, label]) => label),
        services.concat(others(page, services, names)).map((it) => node(it, laid.nodes.get(it.name), left)),
      ),
    ),
    why("Dashed: declared, no call yet. Red: fails. Violet: not declared."),
  ];
}

// The nodes that are no services: processes without any, such as a gateway, and what is not known.
function others({ state }, services, names) {
  const unknown = names.filter((name) => !services.some((it) => it.name === name));
  return unknown.map((name) => {
    const own = all(state.processes).filter((it) => it.process === name);
    const ready = own.filter((it) => it.state === "up").length;
    return { name, ready, instances: own.length, health: own.length && (ready === own.length ? "up" : ready ? "part" : "down") };
  });
}

// An arrow, and its text.
function line({ key, caller, callee, failed, undeclared, used, rate }, { left, width, isFew, isFirst }) {
  const chain = laid.chains.get(key);
  const points = chain.map((it) => [left(it) + (it === chain[0] ? WIDTH : 0), it.y]);
  const [first, last] = [points[0], points.at(-1)];
  last[0] -= 7;
  let d = `M${first}`;
  points.slice(1).forEach(([x, y], at) => {
    const [x1, y1] = points[at];
    // An arrow back to the left turns around.
    const bend = x > x1 ? (x - x1) / 2 : 70;
    d += `C${x1 + bend},${y1} ${x - bend},${y} ${x},${y}`;
    // It passes flat where others have a node.
    if (points[at + 1] !== last) d += `H${(points[at + 1][0] += WIDTH)}`;
  });
  const isMoving = isFew && rate > 0;
  const reason = failed?.last?.reason;
  const ends = arrow({ caller, callee });
  const words = [ends, used ? perSecond(rate) : "no call yet", failed && `fails: ${reason}`, undeclared && "not declared"];
  const label = failed ? isFirst && `✕ ${reason}` : undeclared ? `? ${perSecond(rate)}` : isMoving && perSecond(rate);
  // On a free place, or between its ends; and all of it within the picture.
  const free = chain.length > 2 && chain[chain.length >> 1];
  const [middle, y] = free ? [left(free) + WIDTH / 2, free.y] : [(first[0] + last[0]) / 2, (first[1] + last[1]) / 2];
  const half = label && (label.length * CHARACTER) / 2;
  const x = Math.max(half, Math.min(width - half, middle));
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
    label && h(`text.label.${kind}`, { key: `label ${key}`, x, y: y - 4 }, label),
  ];
}

const WORDS = {
  up: (it) => `● ${plural(it.ready, "instance")}`,
  part: (it) => `▲ ${it.ready} of ${it.instances} ready`,
  down: () => "✕ down",
  absent: () => "○ absent",
};

function node({ name, health, ...it }, { layer, y }, left) {
  const x = left({ layer });
  const [words, below] = [callerName(name), health ? WORDS[health](it) : name ? "not known" : "clients"];
  return h(
    `a.node.${health || "outside"}`,
    { key: `node ${name}`, href: to("calls", { words }) },
    h("title", `${words} ${below}`),
    h("rect", { x, y: y - HEIGHT / 2, width: WIDTH, height: HEIGHT, rx: 8 }),
    h("text.name", { x: x + 10, y: y - 3 }, words.length > NAME ? `${words.slice(0, NAME - 1)}…` : words),
    h("text", { x: x + 10, y: y + 13 }, below),
  );
}
