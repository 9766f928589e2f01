// Elements, texts and copying. User and server text only ever becomes text nodes; the page's
// Content-Security-Policy (`require-trusted-types-for`) refuses anything else.

export const element = (id) => document.getElementById(id);

/** A new element: `node("b", { className: "type" }, "text", otherNode)`. */
export function node(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Has screen readers say `text`. */
export const announce = (text) => { element("announcement").textContent = text; };

/** Enter submits from one-line fields and from texts, where Shift+Enter starts a line. */
export function onSubmit(form, action) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.target.tagName !== "TEXTAREA") return;
    if (event.target.classList.contains("json") && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    form.requestSubmit();
  });
}

let busy = false;

/** While busy, the page redraws less often: drawing must not add to the time of a step. */
export const setBusy = (value) => { busy = value; };
export const soon = (draw) => (busy ? setTimeout(draw, 150) : requestAnimationFrame(draw));

// --- Texts --------------------------------------------------------------------------------------

export const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
export const byteSize = (text) => new Blob([text]).size;
export const shortened = (text, limit) =>
  text.length > limit ? `${text.slice(0, limit)}… (${count(text.length, "character")} in all)` : text;

/** A number as people write it: 0.1 + 0.2 is 0.3. */
export const rounded = (number) => (typeof number === "number" ? String(Number(number.toPrecision(12))) : String(number));

/** Parses JSON. Large whole numbers become BigInts, which keep all their digits. */
export const parse = (text) => JSON.parse(text, (_, value, context) => {
  const isLarge = typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source);
  return isLarge ? BigInt(context.source) : value;
});

/** The JSON text of a value that `parse` returned. */
export const json = (value, indent) =>
  JSON.stringify(value, (_, item) => (typeof item === "bigint" ? JSON.rawJSON?.(item) ?? Number(item) : item), indent);

/** Indented JSON; any other text as it is. */
export function pretty(text) {
  if (text.length >= 1e5) return text;
  try { return json(parse(text), 2); } catch { return text; }
}

// --- Copying ------------------------------------------------------------------------------------

// An embedded page may not have the clipboard; the browser's older command still works there. Where
// the page can ask first, it does: a refused attempt is reported in the console.
async function copy(text) {
  try {
    if (document.featurePolicy?.allowsFeature("clipboard-write") === false) throw new Error("not allowed");
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const focused = document.activeElement;
    const area = node("textarea", { value: text, className: "unseen", ariaHidden: "true" });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }
}

export function copyButton(label, text, className = "small") {
  const button = node("button", { type: "button", className }, label);
  button.onclick = () => copyFrom(button, text());
  return button;
}

export async function copyFrom(button, text) {
  const label = button.textContent, done = await copy(text);
  button.textContent = done ? "Copied" : "Not copied";
  announce(button.textContent);
  setTimeout(() => { button.textContent = label; }, 1500);
}
