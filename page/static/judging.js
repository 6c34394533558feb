// Judging a book: which query, which items, which grades, and the way back.

import * as api from "./api.js";
import { columnText, offered } from "./columns.js";
import { outbox, send, stateOf, waiting } from "./outbox.js";
import { pooled } from "./pool.js";
import { storage } from "./settings.js";
import { wellFormed } from "./text.js";

const DRAFT = "dpsr.comment:";

/** A book before one judge. Fires `query`, `item` (detail: item id), `grades` and `progress`. */
export class Judging extends EventTarget {
  constructor(book, judge, columns, depth) {
    super();
    this.book = book;
    this.judge = judge;
    this.columns = columns;
    this.depth = depth;
    this.queries = book.queries.map(({ query, judged }) => ({ query, judged: judged[judge] ?? 0 }));
    this.at = -1;
    this.pool = [];
    this.items = {};
    this.mine = new Map();
    this.undone = [];
    this.ahead = new Map();
    this.saved = (event) => {
      const { book: name, judge: by, query, item_id: itemId } = event.detail;
      if (name === this.book.name && by === this.judge && query === this.query) this.tell("item", itemId);
      this.tell("saved");
    };
    this.waited = () => this.pool.forEach((itemId) => this.tell("item", itemId));
    outbox.addEventListener("saved", this.saved);
    outbox.addEventListener("change", this.waited);
  }

  end() {
    outbox.removeEventListener("saved", this.saved);
    outbox.removeEventListener("change", this.waited);
  }

  tell(name, detail = null) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  get query() {
    return this.queries[this.at]?.query ?? null;
  }

  pair(itemId, query = this.query) {
    return { book: this.book.name, judge: this.judge, query, item_id: itemId };
  }

  /** The items of a query and the judge's grades of them. */
  load(at) {
    const { query } = this.queries[at];
    const key = JSON.stringify([query, this.depth, this.columns.map(columnText)]);
    let loading = this.ahead.get(key);
    if (!loading) {
      loading = api.search({ query, columns: this.columns, count: this.depth }, this.judge);
      this.ahead.set(key, loading);
      // What failed is asked for again the next time.
      loading.then(
        ({ results }) => results.some(({ error }) => error) && this.ahead.delete(key),
        () => this.ahead.delete(key),
      );
      if (this.ahead.size > 20) this.ahead.delete(this.ahead.keys().next().value);
    }
    return loading;
  }

  /** Goes to a query; throws what the server says. */
  async open(at) {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const { query } = this.queries[at];
    const [answer, judgements] = await Promise.all([this.load(at), api.judgements(this.book.name, { judge: this.judge, query })]);
    if (turn !== this.turn) return;
    this.at = at;
    this.items = answer.items;
    this.errors = answer.results.filter(({ error }) => error).map(({ title, error }) => `${title}: ${error}`);
    this.mine = new Map(judgements.map(({ item_id: itemId, grade, comment }) => [itemId, { grade, comment }]));
    for (const each of waiting(this.book.name, this.judge)) {
      if (each.query === query) this.mine.set(each.item_id, { grade: each.grade, comment: each.comment });
    }
    this.pool = pooled(answer.results, this.depth);
    this.count();
    this.tell("query");
    if (at + 1 < this.queries.length) this.load(at + 1).catch(() => {});
  }

  count() {
    this.queries[this.at].judged = [...this.mine.values()].filter(({ grade }) => grade !== null).length;
    this.tell("progress");
  }

  gradeOf(itemId) {
    const own = this.mine.get(itemId);
    return {
      grade: own?.grade ?? null,
      comment: storage.get(this.draftKey(itemId)) ?? own?.comment ?? "",
      state: stateOf(this.pair(itemId)),
    };
  }

  draftKey(itemId) {
    return DRAFT + JSON.stringify(Object.values(this.pair(itemId)));
  }

  /** Keeps a comment in this browser: while it is typed, and while its item has no grade to be saved with. */
  draft(itemId, text) {
    if (text || this.mine.get(itemId)?.comment) storage.set(this.draftKey(itemId), text);
    else storage.remove(this.draftKey(itemId));
  }

  keep(itemId, grade, comment) {
    if (grade === null && comment) this.draft(itemId, comment);
    else storage.remove(this.draftKey(itemId));
    this.mine.set(itemId, { grade, comment });
    send({ ...this.pair(itemId), grade, comment: grade === null ? "" : comment });
    this.count();
    this.tell("item", itemId);
  }

  grade(itemId, grade) {
    const { grade: before, comment } = this.gradeOf(itemId);
    this.undone.push({ at: this.at, itemId, grade: before, comment });
    this.keep(itemId, grade, comment);
  }

  comment(itemId, typed) {
    const text = wellFormed(typed);
    const own = this.mine.get(itemId);
    if ((own?.grade ?? null) === null) {
      this.draft(itemId, text);
      this.tell("item", itemId);
    } else if (text === own.comment) {
      storage.remove(this.draftKey(itemId));
    } else {
      this.undone.push({ at: this.at, itemId, grade: own.grade, comment: own.comment });
      this.keep(itemId, own.grade, text);
    }
  }

  /** Takes the last change back; returns its item, or null where there is none. */
  async undo() {
    const last = this.undone.pop();
    if (!last) return null;
    if (last.at !== this.at) await this.open(last.at);
    this.keep(last.itemId, last.grade, last.comment);
    return last.itemId;
  }

  /** The first query that this judge has not begun. */
  firstOpen() {
    const place = this.queries.findIndex(({ judged }) => judged === 0);
    return place < 0 ? 0 : place;
  }
}

/** Columns whose figures are shown before anyone chose: those that need no training. */
export const defaultFigures = () => offered.columns.filter((column) => column.kind !== "baseline").slice(0, 6);
