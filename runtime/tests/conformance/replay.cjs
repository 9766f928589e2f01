// SPDX-License-Identifier: BSD-3-Clause
// Replays vectors against servers: `node replay.cjs FOLDER '{"default": "http://…", …}' PID`, with
// the package `ws` on NODE_PATH. PID is the process of the server named `stopping`. Prints a line
// for each vector: its id, and what went wrong.
"use strict";

const { readFileSync, readdirSync } = require("node:fs");
const { join } = require("node:path");
const WebSocket = require("ws");

const PATIENCE_MS = 60_000;

const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

// The text of a `send` event, with its parts joined and its placeholders filled in.
function textToSend(sent, known) {
  const parts = typeof sent === "string" ? [sent] : sent;
  const text = parts.map((part) => (typeof part === "string" ? part : part[0].repeat(part[1])));
  return text.join("").replace(/\$\{(\w+)\}/g, (_, name) => known[name]);
}

// Throws unless `text` is as expected; adds the values of new placeholders to `known`.
function expectText(expected, text, known) {
  const named = [];
  const parts = expected.split(/\$\{(\w+)\}/); // odd ones are names of placeholders
  const pattern = parts.map((part, index) => {
    if (index % 2 === 0) return escaped(part);
    if (part in known) return escaped(known[part]);
    if (named.includes(part)) return `\\k<${part}>`;
    named.push(part);
    return `(?<${part}>.+?)`;
  });
  const found = new RegExp(`^${pattern.join("")}$`, "su").exec(text);
  if (!found) throw new Error(`expected ${expected.slice(0, 500)}, got ${text.slice(0, 500)}`);
  Object.assign(known, found.groups);
}

function expectEqual(expected, actual) {
  const [wanted, got] = [JSON.stringify(expected), JSON.stringify(actual)];
  if (wanted !== got) throw new Error(`expected ${wanted}, got ${got}`);
}

// A WebSocket whose messages and close are awaited in order.
class Connection {
  constructor(url, headers) {
    this.happened = [];
    this.waiting = null;
    this.socket = new WebSocket(url, { headers, perMessageDeflate: false });
    this.opened = new Promise((resolve) => {
      this.socket.on("open", () => resolve(null));
      this.socket.on("unexpected-response", (request, response) => {
        resolve(response.statusCode);
        request.destroy();
      });
    });
    this.socket.on("message", (data, isBinary) => this.add({ text: String(data), isBinary }));
    this.socket.on("close", (code, reason) => this.add({ code, reason: String(reason) }));
    this.socket.on("error", () => {}); // a refused handshake: `unexpected-response` reports it
  }

  add(event) {
    this.happened.push(event);
    this.waiting?.();
  }

  async next() {
    if (this.happened.length === 0) {
      await new Promise((resolve, reject) => {
        this.waiting = resolve;
        setTimeout(() => reject(new Error("nothing happened")), PATIENCE_MS).unref();
      });
    }
    return this.happened.shift();
  }
}

async function replay(vector, server, stoppingPid) {
  const known = {};
  const connections = {};
  const connect = (name) => {
    const url = server.replace("http", "ws") + textToSend(vector.path, known);
    return (connections[name] ??= new Connection(url, vector.headers ?? {}));
  };
  let response = null;
  try {
    for (const event of vector.events) {
      if (event.stop) {
        process.kill(stoppingPid, "SIGTERM");
        continue;
      }
      if (event.request) {
        const { method, path, headers = {}, body } = event.request;
        const filled = Object.entries(headers).map(([name, value]) => [name, textToSend(value, known)]);
        response = await fetch(server + path, {
          method,
          headers: { "Content-Type": "application/json", ...Object.fromEntries(filled) },
          body: body === undefined ? undefined : textToSend(body, known),
        });
        continue;
      }
      if (event.response) {
        expectEqual(event.response.status, response.status);
        for (const [name, value] of Object.entries(event.response.headers ?? {})) {
          expectText(value, response.headers.get(name) ?? "", known);
        }
        expectText(event.response.body, await response.text(), known);
        continue;
      }
      const connection = connect(event.on ?? "");
      const refused = await connection.opened;
      if ("refused" in event || refused !== null) {
        expectEqual(event.refused, refused);
      } else if ("send" in event) {
        connection.socket.send(textToSend(event.send, known));
      } else if ("send_hex" in event) {
        connection.socket.send(Buffer.from(event.send_hex, "hex"));
      } else if ("send_raw_hex" in event) {
        connection.socket._socket.write(Buffer.from(event.send_raw_hex, "hex"));
      } else if ("expect" in event) {
        const { text, isBinary, code } = await connection.next();
        if (code !== undefined) throw new Error(`closed with ${code} instead of ${event.expect}`);
        expectEqual(false, isBinary);
        expectText(event.expect, text, known);
      } else {
        expectEqual(event.closed, await connection.next());
      }
    }
  } finally {
    for (const { socket } of Object.values(connections)) socket.terminate();
  }
}

async function main() {
  const [folder, addresses, stoppingPid] = process.argv.slice(2);
  const servers = JSON.parse(addresses);
  for (const file of readdirSync(folder).sort()) {
    for (const line of readFileSync(join(folder, file), "utf8").trimEnd().split("\n")) {
      const vector = JSON.parse(line);
      const failed = await replay(vector, servers[vector.server], Number(stoppingPid)).then(
        () => "",
        (error) => error.message,
      );
      console.log(JSON.stringify({ id: vector.id, failed }));
    }
  }
}

main();
