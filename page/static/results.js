// One to three columns of results side by side, items linked across them.

import { CardList } from "./cards.js";
import { ColumnHead, LETTERS, offered } from "./columns.js";
import { afterPaint, announce, byId, el, setText } from "./dom.js";
import { MEASURES, decimal, number, plural, visible } from "./text.js";


class ResultColumn {
  constructor(index, listeners) {
    this.head = new ColumnHead(index, listeners);
    this.meta = el("p", { class: "meta" });
    this.error = el("p", { class: "problem", role: "alert", hidden: true, dir: "auto" });
    this.again = el("button", { type: "button", class: "again small", text: "Search again", hidden: true, on: { click: () => listeners.onRetry() } });
    this.list = new CardList({ id: `cards-${index}`, data: { column: String(index) } });
    this.heading = el("h2", { class: "quiet" });
    this.list.element.setAttribute("aria-label", `Results of column ${LETTERS[index]}`);
    this.element = el("section", { class: "column", id: `results-${index}`, data: { column: String(index) } }, this.heading, this.head.element, this.head.fusion, this.meta, this.error, this.again, this.list.element);
  }
}

/** The columns below the query. `onAct(act, itemId, index)` tells of a click on a card. */
export class Results {
  constructor({ onChange, onRemove, onRetry, onAct }) {
    this.listeners = { onChange, onRemove, onRetry };
    this.container = byId("columns");
    this.shown = [];
    this.chosen = [];
    this.answer = null;
    this.linked = null;
    this.container.addEventListener("click", (event) => {
      const button = event.target.closest("[data-act]");
      if (!button) return;
      const card = button.closest(".card");
      onAct(button.dataset.act, card.dataset.itemId, Number(card.parentElement.dataset.column));
    });
    const link = (event) => this.link(event.target.closest?.(".card")?.dataset.itemId ?? null);
    this.container.addEventListener("pointerover", link);
    this.container.addEventListener("focusin", link);
    this.container.addEventListener("pointerleave", () => this.link(null));
  }

  /** Shows the heads of columns. */
  setColumns(columns) {
    this.chosen = columns;
    while (this.shown.length > columns.length) this.shown.pop().element.remove();
    while (this.shown.length < columns.length) {
      const column = new ResultColumn(this.shown.length, this.listeners);
      this.shown.push(column);
      this.container.append(column.element);
    }
    this.container.dataset.count = String(columns.length);
    columns.forEach((column, index) => this.shown[index].head.show(column, columns.length === 1));
    byId("add-column").hidden = columns.length >= 3 || offered.columns.length < 1;
  }

  /** Marks an item in all columns. */
  link(itemId) {
    if (this.linked === itemId) return;
    this.linked = itemId;
    if (this.context) this.context.linked = this.shown.length > 1 ? itemId : null;
    for (const card of this.container.querySelectorAll(".card.linked")) card.classList.remove("linked");
    if (itemId === null || this.shown.length < 2) return;
    for (const card of this.container.querySelectorAll(`.card[data-item-id="${CSS.escape(itemId)}"]`)) card.classList.add("linked");
  }

  /** Shows an answer; `onPainted` is called when its first screen is on the screen. */
  show(answer, { query, user, count }, onPainted) {
    this.answer = answer;
    this.container.setAttribute("aria-busy", "true");
    this.container.dataset.query = query;
    const ranks = answer.results.map((result) => new Map(result.items.map((found, index) => [found.item_id, index + 1])));
    this.context = { user, linked: this.shown.length > 1 ? this.linked : null };
    const turns = [];
    let left = answer.results.length;
    const done = () => {
      left -= 1;
      if (left === 0) this.container.setAttribute("aria-busy", "false");
    };
    answer.results.forEach((result, index) => {
      const column = this.shown[index];
      if (!column) return;
      const others = answer.results.map((other, place) => place).filter((place) => place !== index && !answer.results[place].error);
      const context = Object.assign(Object.create(this.context), {
        places: (itemId) => others.map((place) => ({ column: place, rank: ranks[place].get(itemId) ?? null })),
      });
      turns.push(column.list.show(result.items, answer.items, context, done));
      this.showHead(column, result, index);
    });
    this.showAgreement(answer);
    this.showCount(answer, count);
    afterPaint(() => {
      onPainted();
      for (const { more } of turns) more();
    });
  }

