// SPDX-License-Identifier: BSD-3-Clause
// An episode from JavaScript: one WebSocket is one session, and each message has one reply.
import { once } from "node:events";
import WebSocket from "ws";

const url = process.argv[2] ?? "http://localhost:8000";
const socket = new WebSocket(url.replace(/^http/, "ws") + "/ws");
await once(socket, "open");

async function ask(type, data) {
  socket.send(JSON.stringify({ type, data }));
  const [text] = await once(socket, "message");
  const reply = JSON.parse(text);
  if (reply.type === "error") throw new Error(`${reply.data.code}: ${reply.data.message}`);
  return reply.data;
}

await ask("reset", { seed: 7, episode_id: "demo" });
for (const message of ["Hello", "World", "!"]) {
  const { observation, reward } = await ask("step", { message });
  console.log(`step ${observation.metadata.step}: ${observation.echoed_message}, reward ${reward.toFixed(1)}`);
}
console.log("state:", JSON.stringify(await ask("state")));
socket.send(JSON.stringify({ type: "close" }));
await once(socket, "close");
