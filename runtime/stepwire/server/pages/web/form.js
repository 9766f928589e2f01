// A form for values of a JSON Schema.
//
// A field is `{ node, read, write }`. `read()` returns the value as JSON text, so that numbers keep
// the digits that were typed, or undefined when the value is left out. `write(value)` shows a value
// and returns whether the field can. The server validates values: the form sends what
// was typed. A schema that the form does not know becomes a field for JSON.

import { count, json, node, shortened } from "./dom.js";

const DEEPEST = 12, DEEP = 4, MOST_ROWS = 200, LONGEST_TEXT = 10_000;
const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

let lastId = 0;

/** The form of a schema. `tools` are those that an action may call, each `{name, inputSchema}`. */
export function schemaForm(schema, tools) {
  const field = fieldOf(schema, { root: schema, tools, depth: 0 }, true);
  return field.select ? { ...field, node: rowOf("action", field) } : field;
}

export const callsTool = ({ properties }) => properties?.type?.const === "call_tool" && "tool_name" in properties;

// --- Schemas --------------------------------------------------------------------------------------

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** The schema without references; `true`, and anything that is not a schema, allow everything. */
export function resolve(schema, root) {
  for (let hops = 0; isObject(schema) && hops < 32; hops += 1) {
    const { $ref, allOf, ...rest } = schema;
    if ($ref !== undefined) schema = { ...pointedAt(root, String($ref)), ...rest };
    else if (allOf?.length === 1) schema = { ...resolve(allOf[0], root), ...rest };
    else return schema;
  }
  return {};
}

function pointedAt(root, reference) {
  let target = root;
  for (const part of reference.split("/").slice(1)) {
    const name = decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
    target = isObject(target) && Object.hasOwn(target, name) ? target[name] : undefined;
  }
  return isObject(target) ? target : {};
}

/** The schemas, one of which a value must match. */
export function alternatives(schema, root, depth = 0) {
  const { anyOf, oneOf, ...rest } = schema, several = anyOf ?? oneOf;
  if (Array.isArray(schema.type)) return schema.type.map((type) => ({ ...schema, type }));
  if (!Array.isArray(several) || schema.type || schema.properties || depth > DEEPEST) return [schema];
  return several.flatMap((each) => alternatives({ ...("default" in rest && { default: rest.default }), ...resolve(each, root) }, root, depth + 1));
}

const KINDS = { string: "text", integer: "whole number", number: "number", boolean: "true or false", array: "list", object: "object", null: "null" };

function nameOf({ title, type, properties, format, ...schema }) {
  if ("const" in schema) return json(schema.const);
  return (properties || schema.enum ? title : format) ?? KINDS[type] ?? "JSON";
}

function limitsOf(schema) {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf, minLength, maxLength, minItems, maxItems, pattern, format, prefixItems } = schema;
  const sizes = minLength ?? maxLength ? [minLength, maxLength, "character"] : prefixItems ? [] : [minItems, maxItems, "row"];
  const [least, most] = sizes.slice(0, 2).map((size) => (size === undefined ? undefined : count(size, sizes[2])));
  const limits = { "≥": minimum, ">": exclusiveMinimum, "≤": maximum, "<": exclusiveMaximum, "a multiple of": multipleOf, "at least": least, "at most": most, "like": pattern, "": format };
  return Object.entries(limits).filter(([, limit]) => limit !== undefined).map(([word, limit]) => `${word} ${limit}`.trim());
}

// --- Fields ---------------------------------------------------------------------------------------

function fieldOf(schema, context, isRequired) {
  const plain = resolve(schema, context.root), below = { ...context, depth: context.depth + 1 };
  const kinds = alternatives(plain, context.root), values = kinds.filter(({ type }) => type !== "null");
  const options = kinds.map((each) => ({
    name: nameOf(each),
    isEmpty: each.type === "null",
    isPlain: !each.properties && !["array", "object", undefined].includes(each.type),
    mayFit: (value) => mayFit(each, value, context.root),
    make: () => started(control(each, below), [each.default, plain.default, ...(each.examples ?? plain.examples ?? [])]),
  }));
  if (!isRequired) options.unshift({ name: plain.default === undefined || plain.default === null ? "left out" : `left out: ${shortened(json(plain.default), 30)}`, isEmpty: true, make: leftOut });
  const field = options.length === 1 ? options[0].make() : choice(options, context.depth);
  return { ...field, limits: values.length === 1 ? limitsOf(values[0]) : [], description: plain.description };
}

