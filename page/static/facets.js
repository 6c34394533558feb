// Filters: values of the items found, with their counts, and bounds of numeric columns.

import { byId, el, setAttribute, setText } from "./dom.js";
import { number, plural, visible } from "./text.js";

const SHOWN = 12;

/** The filters chosen: column -> text, or {least, most}. `onChange` is called after each change. */
export class Facets {
  constructor(onChange) {
    this.onChange = onChange;
    this.chosen = {};
    this.columns = [];
    this.groups = new Map();
    // On a phone the results come first.
    if (matchMedia("(max-width: 760px)").matches) byId("filters").open = false;
    byId("filters-clear").addEventListener("click", () => this.set({}, true));
  }

  /** Builds a group for every column that can filter. */
  start(columns) {
    this.columns = columns;
    const groups = columns.map(({ column, kind }) => {
      const name = el("span", { dir: "auto", text: visible(column, { limit: 80 }) });
      const group = el("fieldset", { class: "facet", data: { facet: column, kind } }, el("legend", {}, name));
      if (kind === "number") group.append(this.range(column));
      else group.append(el("ul", { class: "values" }));
      this.groups.set(column, group);
      return group;
    });
    byId("facets").replaceChildren(...groups);
    byId("filters").hidden = columns.length === 0;
    this.showChosen();
  }

  range(column) {
    const field = (end, label) => {
      const input = el("input", { type: "number", step: "any", inputmode: "decimal", data: { end }, placeholder: label, "aria-label": `${visible(column, { limit: 80 })}: ${label}` });
      input.addEventListener("input", () => this.bound(column));
      return input;
    };
    return el("div", { class: "range" }, field("least", "at least"), el("span", { "aria-hidden": "true", text: "\u2013" }), field("most", "at most"));
  }

  bound(column) {
    const values = {};
    for (const input of this.groups.get(column).querySelectorAll("input")) {
      if (input.value !== "" && Number.isFinite(input.valueAsNumber)) values[input.dataset.end] = input.valueAsNumber;
    }
    if (Object.keys(values).length) this.chosen[column] = values;
    else delete this.chosen[column];
    this.showCount();
    this.onChange();
  }

  choose(column, value) {
    if (this.chosen[column] === value) delete this.chosen[column];
    else this.chosen[column] = value;
    this.showCount();
    this.onChange();
  }

  set(chosen, tell = false) {
    this.chosen = { ...chosen };
    this.showChosen();
    if (tell) this.onChange();
  }

  showCount() {
    const count = Object.keys(this.chosen).length;
    byId("filters-count").textContent = count ? plural(count, "filter") : "";
    byId("filters-clear").hidden = count === 0;
  }

  showChosen() {
    for (const { column, kind } of this.columns) {
      if (kind !== "number") continue;
      const { least, most } = typeof this.chosen[column] === "object" ? this.chosen[column] : {};
      const [low, high] = this.groups.get(column).querySelectorAll("input");
      low.value = least ?? "";
      high.value = most ?? "";
    }
    this.showCount();
  }

  /** Shows the values among the items found; a chosen value stays in sight also where no item has it. */
  show(facets) {
    for (const { column, kind } of this.columns) {
      if (kind === "number") continue;
      const list = this.groups.get(column).querySelector("ul");
      const values = (facets[column] ?? []).slice(0, SHOWN);
      const chosen = this.chosen[column];
      if (chosen !== undefined && !values.some(({ value }) => value === chosen)) values.unshift({ value: chosen, count: 0 });
      const state = JSON.stringify([values, chosen ?? null]);
      if (list.dataset.state === state) continue;
      list.dataset.state = state;
      while (list.children.length > values.length) list.lastChild.remove();
      while (list.children.length < values.length) list.append(this.value(column));
      values.forEach(({ value, count }, place) => {
        const button = list.children[place].firstChild;
        button.dataset.value = value;
        setAttribute(button, "aria-pressed", String(value === chosen));
        setText(button.firstChild, visible(value, { limit: 80 }) || "(empty)");
        setText(button.lastChild, number(count));
      });
      this.groups.get(column).hidden = values.length === 0;
    }
  }

  value(column) {
    const button = el("button", { type: "button", class: "value" }, el("bdi"), " ", el("span", { class: "count" }));
    button.addEventListener("click", () => this.choose(column, button.dataset.value));
    return el("li", {}, button);
  }

  write(parameters) {
    for (const [column, value] of Object.entries(this.chosen)) {
      if (typeof value === "object") parameters.set(`r.${column}`, `${value.least ?? ""}..${value.most ?? ""}`);
      else parameters.set(`f.${column}`, value);
    }
  }

  read(parameters) {
    const chosen = {};
    const known = new Set(this.columns.map(({ column }) => column));
    for (const [name, value] of parameters) {
      const column = name.slice(2);
      if (!known.has(column)) continue;
      if (name.startsWith("f.")) chosen[column] = value;
      if (!name.startsWith("r.")) continue;
      const [least, most] = value.split("..");
      const bounds = {};
      if (least && Number.isFinite(Number(least))) bounds.least = Number(least);
      if (most && Number.isFinite(Number(most))) bounds.most = Number(most);
      if (Object.keys(bounds).length) chosen[column] = bounds;
    }
    this.set(chosen);
  }
}
