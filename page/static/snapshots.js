// The view with what was kept of results, and how two of those differ.

import * as api from "./api.js";
import { confirmed } from "./books.js";
import { LETTERS, MOST, columnBoxes, offered, titleOf, writeColumns } from "./columns.js";
import { byId, el, table, words } from "./dom.js";
import { attempt, notice, refusedQueries } from "./problems.js";
import * as route from "./route.js";
import { decimal, number, plural, time, visible, wellFormed } from "./text.js";

export class SnapshotsView {
  constructor() {
    this.element = byId("view-snapshots");
    this.snapshots = [];
    this.picked = { a: null, b: null };
    this.titles = new Map();
    this.columns = null;
    byId("take-snapshot").addEventListener("submit", (event) => {
      event.preventDefault();
      this.take();
    });
    byId("show-difference").addEventListener("click", () => {
      const { a, b } = this.picked;
      route.push("snapshots", null, new URLSearchParams({ a, b }));
      this.showDifference();
    });
  }

  async enter(_, parameters) {
    this.columns ??= [offered.columns[0]];
    byId("snapshot-columns").replaceChildren(columnBoxes("snapshot-boxes", { keep: { title: "Keep", most: MOST, chosen: this.columns } }, (_use, chosen) => (this.columns = chosen)));
    this.picked = { a: parameters.get("a"), b: parameters.get("b") };
    byId("difference").replaceChildren();
    delete byId("difference").dataset.pair;
    await Promise.all([this.loadBooks(), this.load()]);
    await this.showDifference();
    return "Snapshots";
  }

  async loadBooks() {
    const books = await attempt("snapshots", api.books, () => this.loadBooks());
    if (!Array.isArray(books)) return;
    const select = byId("snapshot-book");
    const before = select.value;
    select.replaceChildren(...books.map(({ name, queries }) => words("option", `${visible(name, { limit: 80 })} (${plural(queries.length, "query", "queries")})`, { value: name })));
    if (books.some(({ name }) => name === before)) select.value = before;
    byId("snapshot-send").disabled = books.length === 0;
    byId("snapshot-no-books").hidden = books.length > 0;
  }

  find(end) {
    return this.snapshots.find(({ id }) => String(id) === this.picked[end]) ?? null;
  }

  async load() {
    const snapshots = await attempt("snapshots", api.snapshots, () => this.load());
    if (!Array.isArray(snapshots)) return;
    this.snapshots = snapshots;
    if (!this.find("a") || !this.find("b")) {
      const [a, b] = snapshots.slice(-2);
      this.picked = b ? { a: String(a.id), b: String(b.id) } : { a: null, b: null };
    }
    byId("show-difference").disabled = snapshots.length < 2;
    byId("snapshots").replaceChildren(
      snapshots.length
        ? table({ id: "snapshots-table", class: "list" }, "Snapshots, oldest first", ["From", "To", "Snapshot", "Book", "Taken", "Columns", "Settings", ""], snapshots.map((each) => this.row(each)))
        : el("p", { class: "hint", text: "No snapshot is taken yet." }),
    );
  }

  row(snapshot) {
    const name = visible(snapshot.name, { limit: 100 });
    const choice = (end, label) => {
      const radio = el("input", { type: "radio", name: `snapshot-${end}`, value: String(snapshot.id), "aria-label": `${label}: ${name}`, checked: this.picked[end] === String(snapshot.id) });
      radio.addEventListener("change", () => (this.picked[end] = radio.value));
      return el("td", { class: "narrow" }, el("label", { class: "box" }, radio));
    };
    const settings = Object.entries(snapshot.settings);
    return el(
      "tr",
      { data: { snapshot: String(snapshot.id) } },
      choice("a", "From"),
      choice("b", "To"),
      el("th", { scope: "row" }, words("bdi", snapshot.name, {}, { limit: 100 })),
      words("td", snapshot.book, {}, { limit: 100 }),
      el("td", { class: "time", text: time(snapshot.taken_at) }),
      el("td", {}, ...snapshot.columns.map((column, index) => el("div", {}, words("bdi", titleOf(column), {}, { limit: 100 }), snapshot.versions[index] === null || snapshot.versions[index] === undefined ? "" : ` (version ${snapshot.versions[index]})`)), snapshot.refused.length ? refusedQueries(snapshot.refused) : null),
      el(
        "td",
        {},
        settings.length
          ? el("details", {}, el("summary", { text: plural(settings.length, "value") }), el("dl", {}, ...settings.flatMap(([key, value]) => [words("dt", key, {}, { limit: 100 }), words("dd", value, {}, { limit: 200 })])))
          : "",
      ),
      el("td", {}, el("button", { type: "button", class: "small", data: { act: "remove-snapshot" }, "aria-label": `Remove the snapshot ${name}`, text: "Remove", on: { click: () => this.remove(snapshot) } })),
    );
  }