/** Whether a value may fit, as far as its type and constants tell: spares fields that cannot show it. */
function mayFit(schema, value, root) {
  if (!isObject(value)) return !schema.properties;
  if (!schema.properties) return schema.type === "object" || !schema.type;
  return Object.entries(schema.properties).every(([name, each]) => {
    if (!Object.hasOwn(value, name)) return !schema.required?.includes(name);
    const plain = resolve(each, root);
    return !("const" in plain) || json(plain.const) === json(value[name]);
  });
}

/** The field with the first of the values that it can show. */
function started(field, values) {
  values.some((value) => value !== undefined && value !== null && field.write(value));
  return field;
}

function control(schema, context) {
  const { type, properties, additionalProperties: others } = schema;
  if (context.tools && callsTool(schema)) return toolCall(context);
  if ("const" in schema) return fixed(schema.const, node("code", { className: "fixed" }, json(schema.const)));
  if (Array.isArray(schema.enum)) return oneOf(schema.enum);
  if (type === "null") return fixed(null, "");
  if (type === "boolean") return oneOf([false, true]);
  if (type === "string") return text(schema);
  if (type === "integer" || type === "number") return number(schema);
  if (context.depth > DEEPEST || schema.minItems > MOST_ROWS || schema.allOf || schema.patternProperties) return anything();
  if (type === "array") return list(schema, context);
  if (properties || (type === "object" && isObject(others))) return group(schema, context);
  return type === "object" ? anything("{}", isObject) : anything();
}

const leftOut = () => ({ node: "", read: () => undefined, write: (value) => value === undefined });

const fixed = (value, shown) => ({ node: shown, read: () => json(value), write: (other) => json(other) === json(value) });

function oneOf(values) {
  const input = node("select", {}, ...values.map((value, index) => node("option", { value: index }, typeof value === "string" ? value : json(value))));
  const write = (value) => {
    const index = values.findIndex((each) => json(each) === json(value));
    if (index >= 0) input.value = index;
    return index >= 0;
  };
  return { node: input, input, read: () => json(values[input.value]), write };
}

function text({ format, pattern, maxLength }) {
  const isShort = format || pattern || maxLength <= 80;
  const input = isShort ? node("input", {}) : node("textarea", { rows: 1, dir: "auto" });
  input.spellcheck = false;
  let kept; // a text that the element cannot show, or only slowly
  input.addEventListener("input", () => { kept = undefined; input.placeholder = ""; });
  const write = (value) => {
    if (typeof value !== "string") return false;
    kept = value.length > LONGEST_TEXT || /\r|[^\P{Cc}\n\t]/u.test(value) || (isShort && value.includes("\n")) ? value : undefined;
    input.value = kept === undefined ? value : "";
    input.placeholder = kept === undefined ? "" : "as in the JSON";
    return true;
  };
  return { node: input, input, read: () => JSON.stringify(kept ?? input.value), write };
}

function number({ type, minimum, exclusiveMinimum }) {
  const start = minimum ?? (exclusiveMinimum === undefined ? 0 : exclusiveMinimum + 1);
  const input = node("input", { inputMode: type === "integer" ? "numeric" : "decimal", value: start });
  const read = () => (NUMBER.test(input.value.trim()) ? input.value.trim() : JSON.stringify(input.value));
  const write = (value) => {
    const fits = typeof value === "bigint" || (typeof value === "number" && (type === "number" || Number.isInteger(value)));
    if (fits) input.value = value;
    return fits;
  };
  return { node: input, input, read, write };
}

