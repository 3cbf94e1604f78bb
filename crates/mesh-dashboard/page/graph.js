// The call graph: services in layers, arrows from caller to callee. The table of calls has the same for readers without it.

import { h } from "./dom.js";
import { all, arrow, by, callerName, order, perSecond, plural, reasonOf, sum, to, unique } from "./model.js";

const [HEIGHT, GAP_Y, MARGIN] = [44, 18, 12];
// The width of nodes, the least gap between layers, and the characters of a name; and those where that is too wide.
const [WIDE, NARROW] = [
  { width: 148, gap: 66, name: 16 },
  { width: 120, gap: 38, name: 12 },
];
// Beyond so many arrows, only those that fail have a text, and nothing moves.
const FEW = 30;

// The layer of each node: one after the last of its callers. "" (outside), if it is there, is alone in the first one. An arrow
// that closes a circle does not count.
export function layersOf(names, links) {
  const [open, done, layers] = [new Set(), [], new Map(names.map((it) => [it, it && names.includes("") ? 1 : 0]))];
  const forward = links
    .filter((it) => it.callee && it.caller !== it.callee)
    .sort(by((it) => it.key))
    .map((it) => ({ ...it }));
  const visit = (name) => {
    if (open.has(name)) return;
    open.add(name);
    for (const it of forward.filter((it) => it.caller === name)) {
      it.isBack = open.has(it.callee) && !done.includes(it.callee);
      visit(it.callee);
    }
    done.push(name);
  };
  [...names].sort(order).forEach(visit);
  for (const name of done.reverse()) {
    for (const it of forward)
      if (it.caller === name && !it.isBack) layers.set(it.callee, Math.max(layers.get(it.callee), layers.get(name) + 1));
  }
  return layers;
}

// Where nodes are, by name, and what arrows pass, by key: their nodes, and a free place in each layer between.
export function layout(names, links) {
  const layers = layersOf(names, links);
  const columns = Array.from({ length: Math.max(...layers.values()) + 1 }, () => []);
  const place = (name, layer, height) => {
    const it = { name, layer, height, near: [], y: 0 };
    columns[layer].push(it);
    return it;
  };
  const nodes = new Map([...names].sort(order).map((name) => [name, place(name, layers.get(name), HEIGHT)]));
  const chains = new Map(
    links.map(({ key, caller, callee }) => {
      const [from, until] = [nodes.get(caller), nodes.get(callee)];
      const chain = [from];
      for (let layer = from.layer + 1; layer < until.layer; layer++) chain.push(place(null, layer, 6));
      chain.push(until);
      chain.slice(1).forEach((it, at) => (it.near.push(chain[at]), chain[at].near.push(it)));
      return [key, chain];
    }),
  );
  // Each moves to the middle of its neighbours: at first in order, then in distance alone.
  for (let round = 0; round < 12; round++) {
    for (const column of round % 2 ? [...columns].reverse() : columns) {
      for (const it of column) it.wanted = it.near.length ? sum(it.near, (one) => one.y) / it.near.length : it.y;
      if (round < 8) column.sort(by((it) => it.wanted));
      let low = -Infinity;
      for (const it of column) {
        it.y = Math.max(it.wanted, low + it.height / 2);
        low = it.y + it.height / 2 + GAP_Y;
      }
      const drift = sum(column, (it) => it.y - it.wanted) / (column.length || 1);
      for (const it of column) it.y -= drift;
    }
  }
  const top = Math.min(...columns.flat().map((it) => it.y - it.height / 2)) - GAP_Y;
  for (const it of columns.flat()) it.y -= top;
  return {
    nodes,
    chains,
    ports: portsOf(chains),
    columns: columns.length,
    height: Math.max(...columns.flat().map((it) => it.y + it.height / 2)) + GAP_Y,
  };
}

// Where arrows leave and reach a node: side by side, in the order of their other ends.
function portsOf(chains) {
  const ends = [...chains].flatMap(([key, chain]) =>
    [
      [chain[0], chain[1], "out"],
      [chain.at(-1), chain.at(-2), "in"],
    ].map(([node, other, side]) => ({ key: `${key} ${side}`, node, side, y: other.y })),
  );
  return new Map(
    ends.map((it) => {
      const beside = ends.filter((one) => one.node === it.node && one.side === it.side).sort(by((one) => one.y));
      return [it.key, (beside.indexOf(it) - (beside.length - 1) / 2) * Math.min(9, (HEIGHT - 12) / beside.length)];
    }),
  );
}

let laid = {};