  async take() {
    const button = byId("snapshot-send");
    button.disabled = true;
    byId("snapshot-state").textContent = "Searching\u2026";
    const request = { name: wellFormed(byId("snapshot-name").value.trim()), book: byId("snapshot-book").value, columns: this.columns, count: Number(byId("snapshot-count").value) };
    const taken = await attempt("snapshots", () => api.takeSnapshot(request), () => this.take());
    byId("snapshot-state").textContent = "";
    button.disabled = false;
    if (!taken) return;
    byId("snapshot-name").value = "";
    notice(`Snapshot taken: ${taken.name}`);
    this.picked = { a: null, b: null };
    await this.load();
  }

  async remove(snapshot) {
    const { id, name } = snapshot;
    if (!(await confirmed(`Remove the snapshot \u201c${visible(name, { limit: 100 })}\u201d? This cannot be undone.`))) return;
    if (await attempt("snapshots", () => api.removeSnapshot(id), () => this.remove(snapshot))) await this.load();
  }

  async showDifference() {
    const [first, second] = [this.find("a"), this.find("b")];
    if (!first || !second) return;
    const differences = await attempt("snapshots", () => api.difference(first.id, second.id), () => this.showDifference());
    if (!Array.isArray(differences)) return;
    this.titles = await api.titles(differences.flatMap(({ entered, left, moved }) => [...entered, ...left, ...Object.keys(moved)]));
    if (this.find("a")?.id !== first.id || this.find("b")?.id !== second.id) return; // another pair was chosen meanwhile
    const columns = [...new Set(differences.map(({ column }) => column))].sort((a, b) => a - b);
    byId("difference").replaceChildren(
      el("h2", {}, "From ", words("bdi", first.name, {}, { limit: 80 }), " to ", words("bdi", second.name, {}, { limit: 80 })),
      ...(differences.length ? columns.map((column) => this.columnDifference(differences.filter((each) => each.column === column), column, second)) : [el("p", { class: "hint", text: "The two have no query in common." })]),
    );
    byId("difference").dataset.pair = `${first.id}-${second.id}`;
  }

  columnDifference(differences, column, snapshot) {
    const mean = differences.reduce((sum, each) => sum + each.overlap_10, 0) / differences.length;
    const changed = differences.filter((each) => each.entered.length || each.left.length || Object.keys(each.moved).length);
    const title = snapshot.columns[column] ? titleOf(snapshot.columns[column]) : "";
    const rows = [...changed].sort((a, b) => a.overlap_10 - b.overlap_10);
    return el(
      "section",
      { data: { differenceColumn: String(column) } },
      el("h3", {}, `${LETTERS[column] ?? column}: `, words("bdi", title, {}, { limit: 100 })),
      el("p", { class: "meta", text: `${plural(differences.length, "query", "queries")}, ${number(changed.length)} changed, mean overlap@10 ${decimal(mean, 3)}` }),
      rows.length ? el("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": `Changes in column ${LETTERS[column] ?? column}` }, table({ class: "list differences" }, "Queries whose results changed, most changed first", ["Query", "Overlap@10", "Entered", "Left", "Moved"], rows.map((each) => differenceRow(each, snapshot.columns[column] ?? {}, this.titles)))) : null,
    );
  }
}

function differenceRow({ query, overlap_10: overlap, entered, left, moved }, column, titles) {
  const parameters = new URLSearchParams({ q: query });
  writeColumns(parameters, [column]);
  const ids = (items, kind) => el("ul", { class: `ids ${kind}` }, ...items.map((itemId) => words("li", titles.get(itemId) ?? itemId, { data: { itemId } }, { limit: 60 })));
  const moves = Object.entries(moved);
  return el(
    "tr",
    { data: { query } },
    el("th", { scope: "row" }, words("a", query || "(empty)", { href: route.address("search", null, parameters) }, { limit: 120 })),
    el("td", { class: "value", text: decimal(overlap, 2) }),
    el("td", {}, ids(entered, "entered")),
    el("td", {}, ids(left, "left")),
    el("td", {}, el("ul", { class: "ids" }, ...moves.slice(0, 10).map(([itemId, [before, after]]) => el("li", { data: { itemId } }, words("bdi", titles.get(itemId) ?? itemId, {}, { limit: 60 }), ` ${before} \u2192 ${after}`))), moves.length > 10 ? el("span", { class: "hint", text: `and ${number(moves.length - 10)} more` }) : null),
  );
}