function anything(start = "null", allows = () => true) {
  const input = node("textarea", { rows: 1, className: "json", spellcheck: false, value: start });
  const check = () => {
    try { JSON.parse(input.value); input.ariaInvalid = "false"; } catch { input.ariaInvalid = "true"; }
  };
  input.addEventListener("input", check);
  const write = (value) => {
    const shown = value === undefined ? undefined : json(value, 1);
    if (shown === undefined || shown.length > LONGEST_TEXT || !allows(value)) return false;
    input.value = shown.length < 60 ? json(value) : shown;
    check();
    return true;
  };
  return { node: input, input, read: () => input.value.trim() || "null", write };
}

/** One of several fields, each of which is made when it is first chosen: schemas may be recursive. */
function choice(options, depth) {
  let first = options.findIndex(({ isEmpty, isPlain }) => isEmpty || (depth > 1 && isPlain)), name;
  if (first < 0 && depth > DEEP) first = options.push({ name: "choose", make: () => fixed(null, "") }) - 1;
  const select = node("select", { className: "choice" }, ...options.map((option, index) => node("option", { value: index }, option.name)));
  const place = node("div", { className: "chosen" }), made = [];
  const show = (index, field = made[index] ?? options[index].make()) => {
    made[index] = field;
    select.value = index;
    place.replaceChildren(field.node);
    place.hidden = field.node === "";
    if (field.input && name) field.input.ariaLabel = name;
  };
  const setName = (text) => {
    name = text;
    select.ariaLabel = `Kind of ${text}`;
    show(Number(select.value));
  };
  select.addEventListener("input", () => show(Number(select.value)));
  const write = (value) => {
    const order = new Set([Number(select.value), ...options.keys()]); // the chosen one first
    return [...order].some((index) => {
      if (options[index].mayFit?.(value) === false) return false;
      const field = options[index].make(), fits = field.write(value);
      if (fits) show(index, field);
      return fits;
    });
  };
  show(Math.max(first, 0));
  return { node: place, select, setName, read: () => made[select.value].read(), write };
}

function list(schema, context) {
  const { items, minItems = 0, maxItems = Infinity } = schema;
  const ahead = schema.prefixItems ?? (Array.isArray(items) ? items : []), further = Array.isArray(items) ? schema.additionalItems : items;
  const rows = node("ol", { className: "rows" }), add = node("button", { type: "button", className: "small" }, "Add");
  let fields = [];
  function show() {
    rows.replaceChildren(...fields.map(({ row }) => row));
    add.hidden = fields.length >= Math.min(maxItems, MOST_ROWS) || further === false;
  }
  function append() {
    const isAhead = fields.length < ahead.length;
    const field = fieldOf(isAhead ? ahead[fields.length] : further, context, true);
    field.row = rowOf(String(fields.length + 1), field, !isAhead && (() => { fields = fields.filter((other) => other !== field); show(); }));
    fields.push(field);
    return field;
  }
  add.addEventListener("click", () => { append(); show(); changed(add); fields.at(-1).row.querySelector("textarea, select, input").focus(); });
  while (fields.length < Math.min(Math.max(ahead.length, minItems), MOST_ROWS)) append();
  show();
  const write = (values) => {
    if (!Array.isArray(values) || values.length > MOST_ROWS || values.length < ahead.length) return false;
    fields = [];
    const fits = values.every((value) => append().write(value));
    show();
    return fits;
  };
  return { node: node("div", { className: "nested" }, rows, add), read: () => `[${fields.map(({ read }) => read()).join(",")}]`, write };
}

