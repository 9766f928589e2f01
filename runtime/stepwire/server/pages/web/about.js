// The description of the environment: its metadata and its README.

import { element, node, shortened } from "./dom.js";
import { link, readme } from "./readme.js";
import { address } from "./session.js";

const LONGEST_README = 200_000;

const FACTS = { name: "Name", version: "Version", author: "Author", documentation_url: "Documentation" };

let asked;

const metadata = () => (asked ??= fetch(address("metadata")).then((answer) => (answer.ok ? answer.json() : {}), () => ({})));

/** The description below the page's title. */
export async function describe() {
  const { description } = await metadata();
  element("description").textContent = shortened(description ?? "", 500);
}

export async function showAbout(panel) {
  const about = await metadata(), facts = node("dl");
  for (const [name, title] of Object.entries(FACTS)) {
    if (about[name]) facts.append(node("dt", {}, title), node("dd", {}, name === "documentation_url" ? link(about[name], about[name]) : about[name]));
  }
  const text = about.readme_content;
  panel.append(node("p", { className: "about" }, about.description ?? "The server could not describe its environment."), facts,
    node("div", { className: "readme" }, ...(text ? readme(shortened(text, LONGEST_README)) : [])));
}
