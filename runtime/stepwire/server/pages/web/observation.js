// The last observation, and the last error.

import { announce, byteSize, count, element, node, shortened } from "./dom.js";

const LONGEST_SHOWN = 20_000;
// Spaces, line ends and characters without a shape: controls, joiners, marks of direction.
const UNSEEN = /[\s\p{Cc}\p{Cf}]/gu;
const SYMBOLS = { " ": "·", "\t": "→\t", "\n": "↵\n", "\r": "[CR]" };
const symbol = (character) =>
  SYMBOLS[character] ?? `[U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`;

let shown; // the text of the last observation

/** Shows the reply to a step with `message`, or to a reset without one. */
export function showObservation({ data, ms }, message) {
  const { echoed_message: echoed = JSON.stringify(data.observation), message_length: length } = data.observation;
  shown = echoed;
  showEcho();
  const isStep = message !== undefined, equal = echoed === message;
  element("equality").textContent = !isStep ? "From the reset" : equal ? "✓ Equals what was sent" : "✗ Differs from what was sent";
  element("equality").className = !isStep ? "quiet" : equal ? "good" : "bad";
  element("length").textContent = `${count(length ?? 0, "code point")}, ${count(isStep ? byteSize(echoed) : 0, "byte")} as UTF-8`;
  element("reward").textContent = isStep && length * 0.1 === data.reward ? `${length} × 0.1 = ${data.reward}` : String(data.reward);
  element("done").textContent = String(data.done);
  element("metadata").textContent = shortened(JSON.stringify(data.observation.metadata ?? {}, null, 2), LONGEST_SHOWN);
  element("result-note").textContent = `${isStep ? `Step ${data.metadata?.step ?? ""}` : "Reset"}, ${ms.toFixed(1)} ms`;
  element("result").hidden = false;
  element("nothing").hidden = true;
  announce(`${element("equality").textContent}, reward ${data.reward}`);
}

export function showEcho() {
  const echo = element("echo"), text = shortened(shown, LONGEST_SHOWN);
  echo.replaceChildren();
  if (!shown) return echo.append(node("span", { className: "placeholder" }, "(empty)"));
  if (!element("whitespace").checked) return echo.append(text);
  let end = 0;
  for (const found of text.matchAll(UNSEEN)) {
    echo.append(text.slice(end, found.index), node("span", { className: "mark" }, symbol(found[0])));
    end = found.index + found[0].length;
  }
  echo.append(text.slice(end));
}

/** Shows the error in a reply; hides the last one when there is none. */
export function showError(reply) {
  const box = element("error");
  box.hidden = reply?.type !== "error";
  if (box.hidden) return;
  const { code, message, errors = [] } = reply.data;
  const entries = errors.map(({ loc, msg }) => node("li", {}, loc.length ? `${loc.join(".")}: ${msg}` : msg));
  box.replaceChildren(node("strong", {}, code), ` ${message}`, node("ul", {}, ...entries));
}