function group(schema, context) {
  const required = schema.required ?? [], others = schema.additionalProperties;
  const named = Object.entries(schema.properties ?? {}).map(([name, each]) => [name, fieldOf(each, context, required.includes(name))]);
  named.sort(([a], [b]) => (a === "metadata") - (b === "metadata")); // every action may have it
  const known = new Map(named), more = isObject(others) ? entries(others, context) : undefined;
  const read = () => {
    const parts = named.map(([name, field]) => [name, field.read()]).filter(([, value]) => value !== undefined);
    return `{${[...parts.map(([name, value]) => `${JSON.stringify(name)}:${value}`), ...(more?.read() ?? [])].join(",")}}`;
  };
  const write = (value) => {
    if (!isObject(value)) return false;
    const rest = Object.entries(value).filter(([name]) => !known.has(name));
    return named.every(([name, field]) => field.write(Object.hasOwn(value, name) ? value[name] : undefined)) && (more ? more.write(rest) : !rest.length);
  };
  const rows = named.map(([name, field]) => rowOf(name, field));
  const nested = node("div", { className: context.depth > 1 ? "nested" : "" }, ...rows, ...(more ? [more.node] : []));
  return { node: nested, read, write };
}

/** The members of a dictionary: rows of a key and a value. */
function entries(schema, context) {
  const rows = node("ol", { className: "rows" }), add = node("button", { type: "button", className: "small" }, "Add");
  let fields = [];
  const show = () => rows.replaceChildren(...fields.map(({ row }) => row));
  function append(name) {
    const key = node("input", { className: "key", value: name, ariaLabel: "Key", spellcheck: false }), field = fieldOf(schema, context, true);
    const entry = { key, field, row: rowOf(key, field, () => { fields = fields.filter((other) => other !== entry); show(); }) };
    fields.push(entry);
    return entry;
  }
  add.addEventListener("click", () => { append("").key.value = `key${fields.length}`; show(); changed(add); });
  const read = () => fields.map(({ key, field }) => `${JSON.stringify(key.value)}:${field.read()}`);
  const write = (members) => {
    fields = [];
    const fits = members.length <= MOST_ROWS && members.every(([name, value]) => append(name).field.write(value));
    show();
    return fits;
  };
  return { node: node("div", {}, rows, add), read, write };
}

/** A call of one of the tools, or the list of them. */
function toolCall({ tools, depth }) {
  const calls = tools.map(({ name, description, inputSchema }) => ({ name, make: () => {
    const field = fieldOf(inputSchema, { root: inputSchema, depth }, true);
    return {
      ...field,
      node: node("div", {}, node("p", { className: "hint" }, shortened(description ?? "", 1000)), field.node),
      read: () => `{"type":"call_tool","tool_name":${JSON.stringify(name)},"arguments":${field.read()}}`,
      write: (value) => value?.type === "call_tool" && value.tool_name === name && Object.keys(value).length === 3 && field.write(value.arguments),
    };
  } }));
  const field = choice([...calls, { name: "List the tools", make: () => fixed({ type: "list_tools" }, "") }], depth);
  return { ...field, select: undefined, node: rowOf("tool", field) };
}

// --- Rows -----------------------------------------------------------------------------------------

const changed = (origin) => origin.dispatchEvent(new Event("input", { bubbles: true }));

/** A row of a form: the name, or the input of a key, and the field. */
function rowOf(name, { node: content, input, select, setName, description, limits = [] }, remove) {
  const isKey = typeof name !== "string", title = isKey ? "this entry" : name, isLabel = input && !select && !isKey;
  const label = isKey ? name : node(isLabel ? "label" : "span", { className: "name" }, name);
  if (isLabel) label.htmlFor = input.id = `field-${++lastId}`;
  else if (setName) setName(title);
  else if (input) input.ariaLabel = title;
  const head = node("div", { className: "head" }, label, ...(select ? [select] : []));
  if (remove) {
    const button = node("button", { type: "button", className: "plain", ariaLabel: `Remove ${title}` }, "Remove");
    button.addEventListener("click", () => { const { parentNode } = row; remove(); changed(parentNode); });
    head.append(button);
  }
  const hint = [shortened(description ?? "", 300), limits.join(", ")].filter(Boolean).join(" · ");
  const row = node(remove === undefined ? "div" : "li", { className: "field" }, head, content, ...(hint ? [node("p", { className: "hint" }, hint)] : []));
  return row;
}
