// The protocol inspector: one tab is one WebSocket is one session with an environment of its own.
//
// This module connects the page's controls and the session's events to the other modules. `code`,
// `tools` and `episode` are loaded when they are first used.

import { addPresets, askForState, clearEpisode, compose, reset, run, step, stop } from "./composer.js";
import { copyFrom, count, element, onSubmit } from "./dom.js";
import { asLines, clearFrames, download, listFrames, record } from "./frames.js";
import { showEcho, showError } from "./observation.js";
import { close, connect, isOpen, on } from "./session.js";

// --- The session -------------------------------------------------------------------------------

let needsToken = false;

function showStatus({ status, text, button = "Reconnect", needsToken: isTokenMissing = false }) {
  needsToken = isTokenMissing;
  element("connection").dataset.status = status;
  element("status").textContent = text;
  element("reconnect").textContent = button;
  element("reconnect").hidden = status !== "closed";
  const focused = document.activeElement;
  for (const control of document.querySelectorAll("[data-session], .chips button")) control.disabled = status !== "open";
  if (focused?.disabled) element("reconnect").focus();
  if (status === "open") clearEpisode();
}

function showCapacity({ active_sessions, max_sessions }) {
  if (max_sessions === undefined) return;
  element("capacity").textContent = `${active_sessions} of ${count(max_sessions, "session")}`;
  element("capacity").hidden = false;
}

on("status", showStatus);
on("capacity", showCapacity);
on("frame", record);
on("reply", showError);
element("close").onclick = close;
element("reconnect").onclick = () => {
  if (needsToken) return location.reload();
  connect();
  element("message").focus();
};

// --- Sending ------------------------------------------------------------------------------------

const message = element("message");
onSubmit(message.form, () => {
  if (!isOpen()) return;
  step();
  message.select();
});
onSubmit(element("reset-form"), () => { if (isOpen()) reset(); });
message.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  message.form.requestSubmit();
});
message.addEventListener("input", () => compose(message.value));
for (const id of ["seed", "episode-id", "more"]) element(id).addEventListener("input", () => compose());
element("run").onclick = run;
element("stop").onclick = stop;
element("state").onclick = askForState;
element("whitespace").onchange = showEcho;
addPresets();

// --- Frames -------------------------------------------------------------------------------------

for (const id of ["filter", "kind", "pretty"]) element(id).addEventListener("input", listFrames);
element("copy-frames").onclick = ({ target }) => copyFrom(target, asLines());
element("download").onclick = download;
element("clear").onclick = clearFrames;

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
      delete LOADERS[panel.id]; // once: the panel keeps itself up to date
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

for (const tab of tabs) {
  tab.onclick = () => selectTab(tab);
  tab.onkeydown = moveBetweenTabs;
}

listFrames();
if (self === top) message.focus(); // an embedding page keeps its focus
connect();
