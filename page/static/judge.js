// The view in which people judge.

import * as api from "./api.js";
import { openReport } from "./bad_case.js";
import { exportLinks, importInto, showBooks } from "./books.js";
import { MOST, columnBoxes, columnsOf, offered, writeColumns } from "./columns.js";
import { announce, byId, el, typing, words } from "./dom.js";
import { closeExplanation, openExplanation } from "./explain.js";
import { Figures } from "./figures.js";
import { GRADES } from "./cards.js";
import { Judging, defaultFigures } from "./judging.js";
import { PoolCard, showPoolState } from "./pool.js";
import { attempt, notice } from "./problems.js";
import * as route from "./route.js";
import { askJudge, keysOn, settings } from "./settings.js";
import { number, plural, visible } from "./text.js";

export class JudgeView {
  constructor() {
    this.element = byId("view-judge");
    this.judging = null;
    this.cards = new Map();
    this.current = null;
    this.figures = new Figures();
    this.figureColumns = null;
    document.addEventListener("keydown", (event) => this.key(event));
    byId("previous-query").addEventListener("click", () => this.step(-1));
    byId("next-query").addEventListener("click", () => this.step(1));
    byId("undo").addEventListener("click", () => this.undo());
    byId("depth").addEventListener("change", () => this.reopen());
    byId("import-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.import();
    });
    settings.addEventListener("change", ({ detail }) => {
      if (!this.element.hidden && detail !== "keys") this.reopen();
    });
  }

  async enter(name, parameters) {
    const book = name !== null && name !== "";
    byId("books-pane").hidden = book;
    byId("book-pane").hidden = !book;
    if (!book) {
      this.close();
      await showBooks();
      return "Judge";
    }
    const columns = columnsOf(parameters);
    this.columns = columns.length ? columns : [offered.columns[0]];
    this.figureColumns ??= defaultFigures();
    const at = parameters.get("at");
    await this.openBook(name, at === null ? null : Number(at));
    return `Judge ${visible(name, { limit: 60 })}`;
  }

  leave() {
    this.close();
    closeExplanation({ focus: false });
  }

  close() {
    this.judging?.end();
    this.judging = null;
    this.figures.forget();
  }

  async openBook(name, at) {
    this.close();
    byId("book-heading").textContent = visible(name, { limit: 120 });
    byId("pool").replaceChildren();
    byId("book-queries").replaceChildren();
    byId("judging-query").textContent = "";
    const judge = await askJudge();
    if (!judge) {
      showPoolState("Judging needs a name: press the button with the judge\u2019s name above.");
      return;
    }
    const book = await attempt("judge", () => api.book(name), () => this.openBook(name, at));
    if (!book) return;
    byId("exports").replaceChildren(exportLinks(name));
    const judging = new Judging(book, judge, this.columns, Number(byId("depth").value));
    this.judging = judging;
    judging.addEventListener("query", () => this.showQuery());
    judging.addEventListener("item", (event) => this.showItem(event.detail));
    judging.addEventListener("progress", () => this.showProgress());
    judging.addEventListener("saved", () => this.refreshFigures());
    this.showColumns();
    this.showQueries();
    this.refreshFigures(0);
    if (!judging.queries.length) {
      showPoolState("This book has no queries yet. Import a file with judgements.");
      this.showProgress();
      return;
    }
    const wanted = Number.isInteger(at) && at >= 1 && at <= judging.queries.length ? at - 1 : judging.firstOpen();
    await this.open(wanted, { focus: false });
  }

  reopen() {
    if (this.judging) this.openBook(this.judging.book.name, this.judging.at + 1);
  }

  async open(at, { focus = true, item = null } = {}) {
    showPoolState("Loading the items\u2026");
    const judging = this.judging;
    this.focusNext = focus;
    this.itemNext = item;
    await attempt("judge", () => judging.open(at), () => this.open(at, { focus, item }));
  }

  refreshFigures(at) {
    if (this.judging) this.figures.refresh(this.judging.book.name, this.figureColumns, Math.max(this.judging.depth, 10), { at });
  }

  showColumns() {
    byId("judge-columns").replaceChildren(
      columnBoxes("judge-boxes", { pool: { title: "Judge its items", most: MOST, chosen: this.columns }, figures: { title: "Figures", most: 20, chosen: this.figureColumns } }, (use, chosen) => {
        if (use === "figures") {
          this.figureColumns = chosen;
          this.refreshFigures(0);
        } else {
          this.columns = chosen;
          this.reopen();
        }
      }),
    );
  }

  showQueries() {
    const { judging } = this;
    this.lines = judging.queries.map(({ query }, index) => {
      const count = el("span", { class: "count" });
      const button = el("button", { type: "button", data: { query: String(index) }, on: { click: () => this.open(index) } }, words("bdi", query || "(empty)", {}, { limit: 100 }), " ", count);
      return { line: el("li", {}, button), button, count };
    });
    byId("book-queries").replaceChildren(...this.lines.map(({ line }) => line));
  }

  showProgress() {
    const { judging } = this;
    const begun = judging.queries.filter(({ judged }) => judged > 0).length;
    const pairs = judging.queries.reduce((sum, { judged }) => sum + judged, 0);
    const bar = byId("book-progress");
    bar.max = Math.max(judging.queries.length, 1);
    bar.value = begun;
    byId("book-progress-text").textContent = `${number(begun)} of ${plural(judging.queries.length, "query", "queries")}, ${plural(pairs, "judgement")} of yours`;
    const line = this.lines[judging.at];
    if (line) this.showLine(judging.at);
    if (this.counted !== judging) judging.queries.forEach((_, index) => this.showLine(index));
    this.counted = judging;
  }

  showLine(index) {
    const { judged } = this.judging.queries[index];
    const { button, count } = this.lines[index];
    count.textContent = judged ? `${number(judged)} judged` : "";
    button.classList.toggle("begun", judged > 0);
    if (index === this.judging.at) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }

  showQuery() {
    const { judging } = this;
    for (const { button } of this.lines) button.removeAttribute("aria-current");
    this.showLine(judging.at);
    this.lines[judging.at].line.scrollIntoView({ block: "nearest" });
    byId("judging-query").textContent = visible(judging.query, { limit: 300 }) || "(empty)";
    byId("query-place").textContent = `Query ${number(judging.at + 1)} of ${number(judging.queries.length)}`;
    byId("previous-query").disabled = judging.at === 0;
    byId("next-query").disabled = judging.at + 1 >= judging.queries.length;
    this.cards = new Map(
      judging.pool.map((itemId, place) => {
        const item = judging.items[itemId] ?? { item_id: itemId, title: itemId, fields: {} };
        return [itemId, new PoolCard(item, place, (act, value) => this.act(act, itemId, value))];
      }),
    );
    for (const [itemId, card] of this.cards) {
      card.element.addEventListener("focusin", () => this.select(itemId, { focus: false }));
      this.showItem(itemId);
    }
    byId("pool").replaceChildren(...[...this.cards.values()].map(({ element }) => element));
    byId("pool").dataset.query = judging.query;
    const errors = judging.errors.map((text) => visible(text, { limit: 500 })).join(" ");
    showPoolState(errors || (judging.pool.length ? "" : "No column found an item for this query."));
    const first = this.itemNext ?? judging.pool.find((itemId) => judging.gradeOf(itemId).grade === null) ?? judging.pool[0] ?? null;
    this.current = null;
    if (first !== null) this.select(first, { focus: this.focusNext });
    if (this.focusNext && first === judging.pool[0]) byId("query-place").scrollIntoView({ block: "nearest" });
    this.write();
    if (this.focusNext) announce(`Query ${judging.at + 1}: ${visible(judging.query, { limit: 120 })}, ${plural(judging.pool.length, "item")}`, 0);
  }

  write() {
    const parameters = new URLSearchParams({ at: String(this.judging.at + 1) });
    writeColumns(parameters, this.columns);
    route.replaceSoon("judge", this.judging.book.name, parameters);
  }

  showItem(itemId) {
    const { grade, comment, state } = this.judging.gradeOf(itemId);
    this.cards.get(itemId)?.show(grade, comment, state);
  }

  select(itemId, { focus = true } = {}) {
    if (this.current !== itemId) this.cards.get(this.current)?.current(false);
    this.current = itemId;
    this.cards.get(itemId)?.current(true, { focus });
  }

  act(act, itemId, value) {
    const { judging } = this;
    if (act === "grade") {
      const before = judging.gradeOf(itemId).grade;
      judging.grade(itemId, before === value ? null : value);
      this.select(itemId, { focus: false });
    } else if (act === "comment") judging.comment(itemId, value);
    else if (act === "draft") judging.draft(itemId, value);
    else if (act === "explain") openExplanation({ query: judging.query, item_id: itemId, columns: this.columns }, this.cards.get(itemId).element);
    else if (act === "bad") openReport({ query: judging.query, kind: "wrong item", item: this.cards.get(itemId).item, column: this.columns[0], opener: this.cards.get(itemId).element });
  }

  move(by) {
    const { pool } = this.judging;
    const place = Math.min(Math.max(pool.indexOf(this.current) + by, 0), pool.length - 1);
    if (pool.length) this.select(pool[place]);
  }

  step(by) {
    const at = this.judging.at + by;
    if (at < 0 || at >= this.judging.queries.length) return;
    this.open(at);
  }

  /** Gives a grade to the current item and goes on: to the next item, the first one left out, or the next query. */
  gradeAndGoOn(grade) {
    const { judging } = this;
    if (this.current === null) return;
    judging.grade(this.current, grade);
    announce(`${GRADES[grade]}`, 0);
    const place = judging.pool.indexOf(this.current);
    const left = judging.pool.find((itemId) => judging.gradeOf(itemId).grade === null);
    if (place + 1 < judging.pool.length) this.select(judging.pool[place + 1]);
    else if (left !== undefined) this.select(left);
    else if (judging.at + 1 < judging.queries.length) this.step(1);
    else notice("The last item of the last query is judged.");
  }

  async undo() {
    const { judging } = this;
    const itemId = await attempt("judge", async () => ({ itemId: await judging.undo() }), () => this.undo());
    if (!itemId) return;
    if (itemId.itemId === null) notice("Nothing to undo.");
    else this.select(itemId.itemId);
  }

  async import() {
    const name = this.judging?.book.name;
    const file = byId("import-file").files[0];
    const report = byId("import-report");
    if (!name || !file) {
      report.textContent = "Choose a file first.";
      return;
    }
    if (await attempt("judge", () => importInto(name, byId("import-format").value, file, report), () => this.import())) this.reopen();
  }

  key(event) {
    if (this.element.hidden || !this.judging || this.judging.at < 0 || typing(event) || !keysOn()) return;
    const card = this.cards.get(this.current);
    const reading = Boolean(document.activeElement?.closest("#explain"));
    const actions = {
      j: () => this.move(1),
      k: () => this.move(-1),
      ArrowDown: !reading && (() => this.move(1)),
      ArrowUp: !reading && (() => this.move(-1)),
      n: () => this.step(1),
      p: () => this.step(-1),
      c: card && (() => card.edit()),
      u: () => this.undo(),
      b: card && (() => this.act("bad", this.current)),
      e: card && (() => this.act("explain", this.current)),
    };
    const action = /^[0-3]$/.test(event.key) ? () => this.gradeAndGoOn(Number(event.key)) : actions[event.key];
    if (!action || (event.repeat && /^[0-3u]$/.test(event.key))) return;
    event.preventDefault();
    action();
  }
}
