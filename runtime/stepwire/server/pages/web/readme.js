// A README as elements: headings, paragraphs, lists, quotes, code and links. Anything else stays text.

import { node } from "./dom.js";

const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*|!?\[([^\]]*)\]\(([^)\s]+)[^)]*\)|<(https?:[^>\s]+)>/g;
const ONLY_MARKUP = /^\s*(<[^>]+>\s*)+$/; // such as a picture

/** A link, if it leads to a website; other targets are not on this server. */
export function link(address, ...content) {
  if (!/^https?:\/\//i.test(address)) return node("span", {}, ...content);
  return node("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, ...content);
}

function inline(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, code, strong, label, address, bare] = found;
    parts.push(text.slice(end, found.index));
    end = found.index + whole.length;
    if (code !== undefined) parts.push(node("code", {}, code));
    else if (strong !== undefined) parts.push(node("strong", {}, strong));
    else if (bare !== undefined) parts.push(link(bare, bare));
    else parts.push(link(address, ...inline(label || address)));
  }
  return [...parts, text.slice(end)];
}

/** The elements of a README, without the header that describes it to a hosting service. */
export function readme(text) {
  const lines = text.replace(/^---\r?\n[^]*?\n---\r?\n/, "").split(/\r?\n/), made = [];
  let block = [];
  const last = () => made.at(-1);
  const end = () => {
    if (block.length) made.push(node("p", {}, ...inline(block.join(" "))));
    block = [];
  };
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at], heading = /^(#{1,6})\s+(.*?)#*$/.exec(line), item = /^\s*(?:[-*+]|\d+[.)])\s+(.*)/.exec(line), fence = /^\s*(```+|~~~+)/.exec(line)?.[1];
    if (fence) {
      const from = at + 1;
      do at += 1; while (at < lines.length && !lines[at].trim().startsWith(fence));
      end();
      made.push(node("pre", { className: "well", tabIndex: 0 }, lines.slice(from, at).join("\n")));
    } else if (/^\s*\|/.test(line)) {
      end();
      if (last()?.className !== "table") made.push(node("pre", { className: "table", tabIndex: 0 }));
      last().append(`${line.trim()}\n`);
    } else if (heading) {
      end();
      made.push(node(`h${Math.min(heading[1].length + 2, 6)}`, {}, ...inline(heading[2])));
    } else if (item) {
      end();
      if (last()?.tagName !== "UL") made.push(node("ul", {}));
      last().append(node("li", {}, ...inline(item[1])));
    } else if (!line.trim() || ONLY_MARKUP.test(line)) {
      end();
      if (last()?.tagName === "UL") made.push("");
    } else if (!block.length && last()?.tagName === "UL" && /^\s/.test(line)) {
      last().lastChild.append(" ", ...inline(line.trim()));
    } else {
      block.push(line.trim());
    }
  }
  end();
  return made;
}
