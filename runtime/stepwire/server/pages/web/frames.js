// The list of frames, as sent and received.

import { byteSize, copyButton, count, element, node, pretty, shortened, soon } from "./dom.js";

const MOST_FRAMES = 2000, MOST_CHARACTERS = 64e6; // kept; the oldest go first
const MOST_ROWS = 300; // listed
const LONGEST_SHOWN = 600, LONGEST_OPENED = 20_000;

let frames = [], unlisted = [], characters = 0, dropped = 0;

export function record(frame) {
  frame.at = new Date();
  frame.bytes = byteSize(frame.text);
  frames.push(frame);
  characters += frame.text.length;
  while (frames.length > MOST_FRAMES || (characters > MOST_CHARACTERS && frames.length > 1)) {
    characters -= frames.shift().text.length;
    dropped += 1;
  }
  unlisted.push(frame);
  // All frames that come before the next drawing are listed together.
  if (unlisted.length === 1) soon(() => appendFrames(unlisted.splice(0).filter(isWanted)));
}

function isWanted({ sent, type, text }) {
  const kind = element("kind").value, words = element("filter").value.toLowerCase();
  const isKind = kind === "all" || (kind === "error" ? type === "error" && !sent : sent === (kind === "sent"));
  return isKind && (!words || text.toLowerCase().includes(words));
}

const wanted = () => frames.filter(isWanted);

// The list follows new frames until it is scrolled up. Only that ends it: the list's height changes
// with the page around it, which moves its end away without any scrolling.
let follows = true, lastTop = 0;

function scrollToEnd() {
  const list = element("frames");
  list.scrollTop = list.scrollHeight;
  lastTop = list.scrollTop;
}

export function followFrames() {
  const list = element("frames");
  list.addEventListener("scroll", () => {
    if (list.scrollHeight - list.scrollTop - list.clientHeight < 40) follows = true;
    else if (list.scrollTop < lastTop - 1) follows = false;
    lastTop = list.scrollTop;
  });
  new ResizeObserver(() => { if (follows) scrollToEnd(); }).observe(list);
}

function appendFrames(added) {
  const list = element("frames");
  if (added.length) list.querySelector(".none")?.remove();
  list.append(...added.slice(-MOST_ROWS).map(frameRow));
  while (list.children.length > MOST_ROWS) list.firstChild.remove();
  if (follows) scrollToEnd();
  showFrameCount();
}

function frameRow({ sent, type, text, at, bytes, ms }) {
  const full = element("pretty").checked ? pretty(text) : text;
  const content = node("pre", {}, shortened(full, LONGEST_SHOWN));
  const clock = at.toTimeString().slice(0, 8) + "." + String(at.getMilliseconds()).padStart(3, "0");
  const row = node("li", { className: sent ? "sent" : type === "error" ? "error" : "received" },
    node("span", { className: "arrow", ariaHidden: "true" }, sent ? "→" : "←"),
    node("span", { className: "meta" },
      node("span", { className: "unseen" }, sent ? "Sent" : "Received"),
      node("span", { className: "type" }, String(type)),
      node("span", {}, count(bytes, "byte")), node("span", {}, clock),
      ...(ms === undefined ? [] : [node("span", {}, `${ms.toFixed(1)} ms`)])),
    copyButton("Copy", () => text, "plain"), content);
  if (full.length > LONGEST_SHOWN) {
    const more = node("button", { type: "button", className: "plain" }, "Show more");
    more.onclick = () => { content.textContent = shortened(full, LONGEST_OPENED); more.remove(); };
    row.querySelector(".meta").append(more);
  }
  return row;
}

/** Lists the frames anew, as the filter and the options now ask. */
export function listFrames() {
  const list = element("frames"), rows = wanted().slice(-MOST_ROWS).map(frameRow);
  unlisted = [];
  list.replaceChildren(...rows);
  if (!rows.length) list.append(node("li", { className: "none" }, frames.length ? "No frame matches." : "Nothing has been sent yet."));
  follows = true;
  scrollToEnd();
  showFrameCount();
}

function showFrameCount() {
  const fitting = wanted().length;
  const parts = [fitting === frames.length ? count(fitting, "frame") : `${fitting} of ${count(frames.length, "frame")}`];
  if (fitting > MOST_ROWS) parts.push(`the last ${MOST_ROWS} are listed`);
  if (dropped) parts.push(`${dropped} older ones were dropped`);
  element("frame-count").textContent = parts.join(", ");
}

export function clearFrames() {
  frames = [];
  characters = dropped = 0;
  listFrames();
}

export const asLines = () =>
  wanted().map(({ at, sent, text }) => JSON.stringify({ time: at.toISOString(), direction: sent ? "sent" : "received", frame: text }) + "\n").join("");

export function download() {
  const url = URL.createObjectURL(new Blob([asLines()], { type: "application/jsonl" }));
  node("a", { href: url, download: "frames.jsonl" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
