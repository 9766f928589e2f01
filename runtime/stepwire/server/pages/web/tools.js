// Tools: listed and called over MCP, in `mcp` frames of this tab's session.

import { announce, node, onSubmit } from "./dom.js";
import { ask, isOpen, on } from "./session.js";

let lastId = 0;

async function call(method, params = {}) {
  const reply = await ask({ type: "mcp", data: { jsonrpc: "2.0", id: ++lastId, method, params } });
  if (!reply) return { error: { message: "The session ended" } };
  return reply.type === "mcp" ? reply.data : { error: reply.data };
}

export function showTools(panel) {
  const list = node("div"), note = node("p", { className: "quiet" });
  const again = node("button", { type: "button", className: "small" }, "List again");
  async function show() {
    again.disabled = !isOpen();
    if (!isOpen()) {
      note.textContent = "Not connected: tools belong to a session's environment.";
      return list.replaceChildren();
    }
    const { result, error } = await call("tools/list");
    note.textContent = error ? error.message : result.tools.length ? "Offered over MCP. A call is not a step: it leaves the episode as it is." : "This environment offers no tools.";
    list.replaceChildren(...(result?.tools ?? []).map(toolForm));
  }
  again.onclick = show;
  on("status", show);
  panel.append(node("div", { className: "heading" }, note, again), list);
  show();
}

function toolForm({ name, description, inputSchema }) {
  const result = node("pre", { className: "well", hidden: true, tabIndex: 0, ariaLabel: `Result of ${name}` });
  const fields = Object.entries(inputSchema.properties ?? {}).map(([key, schema]) => {
    const input = node("input", { required: (inputSchema.required ?? []).includes(key) && schema.type !== "string" });
    return { key, schema, input, label: node("label", {}, schema.type === "string" ? key : `${key} (${schema.type ?? "JSON"})`, input) };
  });
  const form = node("form", { className: "row ends", autocomplete: "off" },
    ...fields.map(({ label }) => label), node("button", { ariaLabel: `Call ${name}` }, "Call"));
  onSubmit(form, async () => {
    if (!isOpen()) return;
    const filled = fields.filter(({ input, schema }) => input.value || schema.type === "string");
    const values = Object.fromEntries(filled.map(({ key, schema, input }) => [key, valueOf(input.value, schema)]));
    const answer = await call("tools/call", { name, arguments: values });
    const failed = answer.error || answer.result.isError;
    result.hidden = false;
    result.classList.toggle("bad", Boolean(failed));
    result.textContent = JSON.stringify(answer.error ?? answer.result, null, 2);
    announce(failed ? `${name} failed` : `${name} answered`);
  });
  return node("article", { className: "tool" }, node("h3", {}, name), node("p", { className: "quiet" }, description ?? ""), form, result);
}

function valueOf(text, schema) {
  if (schema.type === "string") return text;
  try { return JSON.parse(text); } catch { return text; } // the server explains the error
}