  showHead(column, result, index) {
    setText(column.heading, `Column ${LETTERS[index]}: ${visible(result.title, { limit: 120 })}`);
    column.error.hidden = !result.error;
    column.again.hidden = !result.error;
    setText(column.error, result.error ? visible(result.error, { limit: 2000 }) : "");
    const parts = [`${decimal(result.milliseconds, 1)} ms`];
    if (this.shown.length > 1) parts.unshift(plural(result.items.length, "item"));
    if (result.version !== null && result.version !== undefined) parts.push(`version ${result.version}`);
    for (const [name, title] of Object.entries(MEASURES)) if (name in result.figures) parts.push(`${title} ${decimal(result.figures[name], 2)}`);
    setText(column.meta, parts.join(" \u00b7 "));
  }

  showAgreement({ agreement }) {
    const line = byId("agreement");
    line.hidden = agreement.length === 0;
    line.replaceChildren(
      ...agreement.map(({ columns, overlap_10: overlap, rank_biased_overlap: biased }) => {
        const pair = columns.map((place) => LETTERS[place]);
        return el("span", { class: "pair", data: { pair: pair.join("") } }, el("b", { text: pair.join(" / ") }), ` overlap@10 ${number(Math.round(overlap * 100))} % \u00b7 RBO ${decimal(biased, 2)}`);
      }),
    );
  }

  showCount(answer, asked) {
    const [first] = answer.results;
    const found = first ? first.items.length : 0;
    const text = first?.error ? "No answer" : found === 0 ? "No items found" : found >= asked ? `The best ${plural(found, "item")}` : plural(found, "item");
    setText(byId("result-count"), text);
    const columns = answer.results.length > 1 ? ` in the first of ${answer.results.length} columns` : "";
    announce(`${text}${columns}${first?.items.length ? `. First: ${visible(answer.items[first.items[0].item_id]?.title ?? "", { limit: 80 })}` : ""}`, 700);
  }

  /** Says that the results in sight are of another query than the one in the field. */
  outdated() {
    if (this.answer) setText(byId("result-count"), "These are the results of the query before.");
  }

  clear() {
    this.answer = null;
    for (const column of this.shown) {
      column.list.show([], {}, { user: null, places: () => [] });
      column.meta.textContent = "";
      column.error.hidden = true;
      column.again.hidden = true;
    }
    byId("agreement").hidden = true;
    byId("result-count").textContent = "";
    this.container.dataset.query = "";
    this.container.setAttribute("aria-busy", "false");
  }

  /** The card that has the focus, or whose part has it. */
  focusedCard() {
    return document.activeElement?.closest?.("#columns .card") ?? null;
  }

  /** Moves the focus from card to card, and across columns. */
  move(down, across) {
    const card = this.focusedCard();
    const list = card?.parentElement ?? this.shown[0]?.list.element;
    if (!list) return;
    let target;
    if (!card) target = list.firstElementChild;
    else if (across) {
      const column = this.shown[Number(list.dataset.column) + across]?.list.element;
      const place = [...list.children].indexOf(card);
      target = column && ([...column.children].find((each) => each.dataset.itemId === card.dataset.itemId) ?? column.children[Math.min(place, column.children.length - 1)]);
    } else target = down > 0 ? card.nextElementSibling : card.previousElementSibling;
    const button = target?.querySelector(".open");
    button?.focus({ preventScroll: true });
    target?.scrollIntoView({ block: "nearest" });
  }
}
