// The protocol inspector: one tab is one WebSocket is one session with an environment of its own.
//
// What a user or the server sends becomes text nodes only; the page's Content-Security-Policy
// (`require-trusted-types-for`) refuses anything else. The other modules are loaded when first used.

const MOST_FRAMES = 2000, MOST_CHARACTERS = 64e6; // kept; the oldest go first
const MOST_ROWS = 300; // frames in the list
const LONGEST_SHOWN = 600, LONGEST_OPENED = 20_000;
const RUN_STEPS = 100;
const FRAME_LIMIT = Number(document.body.dataset.limit); // the server's

const nested = (levels) => "[".repeat(levels) + "]".repeat(levels);
const PRESETS = {
  Empty: "",
  Blank: " \t ",
  Emoji: "Hi 👩‍🚀 🎉 e\u0301",
  "Right to left": "שלום, עולם! مرحبا",
  CRLF: "first line\r\nsecond line\r\n",
  Markup: "<b onclick=alert(1)>&lt;not bold</b>",
  "1 MB": "x".repeat(1_000_000),
};
// What each sends; each is answered by an error, or by the end of the session.
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
  "Drop the connection": () => socket.close(),
};

export const element = (id) => document.getElementById(id);

/** A new element: `node("b", { className: "type" }, "text", otherNode)`. */
export function node(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const bytes = (text) => new Blob([text]).size;
const shortened = (text, limit) =>
  text.length > limit ? `${text.slice(0, limit)}… (${count(text.length, "character")} in all)` : text;
export const announce = (text) => { element("announcement").textContent = text; };

function parsed(text) {
  try { return JSON.parse(text); } catch { return undefined; }
}

/** JSON in several lines, other text as it is. Only for display: large numbers lose digits. */
export function pretty(text) {
  const value = text.length < 1e5 ? parsed(text) : undefined;
  return value === undefined ? text : JSON.stringify(value, null, 2);
}

// The page is at …/web and everything else beside it, so this holds behind a path prefix as well.
export function address(path) {
  const url = new URL(path, location.href);
  if (path === "ws") url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

// --- The session -------------------------------------------------------------------------------

let socket;
let waiting = []; // what has been sent and not been answered: replies come in the order of requests
let refusal; // what the server said before it ended the session

export const isOpen = () => socket.readyState === WebSocket.OPEN;

function setStatus(status, text, button = "Reconnect") {
  element("connection").dataset.status = status;
  element("status").textContent = text;
  element("reconnect").textContent = button;
  element("reconnect").hidden = status !== "closed";
  const focused = document.activeElement;
  for (const control of document.querySelectorAll("[data-session], .chips button")) control.disabled = status !== "open";
  if (focused?.disabled) element("reconnect").focus();
  document.dispatchEvent(new Event("status"));
}

function connect() {
  setStatus("connecting", "Connecting…");
  const opened = socket = new WebSocket(address("ws"));
  refusal = undefined;
  let wasOpen = false;
  socket.onopen = () => {
    wasOpen = true;
    clearEpisode();
    setStatus("open", "Connected");
    showCapacity();
  };
  socket.onmessage = ({ data }) => {
    const { type, data: content } = parsed(data);
    const asked = waiting.shift();
    const ms = asked && performance.now() - asked.started;
    record({ text: data, type, ms, sent: false });
    if (type === "error") refusal = content;
    asked?.resolve({ type, data: content, text: data, ms });
  };
  socket.onclose = async ({ code, reason }) => {
    for (const { resolve } of waiting.splice(0)) resolve(null);
    if (opened !== socket) return;
    if (refusal?.code === "CAPACITY_REACHED") {
      setStatus("closed", `The server is full: ${refusal.active_sessions} of ${refusal.max_sessions} sessions are in use`, "Try again");
      setCapacity(refusal);
    } else if (wasOpen) {
      const why = reason || (refusal?.code === "SESSION_ERROR" && refusal.message) || `code ${code}`;
      setStatus("closed", code === 1000 ? "Closed: the session and its episode are over" : `Disconnected (${why}): the episode is lost`);
    } else if (await isRefused()) {
      setStatus("closed", "The server needs a token", "Enter it");
    } else {
      setStatus("closed", "No connection: is the server running?");
    }
  };
}

const isRefused = async () => {
  try { return (await fetch(address("sessions"))).status === 401; } catch { return false; }
};

function reconnect() {
  if (element("reconnect").textContent === "Enter it") return location.reload();
  connect();
  element("message").focus();
}

async function showCapacity() {
  try { setCapacity(await (await fetch(address("sessions"))).json()); } catch { /* gone again */ }
}

function setCapacity({ active_sessions, max_sessions }) {
  if (max_sessions === undefined) return;
  element("capacity").textContent = `${active_sessions} of ${count(max_sessions, "session")}`;
  element("capacity").hidden = false;
}

function send(text) {
  record({ text, type: /"type": ?"(\w+)"/.exec(text.slice(0, 100))?.[1], sent: true });
  const answered = new Promise((resolve) => { waiting.push({ resolve, started: performance.now() }); });
  socket.send(text);
  return answered.then((reply) => { showError(reply); return reply; });
}

/** Sends a frame; resolves to its reply, `{type, data, text, ms}`, or null when there is none. */
export const ask = (frame) => send(JSON.stringify(frame));

function showError(reply) {
  const box = element("error");
  box.hidden = reply?.type !== "error";
  if (box.hidden) return;
  const { code, message, errors = [] } = reply.data;
  const entries = errors.map(({ loc, msg }) => node("li", {}, loc.length ? `${loc.join(".")}: ${msg}` : msg));
  box.replaceChildren(node("strong", {}, code), ` ${message}`, node("ul", {}, ...entries));
}

// --- Episode: step, reset, state ----------------------------------------------------------------

let composed = element("message").value; // what Step sends; a preset may be what no text area can hold
let stepsModule, running = false, observed, clearings = 0;

/** Draws soon. During a run seldom: the time of a step is to be the server's, not the drawing's. */
export const soon = (draw) => (running ? setTimeout(draw, 150) : requestAnimationFrame(draw));

const episode = () => (stepsModule ??= import("./episode.js"));

/** What the next step and reset would send. */
export function composition() {
  const [seed, more] = [element("seed").value.trim(), element("more").value.trim()];
  return { message: composed, seed: seed.replace(/^0+(?=\d)/, ""), episodeId: element("episode-id").value, more };
}

export function compose(message) {
  composed = message;
  document.dispatchEvent(new Event("composed"));
}

async function step(message) {
  const clearing = clearings;
  const frame = JSON.stringify({ type: "step", data: { message } });
  const reply = await send(frame);
  if (reply?.type !== "observation") return false;
  const { observation, reward, metadata } = reply.data;
  const number = metadata?.step;
  if (running) observed = [reply, message];
  else showObservation(reply, message);
  const taken = { number, message, length: observation.message_length, reward, ms: reply.ms, sent: frame, received: reply.text };
  const { addStep } = await episode();
  if (clearing === clearings) addStep(taken);
  return true;
}

/** What is in the fields, as members of a JSON object. */
function resetArguments() {
  const { seed, episodeId, more } = composition(), data = [];
  // As typed: a large seed would lose digits on its way through a JavaScript number, and what is
  // wrong with the further arguments the server shall say.
  if (seed) data.push(`"seed":${seed}`);
  if (episodeId) data.push(`"episode_id":${JSON.stringify(episodeId)}`);
  if (more) data.push(/^\{.*\}$/s.test(more) ? more.slice(1, -1) : more);
  return data.join(",");
}

async function reset(data = resetArguments()) {
  const reply = await send(`{"type":"reset","data":{${data}}}`);
  if (reply?.type !== "observation") return false;
  clearEpisode();
  showObservation(reply);
  return true;
}

function clearEpisode() {
  clearings += 1;
  element("state-answer").textContent = "";
  stepsModule?.then(({ clearSteps }) => clearSteps());
}

async function askForState() {
  const reply = await ask({ type: "state" });
  if (reply?.type !== "state") return;
  const { episode_id, step_count, ...more } = reply.data;
  const rest = Object.entries(more).map(([name, value]) => `, ${name} ${JSON.stringify(value)}`);
  element("state-answer").textContent = `${count(step_count, "step")} in episode ${episode_id}${rest.join("")}`;
}

async function run() {
  const message = composed, bar = element("progress-bar");
  let taken = 0;
  running = true;
  observed = undefined;
  bar.value = 0;
  element("progress").hidden = false;
  element("run").hidden = true;
  while (running && taken < RUN_STEPS && isOpen() && (await step(message))) {
    taken += 1;
    if (taken % 10 === 0) bar.value = taken;
  }
  const stopped = document.activeElement === element("stop");
  running = false;
  if (observed) showObservation(...observed);
  element("progress").hidden = true;
  element("run").hidden = false;
  if (stopped) element("run").focus();
  announce(`${count(taken, "step")} taken`);
}

// --- Observation --------------------------------------------------------------------------------

let shown; // what the environment echoed last

function showObservation({ data, ms }, message) {
  const { echoed_message: echoed = JSON.stringify(data.observation), message_length: length } = data.observation;
  shown = echoed;
  showEcho();
  const isStep = message !== undefined, equal = echoed === message;
  element("equality").textContent = !isStep ? "From the reset" : equal ? "✓ Equals what was sent" : "✗ Differs from what was sent";
  element("equality").className = !isStep ? "quiet" : equal ? "good" : "bad";
  element("length").textContent = `${count(length ?? 0, "code point")}, ${count(isStep ? bytes(echoed) : 0, "byte")} as UTF-8`;
  element("reward").textContent = isStep && length * 0.1 === data.reward ? `${length} × 0.1 = ${data.reward}` : String(data.reward);
  element("done").textContent = String(data.done);
  element("metadata").textContent = shortened(JSON.stringify(data.observation.metadata ?? {}, null, 2), LONGEST_OPENED);
  element("result-note").textContent = `${isStep ? `Step ${data.metadata?.step ?? ""}` : "Reset"}, ${ms.toFixed(1)} ms`;
  element("result").hidden = false;
  element("nothing").hidden = true;
  announce(`${element("equality").textContent}, reward ${data.reward}`);
}

// Blanks, line ends and whatever has no shape of its own: controls, joiners, marks of direction.
const UNSEEN = /[\s\p{Cc}\p{Cf}]/gu;
const SYMBOLS = { " ": "·", "\t": "→\t", "\n": "↵\n", "\r": "[CR]" };
const symbol = (character) =>
  SYMBOLS[character] ?? `[U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`;

function showEcho() {
  const echo = element("echo"), text = shortened(shown, LONGEST_OPENED);
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

// --- Frames -------------------------------------------------------------------------------------

let frames = [], unlisted = [], characters = 0, dropped = 0;

function record(frame) {
  frame.at = new Date();
  frame.bytes = bytes(frame.text);
  frames.push(frame);
  characters += frame.text.length;
  while (frames.length > MOST_FRAMES || (characters > MOST_CHARACTERS && frames.length > 1)) {
    characters -= frames.shift().text.length;
    dropped += 1;
  }
  unlisted.push(frame);
  if (unlisted.length > 1) return;
  // Once for each picture, however many frames come before it: the wire does not wait for the list.
  soon(() => appendFrames(unlisted.splice(0).filter(isWanted)));
}

function isWanted({ sent, type, text }) {
  const kind = element("kind").value, words = element("filter").value.toLowerCase();
  const isKind = kind === "all" || (kind === "error" ? type === "error" && !sent : sent === (kind === "sent"));
  return isKind && (!words || text.toLowerCase().includes(words));
}

const wanted = () => frames.filter(isWanted);

function appendFrames(added) {
  const list = element("frames");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  if (added.length) list.querySelector(".none")?.remove();
  list.append(...added.slice(-MOST_ROWS).map(frameRow));
  while (list.children.length > MOST_ROWS) list.firstChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
  showFrameCount();
}

function frameRow({ sent, type, text, at, bytes: size, ms }) {
  const full = element("pretty").checked ? pretty(text) : text;
  const content = node("pre", {}, shortened(full, LONGEST_SHOWN));
  const clock = at.toTimeString().slice(0, 8) + "." + String(at.getMilliseconds()).padStart(3, "0");
  const row = node("li", { className: sent ? "sent" : type === "error" ? "error" : "received" },
    node("span", { className: "arrow", ariaHidden: "true" }, sent ? "→" : "←"),
    node("span", { className: "meta" },
      node("span", { className: "unseen" }, sent ? "Sent" : "Received"),
      node("span", { className: "type" }, String(type)),
      node("span", {}, count(size, "byte")), node("span", {}, clock),
      ...(ms === undefined ? [] : [node("span", {}, `${ms.toFixed(1)} ms`)])),
    copyButton("Copy", () => text, "plain"), content);
  if (full.length > LONGEST_SHOWN) {
    const more = node("button", { type: "button", className: "plain" }, "Show more");
    more.onclick = () => { content.textContent = shortened(full, LONGEST_OPENED); more.remove(); };
    row.querySelector(".meta").append(more);
  }
  return row;
}

function listFrames() {
  const list = element("frames"), rows = wanted().slice(-MOST_ROWS).map(frameRow);
  unlisted = [];
  list.replaceChildren(...rows);
  if (!rows.length) list.append(node("li", { className: "none" }, frames.length ? "No frame matches." : "Nothing has been sent yet."));
  list.scrollTop = list.scrollHeight;
  showFrameCount();
}

function showFrameCount() {
  const fitting = wanted().length;
  const parts = [fitting === frames.length ? count(fitting, "frame") : `${fitting} of ${count(frames.length, "frame")}`];
  if (fitting > MOST_ROWS) parts.push(`the last ${MOST_ROWS} are listed`);
  if (dropped) parts.push(`${dropped} older ones were dropped`);
  element("frame-count").textContent = parts.join(", ");
}

const asLines = () =>
  wanted().map(({ at, sent, text }) => JSON.stringify({ time: at.toISOString(), direction: sent ? "sent" : "received", frame: text }) + "\n").join("");

function download() {
  const url = URL.createObjectURL(new Blob([asLines()], { type: "application/jsonl" }));
  node("a", { href: url, download: "frames.jsonl" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// --- Copying ------------------------------------------------------------------------------------

// An embedded page may have no clipboard; there the browser's old command still copies what is
// selected. Where one can ask beforehand, trying would be reported in the console.
async function copy(text) {
  try {
    if (document.featurePolicy?.allowsFeature("clipboard-write") === false) throw new Error("not allowed");
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const focused = document.activeElement;
    const area = node("textarea", { value: text, className: "unseen", ariaHidden: "true" });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }
}

export function copyButton(label, text, className = "small") {
  const button = node("button", { type: "button", className }, label);
  button.onclick = () => copyFrom(button, text());
  return button;
}

async function copyFrom(button, text) {
  const label = button.textContent, done = await copy(text);
  button.textContent = done ? "Copied" : "Not copied";
  announce(button.textContent);
  setTimeout(() => { button.textContent = label; }, 1500);
}

// --- Tabs ---------------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll("[role=tab]")];
const LOADERS = {
  "code-panel": async (panel) => (await import("./code.js")).showCode(panel),
  "tools-panel": async (panel) => (await import("./tools.js")).showTools(panel),
};

function selectTab(chosen) {
  for (const tab of tabs) {
    const selected = tab === chosen, panel = element(tab.getAttribute("aria-controls"));
    tab.ariaSelected = String(selected);
    tab.tabIndex = selected ? 0 : -1;
    panel.hidden = !selected;
    if (selected && LOADERS[panel.id]) {
      LOADERS[panel.id](panel);
      delete LOADERS[panel.id]; // it has shown itself, and keeps itself up to date
    }
  }
}

function moveBetweenTabs(event) {
  const moves = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
  if (!(event.key in moves)) return;
  event.preventDefault();
  const from = tabs.indexOf(event.target), move = moves[event.key];
  const to = Number.isFinite(move) ? (from + move + tabs.length) % tabs.length : move > 0 ? tabs.length - 1 : 0;
  tabs[to].focus();
  selectTab(tabs[to]);
}

// --- Wiring -------------------------------------------------------------------------------------

export function onSubmit(form, action) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (isOpen()) action();
  });
}

const message = element("message");
onSubmit(element("step-form"), () => { step(composed); message.select(); });
onSubmit(element("reset-form"), () => reset());
message.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  message.form.requestSubmit();
});
message.addEventListener("input", () => compose(message.value));
for (const id of ["seed", "episode-id", "more"]) element(id).addEventListener("input", () => compose(composed));
for (const [label, preset] of Object.entries(PRESETS)) {
  const button = node("button", { type: "button" }, label);
  button.onclick = () => {
    // A text area holds no carriage return, and no megabyte without getting slow.
    message.value = preset.includes("\r") || preset.length > 1e4 ? "" : preset;
    message.placeholder = message.value === preset ? "" : `${label}, as sent`;
    compose(preset);
    step(preset);
  };
  element("presets").append(button);
}
for (const [label, provoke] of Object.entries(FAULTS)) {
  const button = node("button", { type: "button" }, label);
  button.onclick = provoke;
  element("faults").append(button);
}
element("run").onclick = run;
element("stop").onclick = () => { running = false; };
element("state").onclick = askForState;
element("close").onclick = () => {
  const text = '{"type":"close"}';
  record({ text, type: "close", sent: true });
  socket.send(text); // it has no answer but the end of the session
};
element("reconnect").onclick = reconnect;
element("whitespace").onchange = showEcho;
for (const id of ["filter", "kind", "pretty"]) element(id).addEventListener("input", listFrames);
element("copy-frames").onclick = ({ target }) => copyFrom(target, asLines());
element("download").onclick = download;
element("clear").onclick = () => { frames = []; characters = dropped = 0; listFrames(); };
for (const tab of tabs) {
  tab.onclick = () => selectTab(tab);
  tab.onkeydown = moveBetweenTabs;
}
listFrames();
if (self === top) message.focus(); // an embedding page keeps its focus
connect();
