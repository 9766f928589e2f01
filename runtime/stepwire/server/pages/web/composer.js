// What the page sends: steps, resets, requests for the state, presets and provoked errors.

import { announce, count, element, json, node, parse, setBusy } from "./dom.js";
import { addStep, clearSteps } from "./episode.js";
import { environment, isEcho } from "./environment.js";
import { alternatives, callsTool, resolve, schemaForm } from "./form.js";
import { clearObservation, showObservation } from "./observation.js";
import { ask, drop, isOpen, on, send } from "./session.js";
import { listTools } from "./tools.js";

const RUN_STEPS = 100, LONGEST_EDITED = 20_000;
const FRAME_LIMIT = Number(document.body.dataset.limit); // the server's

const { schema } = environment;

// --- What is composed -----------------------------------------------------------------------------

// The JSON of the next step's `data`, which is sent unchanged. The form writes it, and shows it if it can.
let composed = "{}";
let form;

/** The arguments of the next step and reset. A change is a `composed` event of the document. */
export function composition() {
  const [seed, more] = [element("seed").value.trim(), element("more").value.trim()];
  return { action: composed, seed: seed.replace(/^0+(?=\d)/, ""), episodeId: element("episode-id").value, more };
}

export const announceComposition = () => document.dispatchEvent(new Event("composed"));

function compose(text, note = "") {
  composed = text;
  showJson();
  element("json-note").textContent = note;
  announceComposition();
}

/** Shows the JSON, unless it is being edited or hidden. */
function showJson() {
  const area = element("json"), isLong = composed.length > LONGEST_EDITED;
  if (document.activeElement === area || !element("raw").open) return;
  area.value = isLong ? "" : composed;
  area.placeholder = isLong ? `${count(composed.length, "character")} of JSON` : "";
}

function composeFromJson(text) {
  let note = "";
  try {
    if (!form.write(parse(text))) note = "The form cannot show this. The JSON is sent as it is.";
  } catch (error) {
    note = `Not JSON: ${error.message}. It is sent as it is.`;
  }
  compose(text, note);
}

function showForm(tools) {
  form = schemaForm(schema, tools);
  element("fields").replaceChildren(form.node);
  element("fields").classList.toggle("echo", isEcho);
}

const takesTools = alternatives(resolve(schema, schema), schema).some(callsTool);

async function offerTools() {
  const tools = await listTools();
  if (!tools) return;
  showForm(tools);
  try {
    if (!form.write(parse(composed))) compose(form.read());
  } catch { /* the edited text is not JSON yet */ }
}

export function prepare() {
  showForm(takesTools ? [] : undefined);
  if (environment.example !== null) form.write(environment.example);
  compose(form.read());
  element("fields").addEventListener("input", () => compose(form.read()));
  element("json").addEventListener("input", ({ target }) => composeFromJson(target.value));
  element("raw").addEventListener("toggle", showJson);
  for (const id of ["seed", "episode-id", "more"]) element(id).addEventListener("input", announceComposition);
  if (takesTools) on("status", ({ status }) => { if (status === "open") offerTools(); });
  addButtons("presets", isEcho ? PRESETS : {}, takePreset);
  addButtons("faults", FAULTS, (provoke) => provoke());
}

/** The first control of the form. */
export const focusForm = () => element("fields").querySelector("input, textarea, select")?.focus();

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

let clearings = 0; // a step that began before a reset gets no row
let taken = 0; // steps since then
let running = false, isOver = false, observed; // a run shows only its last observation

export async function step(action = composed) {
  const clearing = clearings, frame = `{"type":"step","data":${action.trim() || "null"}}`;
  const reply = await send(frame);
  if (reply?.type !== "observation") return false;
  const { observation, reward, done } = reply.data, number = clearing === clearings ? ++taken : 0;
  isOver = done;
  if (running) observed = [reply, action, number];
  else showObservation(reply, action, number);
  const row = { number, action, length: observation.message_length, reward, done, ms: reply.ms, sent: frame, received: reply.text };
  if (number) addStep(row);
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
  taken = 0;
  isOver = false;
  clearObservation();
  clearSteps();
}

export async function askForState() {
  const reply = await ask({ type: "state" });
  if (reply?.type !== "state") return;
  const { episode_id, step_count, ...more } = parse(reply.text).data;
  const rest = Object.entries(more).map(([name, value]) => `, ${name} ${json(value)}`);
  const steps = typeof step_count === "number" ? count(step_count, "step") : "A state";
  element("state-answer").textContent = `${steps}${episode_id == null ? "" : ` in episode ${episode_id}`}${rest.join("")}`.slice(0, 5000);
}

export async function run() {
  const action = composed, bar = element("progress-bar");
  let made = 0;
  setRunning(true);
  observed = undefined;
  bar.value = 0;
  element("progress").hidden = false;
  element("run").hidden = true;
  while (running && made < RUN_STEPS && isOpen() && (await step(action))) {
    made += 1;
    if (made % 10 === 0) bar.value = made;
    if (isOver) break;
  }
  const stopped = document.activeElement === element("stop");
  setRunning(false);
  if (observed && element("error").hidden) showObservation(...observed);
  element("progress").hidden = true;
  element("run").hidden = false;
  if (stopped) element("run").focus();
  announce(`${count(made, "step")} taken`);
}

export const stop = () => setRunning(false);

function setRunning(value) {
  running = value;
  setBusy(value);
}

// --- Presets and errors ---------------------------------------------------------------------------

const PRESETS = {
  Empty: "",
  Blank: " \t ",
  Emoji: "Hi 👩‍🚀 🎉 e\u0301",
  "Right to left": "שלום, עולם! مرحبا",
  CRLF: "first line\r\nsecond line\r\n",
  Markup: "<b onclick=alert(1)>&lt;not bold</b>",
  "1 MB": "x".repeat(1_000_000),
};

function takePreset(message) {
  form.write({ message });
  compose(JSON.stringify({ message }));
  step();
}

const nested = (levels) => "[".repeat(levels) + "]".repeat(levels);
const [needed] = schema.required ?? [];
// A string field refuses a number; most others refuse a list.
const wrong = () => JSON.stringify(needed === undefined ? 7 : { [needed]: ["array", undefined].includes(schema.properties?.[needed]?.type) ? 7 : [] });
// Each is answered by an error, or by the end of the session.
const FAULTS = {
  "Broken JSON": () => send('{"type": "step", "data": {"message": "Hi"'),
  "Unknown type": () => send('{"type": "jump"}'),
  ...(needed !== undefined && { "Missing field": () => send('{"type": "step", "data": {}}') }),
  "Wrong value": () => send(`{"type": "step", "data": ${wrong()}}`),
  "Too deep": () => send(`{"type": "reset", "data": {"option": ${nested(500)}}}`),
  Oversize: () => send(`{"type": "step", "data": {"message": "${"x".repeat(FRAME_LIMIT)}"}}`),
  "Failing step": async () => {
    if (await reset('"scenario": {"fail_at": 1}')) await send(`{"type":"step","data":${composed}}`);
  },
  "Drop the connection": drop,
};

function addButtons(id, choices, choose) {
  for (const [label, choice] of Object.entries(choices)) {
    const button = node("button", { type: "button" }, label);
    button.onclick = () => choose(choice);
    element(id).append(button);
  }
  element(id).hidden = element(`${id}-heading`).hidden = Object.keys(choices).length === 0;
}
