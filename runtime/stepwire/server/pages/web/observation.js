// The last observation, and the last error.

import { announce, byteSize, count, element, json, node, parse, pretty, rounded, shortened } from "./dom.js";
import { isEcho } from "./environment.js";

const LONGEST_SHOWN = 20_000, MOST_ENTRIES = 200, DEEPEST = 2;
// Spaces, line ends and characters without a shape: controls, joiners, marks of direction.
const UNSEEN = /[\s\p{Cc}\p{Cf}]/gu;
const SYMBOLS = { " ": "·", "\t": "→\t", "\n": "↵\n", "\r": "[CR]" };
const symbol = (character) =>
  SYMBOLS[character] ?? `[U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`;
// Pictures as base64, known by how their formats begin.
const PICTURE = /^(?:data:image\/(?:png|jpeg|gif|webp);base64,)?(iVBORw0KGgo|\/9j\/|R0lGOD|UklGR)[A-Za-z0-9+/\n]{40,}={0,2}\s*$/;
const FORMATS = { iVBORw0KGgo: "png", "/9j/": "jpeg", R0lGOD: "gif", UklGR: "webp" };

let shown; // the last reply, and the action that it answers

/** Shows the reply to the step `number` with `action`, or to a reset without them. */
export function showObservation(reply, action, number) {
  shown = { reply, action, number };
  element("result").hidden = false;
  element("nothing").hidden = true;
  showResult();
  announce(`${element("equality").textContent} Reward ${rounded(reply.data.reward)}`.trim());
}

export function clearObservation() {
  shown = undefined;
  element("result").hidden = true;
  element("nothing").hidden = false;
  element("result-note").textContent = "";
}

/** Shows it as fields or as JSON, as chosen on the page. */
export function showResult() {
  const { reply: { text, ms }, action, number } = shown, asJson = element("as-json").checked;
  element("facts").hidden = asJson;
  element("whole").hidden = !asJson;
  if (asJson) element("whole").textContent = shortened(pretty(text), LONGEST_SHOWN);
  const { observation: { metadata: inner, ...fields }, reward, done, metadata = inner } = parse(text).data;
  element("result-note").textContent = `${action === undefined ? "Reset" : `Step ${number}`}, ${ms.toFixed(1)} ms`;
  element("echo-facts").hidden = !isEcho || asJson;
  const [others, earned] = isEcho ? showEcho(fields, reward, action) : [fields, rounded(reward)];
  const rows = Object.entries(others).map(([name, value]) => [name, view(value, 0)]);
  rows.push(["reward", earned], ["done", done ? "true: the episode is over" : String(done)]);
  if (metadata && Object.keys(metadata).length) rows.push(["metadata", block(metadata)]);
  element("facts").replaceChildren(...terms(rows));
}

const terms = (rows) => rows.slice(0, MOST_ENTRIES).flatMap(([name, value]) => [node("dt", {}, name), node("dd", {}, value)]);
const block = (value) => node("pre", { className: "well", tabIndex: 0 }, shortened(json(value, 2), LONGEST_SHOWN));
const isPlain = (value) => typeof value !== "object" && String(value).length <= 40 || value === null;

/** A value as text, a picture, a list or named fields. */
function view(value, depth) {
  if (typeof value === "string") return viewText(value);
  if (typeof value !== "object" || value === null) return rounded(value);
  const entries = Object.entries(value);
  if (!entries.length) return node("span", { className: "placeholder" }, Array.isArray(value) ? "(empty list)" : "(empty)");
  if (depth > DEEPEST || entries.length > MOST_ENTRIES) return block(value);
  if (!Array.isArray(value)) return node("dl", { className: "nested" }, ...terms(entries.map(([name, item]) => [name, view(item, depth + 1)])));
  if (value.every(isPlain)) return value.map(rounded).join(", ");
  if (value.every((row) => Array.isArray(row) && row.every(isPlain))) return node("pre", { className: "well", tabIndex: 0 }, shortened(value.map((row) => row.map(rounded).join(" ")).join("\n"), LONGEST_SHOWN));
  return node("ol", { className: "items" }, ...value.map((item) => node("li", {}, view(item, depth + 1))));
}

function viewText(text) {
  const picture = text.length < 2e7 && PICTURE.exec(text);
  if (picture) return node("img", { alt: "", src: text.startsWith("data:") ? text : `data:image/${FORMATS[picture[1]]};base64,${text.trim()}` });
  if (!text) return node("span", { className: "placeholder" }, "(empty)");
  return node("span", { className: "value", dir: "auto" }, shortened(text, LONGEST_SHOWN));
}

/** Shows the echo and whether it is what was sent; returns the other fields, and the reward as text. */
function showEcho({ echoed_message: echoed, message_length: length, ...fields }, reward, action) {
  const equality = element("equality"), isStep = action !== undefined;
  const equal = isStep && echoed === JSON.parse(action).message;
  equality.textContent = !isStep ? "From the reset" : equal ? "✓ Equals what was sent" : "✗ Differs from what was sent";
  equality.className = !isStep ? "quiet" : equal ? "good" : "bad";
  showText(echoed);
  if (!isStep) return [fields, rounded(reward)];
  const size = `${count(length, "code point")}, ${count(byteSize(echoed), "byte")} as UTF-8`;
  return [{ length: size, ...fields }, length * 0.1 === reward ? `${length} × 0.1 = ${rounded(reward)}` : rounded(reward)];
}

function showText(whole) {
  const echo = element("echo"), text = shortened(whole, LONGEST_SHOWN);
  echo.replaceChildren();
  if (!whole) return echo.append(node("span", { className: "placeholder" }, "(empty)"));
  if (!element("whitespace").checked) return echo.append(text);
  let end = 0;
  for (const found of text.matchAll(UNSEEN)) {
    echo.append(text.slice(end, found.index), node("span", { className: "mark" }, symbol(found[0])));
    end = found.index + found[0].length;
  }
  echo.append(text.slice(end));
}

/** Shows the error in a reply instead of the last observation. */
export function showError(reply) {
  const box = element("error"), isError = reply?.type === "error";
  element("state-answer").textContent = "";
  box.hidden = !isError;
  element("result").hidden = isError || !shown;
  element("result-note").hidden = isError;
  if (!isError) return;
  const { code, message, errors = [] } = reply.data;
  const entries = errors.map(({ loc, msg }) => node("li", {}, loc.length ? `${loc.join(".")}: ${msg}` : msg));
  box.replaceChildren(node("strong", {}, code), ` ${message}`, node("ul", {}, ...entries));
}
