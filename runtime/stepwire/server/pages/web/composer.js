// What the page sends: steps, resets, requests for the state, presets and provoked errors.

import { announce, count, element, node, setBusy } from "./dom.js";
import { showObservation } from "./observation.js";
import { ask, drop, isOpen, send } from "./session.js";

const RUN_STEPS = 100;
const FRAME_LIMIT = Number(document.body.dataset.limit); // the server's

const PRESETS = {
  Empty: "",
  Blank: " \t ",
  Emoji: "Hi 👩‍🚀 🎉 e\u0301",
  "Right to left": "שלום, עולם! مرحبا",
  CRLF: "first line\r\nsecond line\r\n",
  Markup: "<b onclick=alert(1)>&lt;not bold</b>",
  "1 MB": "x".repeat(1_000_000),
};
const nested = (levels) => "[".repeat(levels) + "]".repeat(levels);
// Each is answered by an error, or by the end of the session.
const FAULTS = {
  "Broken JSON": () => send('{"type": "step", "data": {"message": "Hi"'),
  "Unknown type": () => send('{"type": "jump"}'),
  "Missing field": () => send('{"type": "step", "data": {}}'),
  "Wrong value": () => send('{"type": "step", "data": {"message": 7}}'),
  "Too deep": () => send(`{"type": "reset", "data": {"option": ${nested(500)}}}`),
  Oversize: () => send(`{"type": "step", "data": {"message": "${"x".repeat(FRAME_LIMIT)}"}}`),
  "Failing step": async () => {
    if (await reset('"scenario": {"fail_at": 1}')) await ask({ type: "step", data: { message: "Hi" } });
  },
  "Drop the connection": drop,
};

// --- What is composed -----------------------------------------------------------------------------

let composed = element("message").value; // a preset may be text that no text area can hold

/** The arguments of the next step and reset. A change is a `composed` event of the document. */
export function composition() {
  const [seed, more] = [element("seed").value.trim(), element("more").value.trim()];
  return { message: composed, seed: seed.replace(/^0+(?=\d)/, ""), episodeId: element("episode-id").value, more };
}

export function compose(message = composed) {
  composed = message;
  document.dispatchEvent(new Event("composed"));
}

/** The arguments of a reset, as members of a JSON object. */
function resetArguments() {
  const { seed, episodeId, more } = composition(), data = [];
  // Text as it was typed: a JavaScript number would lose digits of a large seed, and the server is
  // the one to say what is wrong with further arguments.
  if (seed) data.push(`"seed":${seed}`);
  if (episodeId) data.push(`"episode_id":${JSON.stringify(episodeId)}`);
  if (more) data.push(/^\{.*\}$/s.test(more) ? more.slice(1, -1) : more);
  return data.join(",");
}

// --- The episode ----------------------------------------------------------------------------------

let stepsModule, clearings = 0; // a step that began before a reset belongs to no row
let running = false, observed; // a run shows its last observation only

export async function step(message = composed) {
  const clearing = clearings;
  const frame = JSON.stringify({ type: "step", data: { message } });
  const reply = await send(frame);
  if (reply?.type !== "observation") return false;
  const { observation, reward, metadata } = reply.data;
  if (running) observed = [reply, message];
  else showObservation(reply, message);
  const { addStep } = await (stepsModule ??= import("./episode.js"));
  const row = { number: metadata?.step, message, length: observation.message_length, reward, ms: reply.ms, sent: frame, received: reply.text };
  if (clearing === clearings) addStep(row);
  return true;
}

export async function reset(data = resetArguments()) {
  const reply = await send(`{"type":"reset","data":{${data}}}`);
  if (reply?.type !== "observation") return false;
  clearEpisode();
  showObservation(reply);
  return true;
}

export function clearEpisode() {
  clearings += 1;
  element("state-answer").textContent = "";
  stepsModule?.then(({ clearSteps }) => clearSteps());
}

export async function askForState() {
  const reply = await ask({ type: "state" });
  if (reply?.type !== "state") return;
  const { episode_id, step_count, ...more } = reply.data;
  const rest = Object.entries(more).map(([name, value]) => `, ${name} ${JSON.stringify(value)}`);
  element("state-answer").textContent = `${count(step_count, "step")} in episode ${episode_id}${rest.join("")}`;
}

export async function run() {
  const message = composed, bar = element("progress-bar");
  let taken = 0;
  setRunning(true);
  observed = undefined;
  bar.value = 0;
  element("progress").hidden = false;
  element("run").hidden = true;
  while (running && taken < RUN_STEPS && isOpen() && (await step(message))) {
    taken += 1;
    if (taken % 10 === 0) bar.value = taken;
  }
  const stopped = document.activeElement === element("stop");
  setRunning(false);
  if (observed) showObservation(...observed);
  element("progress").hidden = true;
  element("run").hidden = false;
  if (stopped) element("run").focus();
  announce(`${count(taken, "step")} taken`);
}

export const stop = () => setRunning(false);

function setRunning(value) {
  running = value;
  setBusy(value);
}

// --- Presets and errors ---------------------------------------------------------------------------

export function addPresets() {
  const message = element("message");
  addButtons("presets", PRESETS, (preset, label) => {
    // A text area turns \r\n into \n, and a megabyte makes it slow.
    message.value = preset.includes("\r") || preset.length > 1e4 ? "" : preset;
    message.placeholder = message.value === preset ? "" : `${label}, as sent`;
    compose(preset);
    step();
  });
  addButtons("faults", FAULTS, (provoke) => provoke());
}

function addButtons(id, choices, choose) {
  for (const [label, choice] of Object.entries(choices)) {
    const button = node("button", { type: "button" }, label);
    button.onclick = () => choose(choice, label);
    element(id).append(button);
  }
}
