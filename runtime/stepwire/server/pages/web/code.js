// "The same in code": what the page would send next, as Python and for a terminal.

import { composition } from "./composer.js";
import { copyButton, node } from "./dom.js";
import { address } from "./session.js";

const LONGEST_MESSAGE = 20_000; // a command line has a limit
const UNSEEN = /[\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

// A JSON string is a Python string too. Invisible characters are written as escapes.
const escaped = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
const literal = (text) => JSON.stringify(text).replace(UNSEEN, escaped);
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const base = () => address(".").replace(/\/$/, "");
const needsToken = document.body.dataset.token === "required";

const WORDS = { true: "True", false: "False", null: "None" };

/** A JSON value as Python writes it. */
function python(value) {
  if (typeof value === "string") return literal(value);
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (value && typeof value === "object") return `{${Object.entries(value).map(([key, item]) => `${literal(key)}: ${python(item)}`).join(", ")}}`;
  return WORDS[value] ?? String(value);
}

const json = (value) => JSON.stringify(value).replace(UNSEEN, escaped);

/** The arguments of a reset, each as `write(name, text)`; `encode` makes a value's text. */
function resetArguments({ seed, episodeId, more }, encode, write) {
  const parts = [];
  if (seed) parts.push(write("seed", seed));
  if (episodeId) parts.push(write("episode_id", literal(episodeId)));
  let further = {};
  try { further = JSON.parse(more || "{}"); } catch { /* the server refuses it */ }
  for (const [name, value] of Object.entries(further)) parts.push(write(name, encode(value)));
  return parts.join(", ");
}

const keywords = (input) => resetArguments(input, python, (name, text) => (/^[a-z_]\w*$/i.test(name) ? `${name}=${text}` : `**{${literal(name)}: ${text}}`));
const members = (input) => `{${resetArguments(input, json, (name, text) => `${literal(name)}: ${text}`)}}`;
const step = ({ message }) => `{"type": "step", "data": {"message": ${literal(message)}}}`;
const client = () => `EchoEnv(base_url=${literal(base())}${needsToken ? ', token=os.environ["API_TOKEN"]' : ""})`;
const imports = (...names) => [...names, ...(needsToken ? ["os"] : [])].sort().map((name) => `import ${name}\n`).join("");
const spaced = (text) => (text ? `${text}\n` : "");

const SNIPPETS = {
  Python: {
    note: "In a Python that has this package, such as a clone's uv run python.",
    code: (input) => `${spaced(imports())}from echo_env import EchoAction, EchoEnv

with ${client()} as env:
    env.reset(${keywords(input)})
    result = env.step(EchoAction(message=${literal(input.message)}))
    print(result.observation.echoed_message, result.reward)
`,
  },
  "Python, async": {
    note: "As a file. In a notebook, await main() in place of the last line.",
    code: (input) => `${imports("asyncio")}
from echo_env import EchoAction, EchoEnv


async def main() -> None:
    async with ${client()} as env:
        await env.reset(${keywords(input)})
        result = await env.step(EchoAction(message=${literal(input.message)}))
        print(result.observation.echoed_message, result.reward)


asyncio.run(main())
`,
  },
  curl: {
    note: "The cookie jar holds the episode: without it each request has a fresh environment.",
    code: (input) => [
      ["reset", members(input)],
      ["step", `{"action": {"message": ${literal(input.message)}}}`],
      ["state"],
    ].map(([path, body]) => [
      `curl -s -b cookies.txt -c cookies.txt -w '\\n' ${shell(`${base()}/${path}`)}`,
      ...(needsToken ? ['  -H "Authorization: Bearer $API_TOKEN"'] : []),
      ...(body ? ["  -H 'Content-Type: application/json'", `  -d ${shell(body)}`] : []),
    ].join(" \\\n") + "\n").join(""),
  },
  WebSocket: {
    note: "The frame itself, sent with Python's websockets package.",
    code: (input) => {
      const options = needsToken ? ', additional_headers={"Authorization": f"Bearer {os.environ[\'API_TOKEN\']}"}' : "";
      const program = `import ${needsToken ? "os, " : ""}sys
from websockets.sync.client import connect

with connect(sys.argv[1]${options}) as connection:
    connection.send(sys.argv[2])
    print(connection.recv())`;
      return `python3 -c ${shell(program)} \\\n  ${shell(address("ws"))} \\\n  ${shell(step(input))}\n`;
    },
  },
};

export function showCode(panel) {
  const warning = node("p", { className: "bad", hidden: true }, "The message is too long to paste: here is its beginning.");
  const blocks = Object.entries(SNIPPETS).map(([name, { note, code }]) => {
    const text = node("pre", { className: "well", tabIndex: 0, ariaLabel: name });
    const copy = copyButton("Copy", () => text.textContent);
    copy.ariaLabel = `Copy ${name}`;
    const heading = node("div", { className: "heading" }, node("h3", {}, name), copy);
    return { text, code, block: node("article", { className: "snippet" }, heading, text, node("p", { className: "quiet" }, note)) };
  });
  function show() {
    const { message, ...rest } = composition();
    warning.hidden = message.length <= LONGEST_MESSAGE;
    const kept = warning.hidden ? message : message.slice(0, 1000).replace(/[\ud800-\udbff]$/, "");
    for (const { text, code } of blocks) text.textContent = code({ message: kept, ...rest });
  }
  panel.append(warning, ...blocks.map(({ block }) => block));
  document.addEventListener("composed", show);
  show();
}
