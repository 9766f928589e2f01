// This tab's session: one WebSocket. It knows nothing of the page; it emits events:
//   status    {status: "connecting" | "open" | "closed", text, button, needsToken}
//   capacity  {active_sessions, max_sessions}
//   frame     {sent, type, text, ms}: every frame, `ms` for an answer
//   waiting   whether the server owes an answer
//   reply     {type, data, text, ms}: the answer to a frame; null when the session ended before it

const events = new EventTarget();
const emit = (name, detail) => events.dispatchEvent(new CustomEvent(name, { detail }));

export const on = (name, listener) => events.addEventListener(name, ({ detail }) => listener(detail));

let socket;
let waiting = []; // frames without an answer: answers come in the order of the frames
let refusal; // the last error, which may be why the server ends the session

/** The page is below …/web/ and all other addresses beside that, behind a path prefix as well. */
export function address(path) {
  const url = new URL(`../${path}`, location.href);
  if (path === "ws") url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

export const isOpen = () => socket?.readyState === WebSocket.OPEN;

export function connect() {
  emit("status", { status: "connecting", text: "Connecting…" });
  const opened = socket = new WebSocket(address("ws"));
  refusal = undefined;
  let wasOpen = false;
  socket.onopen = () => {
    wasOpen = true;
    emit("status", { status: "open", text: "Connected" });
    showCapacity();
  };
  socket.onmessage = ({ data: text }) => {
    const { type, data } = JSON.parse(text);
    const asked = waiting.shift();
    if (asked) emit("waiting", waiting.length > 0);
    const ms = asked && performance.now() - asked.started;
    emit("frame", { sent: false, type, text, ms });
    if (type === "error") refusal = data;
    asked?.resolve({ type, data, text, ms });
  };
  socket.onclose = async ({ code, reason }) => {
    for (const { resolve } of waiting.splice(0)) resolve(null);
    emit("waiting", false);
    if (opened !== socket) return;
    if (refusal?.code === "CAPACITY_REACHED") emit("capacity", refusal);
    const explanation = await explain(code, reason, wasOpen);
    if (opened === socket) emit("status", { status: "closed", ...explanation });
  };
}

const CLOSINGS = {
  1001: "the server is going away",
  1002: "a frame broke the protocol",
  1005: "the connection was closed without a reason",
  1006: "the connection broke",
  1008: "the server refused it",
  1009: "the frame was too large",
  1011: "the server failed",
  1012: "the server restarts",
  1013: "the server is busy",
};

async function explain(code, reason, wasOpen) {
  if (refusal?.code === "CAPACITY_REACHED") {
    return { text: `The server is full: ${refusal.active_sessions} of ${refusal.max_sessions} sessions are in use`, button: "Try again" };
  }
  if (wasOpen) {
    if (code === 1000) return { text: "Closed: the session and its episode are over" };
    const why = reason || (refusal?.code === "SESSION_ERROR" && refusal.message) || CLOSINGS[code] || `close code ${code}`;
    return { text: `Disconnected: ${why}. The episode is lost` };
  }
  if (await isRefused()) return { text: "The server needs a token", button: "Enter it", needsToken: true };
  return { text: "No connection: is the server running?" };
}

const isRefused = async () => {
  try { return (await fetch(address("sessions"))).status === 401; } catch { return false; }
};

// The page itself says how many sessions there were before this tab's first one.
let counted = document.body.dataset;

async function showCapacity() {
  const { active, capacity } = counted;
  counted = {};
  if (capacity) return emit("capacity", { active_sessions: Number(active) + 1, max_sessions: Number(capacity) });
  try { emit("capacity", await (await fetch(address("sessions"))).json()); } catch { /* disconnected meanwhile */ }
}

/** Sends a frame's text; resolves to its reply, or to null when the session ends first. */
export async function send(text) {
  emit("frame", { sent: true, type: /"type": ?"(\w+)"/.exec(text.slice(0, 100))?.[1], text });
  const answered = new Promise((resolve) => { waiting.push({ resolve, started: performance.now() }); });
  emit("waiting", true);
  socket.send(text);
  const reply = await answered;
  emit("reply", reply);
  return reply;
}

export const ask = (frame) => send(JSON.stringify(frame));

/** Ends the session as the protocol says; the answer is the end of the connection. */
export function close() {
  const text = '{"type":"close"}';
  emit("frame", { sent: true, type: "close", text });
  socket.send(text);
}

/** Ends the connection without a word to the server. */
export const drop = () => socket.close();
