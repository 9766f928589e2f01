// "The same in code": what the page would send next, as Python and for a terminal.

import { composition } from "./composer.js";
import { copyButton, node } from "./dom.js";
import { environment, isEcho } from "./environment.js";
import { address } from "./session.js";

const LONGEST_ACTION = 20_000, LONGEST_TEXT = 1000; // command lines have a length limit
const UNSEEN = /[\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const TOKEN = /"(?:[^"\\]|\\.)*"|true|false|null|[:,]\s*|\s+/g;
const WORDS = { true: "True", false: "False", null: "None" };
// Names that no keyword argument can have.
const RESERVED = /^(?:and|as|assert|async|await|break|class|continue|def|del|elif|else|except|False|finally|for|from|global|if|import|in|is|lambda|None|nonlocal|not|or|pass|raise|return|self|True|try|while|with|yield)$/;
const isName = (name) => /^[A-Za-z_]\w*$/.test(name) && !RESERVED.test(name);

// A JSON string is a Python string too. Invisible characters are written as escapes.
const escaped = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
const literal = (text) => JSON.stringify(text).replace(UNSEEN, escaped);
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const base = () => address(".").replace(/\/$/, "");
const needsToken = document.body.dataset.token === "required";

/** JSON text, one token at a time; numbers stay as they are. */
const written = (text, words) => text.replace(TOKEN, (token) => {
  if (token[0] === '"') return literal(JSON.parse(token));
  return words[token] ?? (/^[:,]/.test(token) ? `${token[0]} ` : token.trim());
});
const python = (text) => written(text, WORDS);
const json = (text) => written(text, {});

/** The members of a JSON object as `[name, JSON text]`: the text keeps digits that a number would lose. */
function membersOf(text) {
  const members = [];
  let depth = 0, start, name;
  for (const { 0: token, index } of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}:,]/g)) {
    if (depth === 1 && token[0] === '"' && name === undefined) name = JSON.parse(token);
    else if (depth === 1 && token === ":") start = index + 1;
    else if ("[{".includes(token)) depth += 1;
    else if ("]}".includes(token)) depth -= 1;
    if (name !== undefined && start !== undefined && (depth === 0 || (depth === 1 && token === ","))) {
      members.push([name, text.slice(start, index).trim()]);
      name = start = undefined;
    }
  }
  return [...new Map(members)]; // of equal names, the last one wins
}

const isJson = (text) => { try { JSON.parse(text); return true; } catch { return false; } };
const isObject = (text) => isJson(text) && text.trim().startsWith("{");

/** The members of a reset's arguments. */
function resetMembers({ seed, episodeId, more }) {
  const members = [];
  if (seed) members.push(["seed", seed]);
  if (episodeId) members.push(["episode_id", JSON.stringify(episodeId)]);
  return [...new Map([...members, ...(isObject(more) ? membersOf(more) : [])])]; // the server refuses anything else
}

const keywords = (members) => {
  const others = members.filter(([name]) => !isName(name)).map(([name, text]) => `${literal(name)}: ${python(text)}`);
  const parts = members.filter(([name]) => isName(name)).map(([name, text]) => `${name}=${python(text)}`);
  return [...parts, ...(others.length ? [`**{${others.join(", ")}}`] : [])].join(", ");
};
const object = (members) => `{${members.map(([name, text]) => `${literal(name)}: ${json(text)}`).join(", ")}}`;
const step = ({ action }) => `{"type": "step", "data": ${json(action)}}`;

// --- Classes --------------------------------------------------------------------------------------

// A client for any action and any observation.
const ANY = `class AnyAction(Action, extra="allow"):
    pass


class AnyObservation(Observation, extra="allow"):
    pass


class AnyEnv(SessionClient[AnyAction, AnyObservation, State]):
    pass
`;

/** The classes for an action: their imports, and `AnyEnv` if the environment's own are unknown. */
function classesFor(action) {
  const { client, actions } = environment;
  const names = Object.keys(actions), type = isObject(action) && JSON.parse(action).type;
  const name = names.length === 1 ? names[0] : undefined;
  const tool = { call_tool: "CallToolAction", list_tools: "ListToolsAction" }[type];
  const chosen = tool ? [tool, "openenv.core.env_server.mcp_types"] : [name, actions[name]];
  if (!client || !chosen[0] || (needsToken && client.isStock)) {
    const lines = ["from openenv.core.env_server.types import Action, Observation, State", "from stepwire.client import SessionClient"];
    return { action: "AnyAction", client: "AnyEnv", lines, own: `\n\n${ANY}`, sync: "" };
  }
  const modules = new Map();
  for (const [each, module] of [[client.name, client.module], chosen]) modules.set(module, [...(modules.get(module) ?? []), each].sort());
  const lines = [...modules].sort(([a], [b]) => (a < b ? -1 : 1)).map(([module, each]) => `from ${module} import ${each.join(", ")}`);
  return { action: chosen[0], client: client.name, lines, own: "", sync: client.isStock ? ".sync()" : "" };
}

