// Elements. Text enters the page through text nodes alone, never as markup.

import { visible } from "./text.js";

export const byId = (id) => document.getElementById(id);

/**
 * A new element. `attributes`: `class`, `text`, `on` ({event: listener}), properties that are boolean, `data`
 * ({name: value}), others as attributes; null and undefined are left out.
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (name === "text") element.textContent = value;
    else if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (typeof value === "boolean") element.toggleAttribute(name, value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** An element of a text of the catalogue or of a person: its direction is its own, its control characters are visible. */
export function words(tag, text, attributes = {}, options = {}) {
  return el(tag, { dir: "auto", ...attributes, text: visible(text, options) });
}

/** Sets a text where it differs, so that what stays is not painted again. */
export function setText(element, text) {
  if (element.firstChild?.nodeValue !== text || element.childNodes.length > 1) element.textContent = text;
}

/** Sets or takes away an attribute where it differs. */
export function setAttribute(element, name, value) {
  if (value === null) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== value) {
    element.setAttribute(name, value);
  }
}

/** An element of a vector picture; sizes are attributes there, which the content security policy lets pass. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A table with a caption for screen readers; `rows` are arrays of cells, a cell a text or a node. */
export function table(attributes, caption, heads, rows) {
  const cell = (tag, content, more = {}) =>
    content instanceof Node ? el(tag, more, content) : el(tag, { ...more, text: String(content) });
  return el(
    "table",
    attributes,
    el("caption", { class: "quiet", text: caption }),
    el("thead", {}, el("tr", {}, ...heads.map((head) => cell("th", head, { scope: "col" })))),
    el("tbody", {}, ...rows.map((row) => (row instanceof Node ? row : el("tr", {}, ...row.map((each) => cell("td", each)))))),
  );
}

let announced;

/** Has screen readers say something, once a row of changes has ended. */
export function announce(text, milliseconds = 400) {
  clearTimeout(announced);
  announced = setTimeout(() => setText(byId("announcer"), text), milliseconds);
}

/** Calls back once what was changed is on the screen. */
export function afterPaint(callback) {
  const channel = new MessageChannel();
  channel.port1.onmessage = callback;
  requestAnimationFrame(() => channel.port2.postMessage(null));
}

/** Whether keys pressed now belong to a field or a dialog. */
export function typing(event) {
  const target = event.target;
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return true;
  if (document.querySelector("dialog[open]")) return true;
  return ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName) && target.type !== "checkbox";
}
