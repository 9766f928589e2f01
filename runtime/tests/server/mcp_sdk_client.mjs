// SPDX-License-Identifier: BSD-3-Clause
// Uses an MCP server with one release of the TypeScript SDK: node mcp_sdk_client.mjs URL MODULE…
const [url, ...files] = process.argv.slice(2);
const modules = await Promise.all(files.map((file) => import(file)));
const { Client, StreamableHTTPClientTransport } = Object.assign({}, ...modules);

const client = new Client({ name: "test", version: "1" }, { capabilities: {} });
const transport = new StreamableHTTPClientTransport(new URL(url));
await client.connect(transport);
await client.ping();
const { tools } = await client.listTools();
const called = await client.callTool({ name: "test_simple_text", arguments: {} });
const failed = await client.callTool({ name: "test_error_handling", arguments: {} });

// A batch goes past the client, which sends single messages only.
const answers = [];
const onmessage = transport.onmessage;
transport.onmessage = (message, ...more) => {
  if (typeof message.id === "string") answers.push(message.id);
  else onmessage?.(message, ...more);
};
let batch = "answered";
try {
  const ping = (id) => ({ jsonrpc: "2.0", id, method: "ping" });
  await transport.send([ping("one"), ping("two")]);
} catch (error) {
  batch = String(error);
}
await transport.terminateSession?.();
await client.close();
console.log(
  JSON.stringify({
    tools: tools.map((tool) => tool.name),
    text: called.content[0].text,
    failed: failed.isError,
    session: transport.sessionId ?? null,
    batch,
    answers,
  }),
);
