// The protocol inspector: one tab is one WebSocket is one session with an environment of its own.
//
// This module connects the page's controls and the session's events to the other modules.

import { describe, showAbout } from "./about.js";
import { showCode } from "./code.js";
import { askForState, clearEpisode, focusForm, prepare, reset, run, step, stop } from "./composer.js";
import { copyFrom, count, element, onSubmit } from "./dom.js";
import { isEcho } from "./environment.js";
import { asLines, clearFrames, download, followFrames, listFrames, record } from "./frames.js";
import { showError, showResult } from "./observation.js";
import { close, connect, isOpen, on } from "./session.js";
import { showTools } from "./tools.js";

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
on("waiting", showWaiting);
element("close").onclick = close;
element("reconnect").onclick = () => {
  if (needsToken) return location.reload();
  connect();
  focusForm();
};

const SOON_MS = 300; // an earlier answer needs no progress sign

let nextSign;

function showWaiting(isWaiting) {
  const sign = element("waiting"), since = performance.now();
  clearTimeout(nextSign);
  sign.hidden = true;
  const show = () => {
    sign.hidden = false;
    sign.textContent = `Waiting for the answer, ${Math.floor((performance.now() - since) / 1000)} s`;
    nextSign = setTimeout(show, 1000);
  };
  if (isWaiting) nextSign = setTimeout(show, SOON_MS);
}

// --- Sending ------------------------------------------------------------------------------------

onSubmit(element("step-form"), () => {
  if (!isOpen()) return;
  step();
  if (isEcho) element("fields").querySelector("textarea").select();
});
onSubmit(element("reset-form"), () => { if (isOpen()) reset(); });
element("run").onclick = run;
element("stop").onclick = stop;
element("state").onclick = askForState;
element("whitespace").onchange = element("as-json").onchange = showResult;
for (const part of document.querySelectorAll(isEcho ? ".not-echo" : ".only-echo")) part.remove();
prepare();

// --- Frames -------------------------------------------------------------------------------------

for (const id of ["filter", "kind", "pretty"]) element(id).addEventListener("input", listFrames);
element("copy-frames").onclick = ({ target }) => copyFrom(target, asLines());
element("download").onclick = download;
element("clear").onclick = clearFrames;

// --- Tabs ---------------------------------------------------------------------------------------

const tabs = [...document.querySelectorAll("[role=tab]")];
const LOADERS = {
  "code-panel": showCode,
  "tools-panel": showTools,
  "about-panel": showAbout,
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
followFrames();
if (self === top) focusForm(); // an embedding page keeps its focus
connect();
describe();
