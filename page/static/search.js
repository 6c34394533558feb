// The view in which people search and compare.

import * as api from "./api.js";
import { MOST, columnText, columnsOf, offered, writeColumns } from "./columns.js";
import { openReport } from "./bad_case.js";
import { byId, el, typing, words } from "./dom.js";
import { closeExplanation, openExplanation } from "./explain.js";
import { Facets } from "./facets.js";
import { hideError, showError } from "./problems.js";
import { Results } from "./results.js";
import * as route from "./route.js";
import { judgeName, keysOn, settings } from "./settings.js";
import { wellFormed } from "./text.js";
import { UserPicker } from "./user.js";

const PAUSE = 30;
const LONGEST_QUERY = 10000;

export class SearchView {
  constructor() {
    this.element = byId("view-search");
    this.query = byId("query");
    this.count = byId("count");
    this.results = new Results({
      onChange: (index, column) => this.setColumns(this.columns.map((each, place) => (place === index ? column : each))),
      onRemove: (index) => {
        this.setColumns(this.columns.filter((_, place) => place !== index));
        byId("column-0").focus();
      },
      onRetry: () => this.search(),
      onAct: (act, itemId, index) => this.act(act, itemId, index),
    });
    this.facets = new Facets(() => this.changed());
    this.picker = new UserPicker(() => this.changed());
    this.columns = [];
    this.running = null;
    this.lastInput = -Infinity;
    this.listen();
  }

