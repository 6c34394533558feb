// Columns: what can be compared, how each is named, and the choice of one to three.

import { el, setText, words } from "./dom.js";

export const MOST = 3;
export const LETTERS = ["A", "B", "C"];

/** What the shop offers, once it is known. */
export const offered = { columns: [], titles: [] };

export function setOffered(shop) {
  offered.columns = shop.columns.length ? shop.columns : [{}];
  offered.titles = shop.columns.length ? shop.column_titles : ["As served"];
}

const DEFAULTS = { kind: "server" };

/** A column without the members that have their default: two are equal if their texts are. */
export function compact(column) {
  const kept = Object.entries(column).filter(([name, value]) => value !== null && value !== undefined && DEFAULTS[name] !== value);
  return Object.fromEntries(kept.sort(([a], [b]) => (a < b ? -1 : 1)));
}

export const columnText = (column) => JSON.stringify(compact(column));

/** The place of a column in what the shop offers, whatever its fusion weight; -1: not offered. */
export function placeOf(column) {
  const exact = columnText(column);
  const place = offered.columns.findIndex((each) => columnText(each) === exact);
  if (place >= 0) return place;
  const loose = columnText({ ...column, lexical_weight: null });
  return offered.columns.findIndex((each) => columnText({ ...each, lexical_weight: null }) === loose);
}

export function titleOf(column) {
  const place = placeOf(column);
  const title = place < 0 ? columnText(column) : offered.titles[place];
  const weight = column.lexical_weight;
  const own = place >= 0 && offered.columns[place].lexical_weight === weight;
  return weight === null || weight === undefined || own ? title : `${title}, lexical ${weight.toFixed(2)}`;
}

/** Columns of an address, `c={...}&c={...}`; what is no column is left out. */
export function columnsOf(parameters) {
  const found = [];
  for (const text of parameters.getAll("c").slice(0, MOST)) {
    try {
      const column = JSON.parse(text);
      if (column && typeof column === "object" && !Array.isArray(column)) found.push(column);
    } catch {
      // An address that was cut: the others still count.
    }
  }
  return found;
}

/** Writes columns into an address; the shop's first one alone is what an address without any means. */
export function writeColumns(parameters, columns) {
  if (columns.length === 1 && columnText(columns[0]) === columnText(offered.columns[0])) return;
  for (const column of columns) parameters.append("c", columnText(column));
}

/**
 * The head of a column of results: its choice, its fusion slider, its removal.
 *
 * `onChange(index, column)` and `onRemove(index)` tell of what the person did.
 */
export class ColumnHead {
  constructor(index, { onChange, onRemove }) {
    this.index = index;
    this.onChange = onChange;
    this.select = el("select", { id: `column-${index}`, "aria-label": `Column ${LETTERS[index]}: what is asked` });
    this.select.addEventListener("change", () => onChange(index, this.chosen()));
    this.remove = el(
      "button",
      { type: "button", class: "icon", id: `remove-column-${index}`, "aria-label": `Remove column ${LETTERS[index]}`, title: "Remove this column" },
      "\u00d7",
    );
    this.remove.addEventListener("click", () => onRemove(index));
    this.slider = el("input", { type: "range", id: `fusion-${index}`, min: "0", max: "1", step: "0.05", "aria-label": `Column ${LETTERS[index]}: weight of the lexical scores` });
    this.weight = el("output", { for: `fusion-${index}`, class: "weight" });
    this.reset = el("button", { type: "button", class: "small", id: `fusion-reset-${index}`, text: "As served" });
    this.fusion = el("div", { class: "fusion" }, el("span", { "aria-hidden": "true", text: "dense" }), this.slider, el("span", { "aria-hidden": "true", text: "lexical" }), this.weight, this.reset);
    this.slider.addEventListener("input", () => onChange(index, { ...this.column, lexical_weight: Number(this.slider.value) }));
    this.reset.addEventListener("click", () => onChange(index, { ...this.column, lexical_weight: null }));
    this.element = el("div", { class: "column-head" }, el("span", { class: "letter", "aria-hidden": "true", text: LETTERS[index] }), this.select, this.remove);
    this.options = "";
  }

  chosen() {
    return this.select.value === "own" ? this.column : { ...offered.columns[Number(this.select.value)] };
  }

  show(column, alone) {
    this.column = column;
    const place = placeOf(column);
    const options = JSON.stringify([offered.titles, place < 0 ? columnText(column) : null]);
    if (options !== this.options) {
      this.options = options;
      this.select.replaceChildren(...offered.titles.map((title, index) => words("option", title, { value: String(index) })));
      if (place < 0) this.select.append(words("option", titleOf(column), { value: "own" }));
    }
    this.select.value = place < 0 ? "own" : String(place);
    this.remove.hidden = alone;
    this.fusion.hidden = column.mode !== "hybrid";
    const weight = column.lexical_weight ?? null;
    this.slider.value = String(weight ?? 0.5);
    this.slider.setAttribute("aria-valuetext", weight === null ? "as served" : `lexical ${weight.toFixed(2)}`);
    setText(this.weight, weight === null ? "as served" : weight.toFixed(2));
    this.reset.hidden = weight === null;
  }
}

/** A table with a line for each column and a box for each of `uses` ({name: {title, most, chosen: [column]}}). */
export function columnBoxes(id, uses, onChange) {
  const names = Object.keys(uses);
  const all = [...offered.columns];
  for (const name of names) for (const column of uses[name].chosen) if (!all.some((each) => columnText(each) === columnText(column))) all.push(column);
  const boxes = [];
  const rows = all.map((column, index) =>
    el(
      "tr",
      {},
      words("th", titleOf(column), { scope: "row" }),
      ...names.map((name) => {
        const { title, chosen } = uses[name];
        const box = el("input", { type: "checkbox", id: `${id}-${name}-${index}`, "aria-label": `${title}: ${titleOf(column)}`, checked: chosen.some((each) => columnText(each) === columnText(column)) });
        boxes.push({ name, column, box });
        box.addEventListener("change", () => {
          const now = boxes.filter((each) => each.name === name && each.box.checked).map((each) => each.column);
          if (now.length > uses[name].most || now.length === 0) box.checked = !box.checked;
          else onChange(name, now);
        });
        return el("td", {}, el("label", { class: "box" }, box));
      }),
    ),
  );
  return el(
    "table",
    { id, class: "boxes" },
    el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "Column" }), ...names.map((name) => el("th", { scope: "col", text: uses[name].title })))),
    el("tbody", {}, ...rows),
  );
}
