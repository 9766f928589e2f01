// Tools: listed and called over MCP, in `mcp` frames of this tab's session.

import { announce, node, onSubmit, shortened } from "./dom.js";
import { schemaForm } from "./form.js";
import { isOpen, on, send } from "./session.js";

let lastId = 0;

async function call(method, params = "{}") {
  const reply = await send(`{"type":"mcp","data":{"jsonrpc":"2.0","id":${++lastId},"method":"${method}","params":${params}}}`);
  if (!reply) return { error: { message: "The session ended" } };
  return reply.type === "mcp" ? reply.data : { error: reply.data };
}

/** The tools of the session's environment, each `{name, description, inputSchema}`, if it lists any. */
export const listTools = async () => (await call("tools/list")).result?.tools;

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
  const field = schemaForm(inputSchema);
  const form = node("form", { autocomplete: "off", noValidate: true }, field.node, node("button", { className: "small", ariaLabel: `Call ${name}` }, "Call"));
  onSubmit(form, async () => {
    if (!isOpen()) return;
    const answer = await call("tools/call", `{"name":${JSON.stringify(name)},"arguments":${field.read()}}`);
    const failed = answer.error || answer.result.isError;
    result.hidden = false;
    result.classList.toggle("bad", Boolean(failed));
    result.textContent = shortened(JSON.stringify(answer.error ?? answer.result, null, 2), 20_000);
    announce(failed ? `${name} failed` : `${name} answered`);
  });
  return node("article", { className: "tool" }, node("h3", {}, name), node("p", { className: "quiet" }, description ?? ""), form, result);
}
