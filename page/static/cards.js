// Cards: a list of items, filled anew in place, the first screen first.

import { el, setAttribute, setText } from "./dom.js";
import { LETTERS } from "./columns.js";
import { imagesOn } from "./settings.js";
import { decimal, visible } from "./text.js";

export const GRADES = ["bad", "fair", "good", "perfect"];
const FIRST = 12;
const CHUNK = 60;
const FIELDS = 6;
const PRICE = /price|cost/i;

/** How a rank differs from the anonymous one: symbol, words, kind. */
export function movement(rank, anonymous) {
  if (anonymous === null || anonymous === undefined) return { sign: "new", said: "not in the list without this user", kind: "new" };
  const by = anonymous - rank;
  if (by > 0) return { sign: `\u25b2${by}`, said: `up ${by}, from rank ${anonymous} without this user`, kind: "up" };
  if (by < 0) return { sign: `\u25bc${-by}`, said: `down ${-by}, from rank ${anonymous} without this user`, kind: "down" };
  return { sign: "=", said: "at the same rank without this user", kind: "same" };
}

/** The image of an item where the person lets images load, else null. */
export function imageOf(item) {
  if (!item.image || !imagesOn() || !/^https?:/i.test(item.image)) return null;
  return item.image;
}

/** The fields of an item as small labelled texts, prices first. */
export function fieldParts(item, most = FIELDS) {
  return Object.entries(item.fields)
    .sort(([a], [b]) => Number(PRICE.test(b)) - Number(PRICE.test(a)))
    .slice(0, most)
    .map(([name, value]) =>
      el("span", { class: PRICE.test(name) ? "field price" : "field", data: { field: name } }, el("span", { class: "key", dir: "auto", text: visible(name, { limit: 60 }) }), " ", el("bdi", { text: visible(value, { limit: 120 }) })),
    );
}

function mark(kind, text, said, more = {}) {
  return el("span", { class: `mark ${kind}`, data: more }, el("span", { "aria-hidden": said ? "true" : null, text }), said ? el("span", { class: "quiet", text: said }) : null);
}

/** What stands on a card beside the item: score, sources, movement, grade, ranks in other columns. */
function marksOf(rank, found, user, places) {
  const marks = [mark("score", decimal(found.score), null)];
  if (found.head !== null && found.head !== undefined) marks.push(mark("head", `head ${found.head}`, null));
  for (const source of found.sources) marks.push(mark("source", visible(source, { limit: 40 }), null));
  if (user) {
    const { sign, said, kind } = movement(rank, found.anonymous_rank);
    marks.push(mark(`moved ${kind}`, sign, said, { moved: kind, anonymousRank: String(found.anonymous_rank ?? "") }));
  }
  if (found.grade !== null && found.grade !== undefined) {
    marks.push(mark(`grade grade-${found.grade}`, `${found.grade} ${GRADES[found.grade]}`, null, { grade: String(found.grade) }));
  }
  for (const { column, rank: other } of places) {
    const letter = LETTERS[column];
    marks.push(
      other === null
        ? mark("missing", `not in ${letter}`, null, { missingIn: letter })
        : mark("also", `${letter} ${other}`, `rank ${other} in column ${letter}`, { alsoIn: letter }),
    );
  }
  return marks;
}

function sameItem(a, b) {
  if (!b || a.item_id !== b.item_id || a.title !== b.title || a.image !== b.image) return false;
  const names = Object.keys(a.fields);
  return names.length === Object.keys(b.fields).length && names.every((name) => a.fields[name] === b.fields[name]);
}

/** A card of a list of results. */
class Card {
  constructor() {
    this.rank = el("span", { class: "rank" });
    this.title = el("button", { type: "button", class: "open", dir: "auto", data: { act: "explain" } });
    this.fields = el("p", { class: "fields" });
    this.marks = el("p", { class: "marks" });
    this.history = el("button", { type: "button", class: "small", data: { act: "history" }, text: "+ History" });
    this.bad = el("button", { type: "button", class: "small", data: { act: "bad" }, text: "Bad case" });
    this.image = null;
    this.body = el("div", { class: "body" }, el("h3", { class: "title" }, this.title), this.fields, this.marks, el("div", { class: "acts" }, this.history, this.bad));
    this.element = el("li", { class: "card" }, this.rank, this.body);
    this.item = null;
    this.imageShown = undefined;
    this.state = null;
  }

  show(rank, found, item, context) {
    const element = this.element;
    if (element.dataset.itemId !== found.item_id) element.dataset.itemId = found.item_id;
    setAttribute(element, "data-rank", String(rank));
    setText(this.rank, String(rank));
    const image = imageOf(item);
    if (image !== this.imageShown || !sameItem(item, this.item)) {
      this.item = item;
      this.imageShown = image;
      const title = visible(item.title) || "(no title)";
      setText(this.title, title);
      const short = title.slice(0, 80);
      this.history.setAttribute("aria-label", `Add to history: ${short}`);
      this.bad.setAttribute("aria-label", `Report as a bad case: ${short}`);
      this.fields.replaceChildren(el("span", { class: "field id", dir: "auto", text: visible(item.item_id, { limit: 60 }) }), ...fieldParts(item));
      this.showImage(image);
    }
    const places = context.places(found.item_id);
    const state = [rank, found.score, found.head, found.sources, found.grade, context.user, found.anonymous_rank, ...places.map((place) => place.rank)].join();
    if (state !== this.state) {
      this.state = state;
      this.marks.replaceChildren(...marksOf(rank, found, context.user, places));
      element.classList.toggle("alone", places.some((place) => place.rank === null));
    }
    const linked = context.linked === found.item_id;
    if (element.classList.contains("linked") !== linked) element.classList.toggle("linked", linked);
  }

  showImage(image) {
    this.image?.remove();
    this.image = null;
    this.element.classList.toggle("pictured", image !== null);
    if (image === null) return;
    this.image = el("img", { class: "picture", alt: "", loading: "lazy", decoding: "async", referrerpolicy: "no-referrer", width: "64", height: "64", src: image });
    this.rank.after(this.image);
  }
}

/** An ordered list of cards. */
export class CardList {
  constructor(attributes) {
    this.element = el("ol", { class: "cards", ...attributes });
    this.cards = [];
    this.turn = 0;
  }

  /**
   * Shows the first screen of a list now; the others follow once `more`, which is returned, is called, in turns of their
   * own. `onDone` is called after the last of them.
   */
  show(founds, items, context, onDone = () => {}) {
    const turn = (this.turn += 1);
    this.fill(founds, items, context, 0, FIRST);
    let from = FIRST;
    const more = () => {
      if (turn !== this.turn) return;
      if (from >= founds.length) {
        this.cut(founds.length);
        onDone();
        return;
      }
      this.fill(founds, items, context, from, from + CHUNK);
      from += CHUNK;
      setTimeout(more);
    };
    return { more };
  }

  fill(founds, items, context, from, to) {
    const fresh = [];
    for (let place = from; place < Math.min(to, founds.length); place += 1) {
      let card = this.cards[place];
      if (!card) {
        card = new Card();
        this.cards.push(card);
        fresh.push(card.element);
      }
      const found = founds[place];
      card.show(place + 1, found, items[found.item_id] ?? { item_id: found.item_id, title: found.item_id, fields: {} }, context);
    }
    if (fresh.length) this.element.append(...fresh);
    if (founds.length < to) this.cut(founds.length);
  }

  cut(length) {
    for (const card of this.cards.splice(length)) card.element.remove();
  }
}
