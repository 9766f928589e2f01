// The steps of an episode: a table whose rows open their frames, and three small charts.

import { count, element, node, pretty, rounded, shortened, soon } from "./dom.js";
import { isEcho } from "./environment.js";

const MOST_DRAWN = 200, MOST_ROWS = 1000, LONGEST_CELL = 300, LONGEST_FRAME = 20_000;
const WIDTH = 200, HEIGHT = 50;

let steps = [], undrawn = [], total = 0, drawing = false;

export function addStep(step) {
  steps.push(step);
  total += Number(step.reward ?? 0); // a reward may be true or false
  step.total = total;
  undrawn.push(step);
  draw();
}

export function clearSteps() {
  steps = [];
  undrawn = [];
  total = 0;
  element("rows").replaceChildren();
  draw();
}

/** The action's text in the table. */
const title = (action) => (isEcho ? JSON.parse(action).message : shortened(action, LONGEST_CELL));

function row(step) {
  const opener = node("button", { type: "button", ariaExpanded: "false" }, String(step.number));
  opener.ariaLabel = `Frames of step ${opener.textContent}`;
  const text = title(step.action);
  const made = node("tr", { className: "step" },
    node("td", {}, opener),
    node("td", { className: text ? "text" : "text placeholder", dir: "auto" }, text.slice(0, LONGEST_CELL) || "(empty)"),
    ...(isEcho ? [node("td", { className: "number wide" }, String(step.length))] : []),
    node("td", { className: "number" }, rounded(step.reward ?? "none")),
    node("td", { className: "number" }, step.ms.toFixed(1)));
  made.onclick = () => {
    const open = opener.ariaExpanded === "true";
    opener.ariaExpanded = String(!open);
    if (open) made.nextSibling.remove();
    else made.after(framesOf(step));
  };
  return made;
}

function framesOf(step) {
  const pair = node("div", { className: "pair" });
  for (const [title, text] of [["Sent", step.sent], ["Received", step.received]]) {
    const frame = node("pre", { className: "well", tabIndex: 0 }, shortened(pretty(text), LONGEST_FRAME));
    pair.append(node("div", {}, node("p", {}, title), frame));
  }
  return node("tr", { className: "opened" }, node("td", { colSpan: 5 }, pair));
}

// --- Charts -------------------------------------------------------------------------------------

function draw() {
  if (drawing) return;
  drawing = true; // once for all steps that come before the next drawing
  soon(() => {
    drawing = false;
    const rows = element("rows");
    rows.prepend(...undrawn.splice(0).slice(-MOST_ROWS).reverse().map(row));
    while (rows.children.length > MOST_ROWS) rows.lastChild.remove();
    element("no-steps").hidden = steps.length > 0;
    element("steps").hidden = steps.length === 0;
    element("episode-note").textContent = steps.length ? `${count(steps.length, "step")}, total reward ${rounded(total)}${steps.at(-1).done ? ", done" : ""}` : "";
    if (steps.length) drawCharts();
  });
}

function drawCharts() {
  const recent = steps.slice(-MOST_DRAWN), rewards = recent.map(({ reward }) => Number(reward ?? 0));
  const before = recent[0].total - rewards[0], totals = [before, ...recent.map((step) => step.total)], latencies = recent.map(({ ms }) => ms);
  const sorted = steps.map(({ ms }) => ms).sort((a, b) => a - b);
  const percentile = (share) => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
  const [p50, p95] = [percentile(0.5), percentile(0.95)];
  const span = steps.length > MOST_DRAWN ? `, last ${MOST_DRAWN} steps` : "";
  element("charts").replaceChildren(
    chart(`Reward per step${span}`, `last ${rounded(rewards.at(-1))}`, rewards, bars),
    chart(`Cumulative reward${span}`, rounded(total), totals, area),
    chart(`Milliseconds per step${span}`, `p50 ${p50.toFixed(1)}, p95 ${p95.toFixed(1)}`, latencies, bars, [p50, p95]));
}

function chart(title, figure, values, shape, limits = []) {
  const top = Math.max(...values, ...limits, 0) * 1.08 || 1;
  const bottom = Math.min(...values, 0);
  const y = (value) => (HEIGHT * (1 - (value - bottom) / (top - bottom))).toFixed(2);
  const svg = shapeNode("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}: ${figure}` });
  svg.append(...shape(values, y));
  for (const limit of limits) svg.append(shapeNode("path", { class: "limit", d: `M0 ${y(limit)}H${WIDTH}` }));
  return node("figure", {}, node("figcaption", {}, title, node("b", {}, figure)), svg);
}

function shapeNode(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function bars(values, y) {
  const width = WIDTH / Math.max(values.length, 20);
  const d = values.map((value, index) => `M${(index * width).toFixed(2)} ${y(0)}V${y(value)}h${(width * 0.75).toFixed(2)}V${y(0)}`);
  return [shapeNode("path", { class: "bars", d: d.join("") })];
}

function area(values, y) {
  const width = WIDTH / Math.max(values.length - 1, 20);
  const line = values.map((value, index) => `${index ? "L" : "M"}${(index * width).toFixed(2)} ${y(value)}`).join("");
  return [
    shapeNode("path", { class: "area", d: `${line}V${y(0)}H0Z` }),
    shapeNode("path", { d: line }),
  ];
}
