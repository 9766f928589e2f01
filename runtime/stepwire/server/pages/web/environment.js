// What the server tells the page about its environment.

import { element } from "./dom.js";

/** `schema` of the actions, an `example`, and what Python imports: `client` and `actions`. */
export const environment = JSON.parse(element("environment").textContent);

const { message, metadata, ...others } = environment.schema.properties ?? {};

/** Whether an action is a message to echo: the page knows more about those. */
export const isEcho = message?.type === "string" && !Object.keys(others).length && environment.echoes;