const shownResult = () => `print(result.observation${isEcho ? ".echoed_message" : ""}, result.reward)`;
const opened = (client) => `${client}(base_url=${literal(base())}${needsToken ? ', token=os.environ["API_TOKEN"]' : ""})`;
const head = (standard, { lines, own }) => `${[...standard, ...(needsToken ? ["os"] : [])].sort().map((name) => `import ${name}\n`).join("")}${standard.length || needsToken ? "\n" : ""}${lines.join("\n")}\n${own}`;

const SNIPPETS = {
  Python: {
    note: "In a Python that has the environment's package, such as its project's uv run python.",
    code(input) {
      const classes = classesFor(input.action);
      return `${head([], classes)}${classes.own && "\n"}
with ${opened(classes.client)}${classes.sync} as env:
    env.reset(${keywords(resetMembers(input))})
    result = env.step(${classes.action}(${keywords(membersOf(input.action))}))
    ${shownResult()}
`;
    },
  },
  "Python, async": {
    note: "As a file. In a notebook, await main() in place of the last line.",
    code(input) {
      const classes = classesFor(input.action);
      return `${head(["asyncio"], classes)}

async def main() -> None:
    async with ${opened(classes.client)} as env:
        await env.reset(${keywords(resetMembers(input))})
        result = await env.step(${classes.action}(${keywords(membersOf(input.action))}))
        ${shownResult()}


asyncio.run(main())
`;
    },
  },
  curl: {
    note: "The cookie jar holds the episode of an environment that can keep one. Otherwise each request has a fresh environment.",
    code: (input) => [
      ["reset", object(resetMembers(input))],
      ["step", `{"action": ${json(input.action)}}`],
      ["state"],
    ].map(([path, body]) => [
      `curl -s -b cookies.txt -c cookies.txt -w '\\n' ${shell(`${base()}/${path}`)}`,
      ...(needsToken ? ['  -H "Authorization: Bearer $API_TOKEN"'] : []),
      ...(body ? ["  -H 'Content-Type: application/json'", `  -d ${shell(body)}`] : []),
    ].join(" \\\n") + "\n").join(""),
  },
  WebSocket: {
    note: "The frames themselves, sent with Python's websockets package.",
    code(input) {
      const options = needsToken ? ', additional_headers={"Authorization": f"Bearer {os.environ[\'API_TOKEN\']}"}' : "";
      const program = `import ${needsToken ? "os, " : ""}sys
from websockets.sync.client import connect

with connect(sys.argv[1]${options}) as connection:
    for frame in sys.argv[2:]:
        connection.send(frame)
        print(connection.recv())`;
      const reset = `{"type": "reset", "data": ${object(resetMembers(input))}}`;
      return `python3 -c ${shell(program)} \\\n  ${[address("ws"), reset, step(input)].map(shell).join(" \\\n  ")}\n`;
    },
  },
};

export function showCode(panel) {
  const warning = node("p", { className: "bad", hidden: true });
  const blocks = Object.entries(SNIPPETS).map(([name, { note, code }]) => {
    const text = node("pre", { className: "well", tabIndex: 0, ariaLabel: name });
    const copy = copyButton("Copy", () => text.textContent);
    copy.ariaLabel = `Copy ${name}`;
    const heading = node("div", { className: "heading" }, node("h3", {}, name), copy);
    return { text, code, block: node("article", { className: "snippet" }, heading, text, node("p", { className: "quiet" }, note)) };
  });
  function show() {
    let { action, ...rest } = composition();
    const isLong = action.length > LONGEST_ACTION;
    if (isLong) action = action.replace(/"(?:[^"\\]|\\.)*"/g, (text) => (text.length > LONGEST_TEXT ? literal(JSON.parse(text).slice(0, LONGEST_TEXT).replace(/[\ud800-\udbff]$/, "")) : text));
    const isUsable = isObject(action);
    warning.textContent = isUsable ? "The action is too long to paste: here are the beginnings of its texts." : "The action is not a JSON object: it has no form in code.";
    warning.hidden = isUsable && !isLong;
    for (const { text, code, block } of blocks) {
      block.hidden = !isUsable;
      if (isUsable) text.textContent = code({ action, ...rest });
    }
  }
  panel.append(warning, ...blocks.map(({ block }) => block));
  document.addEventListener("composed", show);
  show();
}