  listen() {
    this.query.addEventListener("input", (event) => {
      if (!event.isComposing) this.typed(event.timeStamp);
    });
    this.query.addEventListener("compositionend", (event) => this.typed(event.timeStamp));
    byId("search-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.search(event.timeStamp);
      route.push("search", null, this.parameters());
    });
    this.count.addEventListener("change", () => this.changed());
    byId("add-column").addEventListener("click", () => {
      const used = new Set(this.columns.map(columnText));
      this.setColumns([...this.columns, offered.columns.find((each) => !used.has(columnText(each))) ?? offered.columns[0]].slice(0, MOST));
      byId(`column-${this.columns.length - 1}`).focus();
    });
    byId("report-missing").addEventListener("click", () =>
      openReport({ query: this.query.value, kind: "missing item", column: this.columns[0], opener: byId("report-missing") }),
    );
    document.addEventListener("keydown", (event) => this.key(event));
    settings.addEventListener("change", ({ detail }) => {
      if (!this.element.hidden && detail !== "keys") this.search();
    });
  }

  start(shop) {
    this.facets.start(shop.filters);
    this.picker.start(shop);
    byId("examples").replaceChildren(
      ...shop.queries.slice(0, 12).map((query) =>
        el("li", {}, words("button", query, { type: "button", class: "example", on: { click: () => this.example(query) } })),
      ),
    );
  }

  example(query) {
    this.query.value = query;
    this.query.focus();
    this.search();
    route.push("search", null, this.parameters());
  }

  /** Takes over what an address says. */
  enter(_, parameters) {
    byId("nav-search").href = "#search";
    const query = parameters.get("q") ?? "";
    if (this.query.value !== query) this.query.value = query;
    const count = parameters.get("n") ?? "50";
    this.count.value = [...this.count.options].some((option) => option.value === count) ? count : "50";
    this.facets.read(parameters);
    this.picker.read(parameters);
    const columns = columnsOf(parameters);
    this.columns = columns.length ? columns : [offered.columns[0]];
    this.results.setColumns(this.columns);
    this.search();
    if (!query) this.query.focus();
    return "Search";
  }

  leave() {
    this.running?.abort();
    clearTimeout(this.timer);
    closeExplanation({ focus: false });
    byId("nav-search").href = route.address("search", null, this.parameters());
  }

  /** The state of the view as an address has it. */
  parameters() {
    const parameters = new URLSearchParams();
    if (this.query.value) parameters.set("q", wellFormed(this.query.value).slice(0, LONGEST_QUERY));
    writeColumns(parameters, this.columns);
    if (this.count.value !== "50") parameters.set("n", this.count.value);
    this.facets.write(parameters);
    this.picker.write(parameters);
    return parameters;
  }

  /** A key changed the query: the first one asks at once, those that follow within 30 ms wait for a pause. */
  typed(at) {
    const pause = at - this.lastInput;
    this.lastInput = at;
    clearTimeout(this.timer);
    if (pause > PAUSE) this.search(at);
    else this.timer = setTimeout(() => this.search(at), PAUSE);
  }

  changed() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.search(), PAUSE);
  }

  setColumns(columns) {
    this.columns = columns;
    this.results.setColumns(columns);
    this.changed();
  }

  request() {
    const user = this.picker.user();
    const request = { query: wellFormed(this.query.value), columns: this.columns, count: Number(this.count.value), filters: this.facets.chosen };
    if (user) request.user = user;
    return request;
  }

  /** Asks for the results of the present state; `from` is the time of the input event. */
  async search(from = performance.now()) {
    clearTimeout(this.timer);
    this.running?.abort();
    route.replaceSoon("search", null, this.parameters());
    const request = this.request();
    const empty = request.query.trim() === "";
    byId("examples-line").hidden = !empty;
    byId("report-missing").hidden = empty;
    if (empty) {
      this.running = null;
      this.results.clear();
      this.facets.show({});
      hideError("search");
      return;
    }
    if (request.query.length > LONGEST_QUERY && [...request.query].length > LONGEST_QUERY) {
      this.running = null;
      this.results.outdated();
      showError("search", `The query has ${request.query.length.toLocaleString("en")} characters; at most 10,000 can be searched. Shorten it.`);
      return;
    }
    const running = new AbortController();
    this.running = running;
    let answer;
    try {
      answer = await api.search(request, judgeName(), running.signal);
    } catch (error) {
      if (running !== this.running || error.name === "AbortError") return;
      this.results.outdated();
      showError("search", error.message, () => this.search());
      return;
    }
    if (running !== this.running) return;
    hideError("search");
    this.results.show(answer, { query: request.query, user: Boolean(request.user), count: request.count }, () => {
      performance.measure("search", { start: from, end: performance.now(), detail: request.query.slice(0, 200) });
      if (running === this.running) this.facets.show(answer.facets);
    });
  }

  act(act, itemId, index) {
    const item = this.results.answer?.items[itemId];
    const column = this.columns[index];
    const request = this.request();
    const opener = this.results.shown[index].list.element.querySelector(`[data-item-id="${CSS.escape(itemId)}"] [data-act="${act}"]`);
    if (act === "history") this.picker.add(itemId, item?.title);
    else if (act === "bad") openReport({ query: request.query, kind: "wrong item", item: item ?? { item_id: itemId, title: itemId, fields: {} }, column, opener });
    else openExplanation({ query: request.query, item_id: itemId, columns: this.columns, user: request.user }, opener);
  }

  key(event) {
    if (this.element.hidden || typing(event) || !keysOn()) return;
    const card = this.results.focusedCard();
    const act = (name) => card && this.act(name, card.dataset.itemId, Number(card.parentElement.dataset.column));
    const actions = {
      "/": () => this.query.select(),
      j: () => this.results.move(1, 0),
      k: () => this.results.move(-1, 0),
      l: () => this.results.move(0, 1),
      i: () => this.results.move(0, -1),
      ArrowDown: card && (() => this.results.move(1, 0)),
      ArrowUp: card && (() => this.results.move(-1, 0)),
      ArrowRight: card && (() => this.results.move(0, 1)),
      ArrowLeft: card && (() => this.results.move(0, -1)),
      b: card && (() => act("bad")),
      e: card && (() => act("explain")),
      h: card && (() => act("history")),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}