export function graph(page, services, links) {
  const names = unique([...services.map((it) => it.name), ...links.flatMap((it) => [it.caller, it.callee])]);
  if (!names.length) return h("p.empty", "No service has been found.");
  const key = JSON.stringify([names, links.map((it) => it.key)]);
  if (laid.key !== key) laid = { key, ...layout(names, links) };
  const natural = (size) => laid.columns * (size.width + size.gap) - size.gap + 2 * MARGIN;
  const size = natural(WIDE) <= page.width ? WIDE : NARROW;
  const width = Math.max(page.width, natural(size));
  const step = (width - 2 * MARGIN - size.width) / Math.max(1, laid.columns - 1);
  const place = { ...size, left: (it) => MARGIN + it.layer * step };
  const isFew = links.length <= FEW;
  // Those that fail are above the others, the longest first: it has the reason, which is often that of all.
  links.sort(by((it) => (it.failed ? 1 / laid.chains.get(it.key).length : 0)));
  const lines = links.map((it) => line(it, place, isFew, links.find((one) => one.failed && causeOf(one) === causeOf(it)) === it));
  return [
    h(
      "div.graph",
      { key: "graph", role: "region", "aria-label": "Call graph", tabindex: "0" },
      h(
        "svg",
        { viewBox: `0 0 ${width} ${laid.height}`, width, height: laid.height },
        lines.map(([it]) => it),
        lines.map(([, label]) => label),
        services.concat(others(page, services, names)).map((it) => node(it, laid.nodes.get(it.name), place)),
      ),
    ),
    h(
      "p.legend",
      { key: "legend" },
      [
        ["idle", "declared, no call yet"],
        ["bad", "fails"],
        ["odd", "not declared"],
      ].map(([kind, words]) =>
        h(
          "span",
          h("svg", { width: 28, height: 10, "aria-hidden": "true" }, h(`g.link.${kind}`, h("path.line", { d: "M1,5H27" }))),
          ` ${words}`,
        ),
      ),
    ),
  ];
}

const causeOf = ({ callee, failed }) => `${callee} ${reasonOf(failed?.last)}`;

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
function line(link, place, isFew, hasReason) {
  const chain = laid.chains.get(link.key);
  const points = chain.map((it) => [place.left(it) + (it === chain[0] ? place.width : 0), it.y]);
  const [first, last] = [points[0], points.at(-1)];
  first[1] += laid.ports.get(`${link.key} out`);
  last[1] += laid.ports.get(`${link.key} in`);
  last[0] -= 7;
  let d = `M${first}`;
  points.slice(1).forEach(([x, y], at) => {
    const [x1, y1] = points[at];
    // An arrow back to the left turns around.
    const bend = x > x1 ? (x - x1) / 2 : 70;
    d += `C${x1 + bend},${y1} ${x - bend},${y} ${x},${y}`;
    // It passes flat where others have a node.
    if (points[at + 1] !== last) d += `H${(points[at + 1][0] += place.width)}`;
  });
  const { failed, undeclared, used, rate } = link;
  const reason = reasonOf(failed?.last);
  const isMoving = isFew && rate > 0;
  const words = [
    arrow(link),
    used ? perSecond(rate) : "declared, no call yet",
    failed && `fails: ${reason}`,
    undeclared && "not declared",
  ]
    .filter(Boolean)
    .join(", ");
  const label = failed ? hasReason && `✕ ${reason}` : undeclared ? `? ${perSecond(rate)}` : isMoving && perSecond(rate);
  // On a free place, or between its ends.
  const free = chain.length > 2 && chain[chain.length >> 1];
  const [x, y] = free
    ? [place.left(free) + place.width / 2, free.y - 4]
    : [(first[0] + last[0]) / 2, (first[1] + last[1]) / 2 - 4];
  const kind = failed ? "bad" : undeclared ? "odd" : used ? "used" : "idle";
  const open = () => (location.hash = to("calls", { words: arrow(link), open: failed?.key }));
  return [
    h(
      `g.link.${kind}`,
      { key: `link ${link.key}`, onclick: open },
      h("title", words),
      h("path.reach", { d }),
      h("path.line", { d, style: { "stroke-width": `${(1.4 + Math.min(2.6, Math.log10(1 + rate))).toFixed(1)}px` } }),
      isMoving && h("path.flow", { d }),
      h("path.head", { d: `M${last[0]},${last[1] - 4}l7,4l-7,4z` }),
    ),
    label && h(`text.label.${kind}`, { key: `label ${link.key}`, x, y }, label),
  ];
}

const WORDS = {
  up: (it) => `● ${plural(it.ready, "instance")}`,
  part: (it) => `▲ ${it.ready} of ${it.instances} ready`,
  down: () => "✕ down",
  absent: () => "○ absent",
};

function node({ name, health, ...it }, { layer, y }, place) {
  const x = place.left({ layer });
  const [words, below] = [callerName(name), health ? WORDS[health](it) : name ? "not known" : "clients"];
  return h(
    `a.node.${health || "outside"}`,
    { key: `node ${name}`, href: to("calls", { words }) },
    h("title", `${words} ${below}`),
    h("rect", { x, y: y - HEIGHT / 2, width: place.width, height: HEIGHT, rx: 8 }),
    h("text.name", { x: x + 12, y: y - 3 }, words.length > place.name ? `${words.slice(0, place.name - 1)}…` : words),
    h("text", { x: x + 12, y: y + 13 }, below),
  );
}
