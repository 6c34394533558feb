// The items to judge for a query, as cards with grades and a comment.

import { fieldParts, GRADES, imageOf } from "./cards.js";
import { byId, el, words } from "./dom.js";
import { visible } from "./text.js";

const STATES = { pending: "not saved yet", refused: "refused by the server" };

/** Items of lists in turns: the best of each, then the second of each; of one that comes again the first stays. */
export function pooled(results, depth) {
  const seen = new Set();
  for (let rank = 0; rank < depth; rank += 1) {
    for (const { items } of results) if (rank < items.length) seen.add(items[rank].item_id);
  }
  return [...seen];
}

/** A card of an item to judge; `act(name, value)` tells of clicks. */
export class PoolCard {
  constructor(item, place, act) {
    this.item = item;
    const image = imageOf(item);
    const short = visible(item.title, { limit: 80 });
    this.grades = GRADES.map((name, grade) =>
      el("button", { type: "button", class: `grade-button grade-${grade}`, data: { grade: String(grade) }, "aria-pressed": "false", on: { click: () => act("grade", grade) } }, el("b", { text: String(grade) }), ` ${name}`),
    );
    this.state = el("span", { class: "state" });
    this.comment = el("textarea", { rows: "2", dir: "auto", data: { act: "comment" }, "aria-label": `Comment on ${short}`, placeholder: "Comment; Enter keeps it" });
    this.commentLine = el("p", { class: "comment-line", hidden: true }, this.comment);
    this.commentText = el("p", { class: "comment", dir: "auto", hidden: true });
    this.comment.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if ((event.key === "Enter" && !event.shiftKey) || event.key === "Escape") {
        event.preventDefault();
        event.stopPropagation();
        this.element.focus();
      }
    });
    this.comment.addEventListener("input", () => act("draft", this.comment.value));
    this.comment.addEventListener("blur", () => {
      this.commentLine.hidden = true;
      act("comment", this.comment.value);
    });
    this.element = el(
      "li",
      { class: "card", tabindex: "-1", data: { itemId: item.item_id, place: String(place) } },
      el("span", { class: "rank", text: String(place + 1) }),
      image ? el("img", { class: "picture", alt: "", loading: "lazy", referrerpolicy: "no-referrer", width: "64", height: "64", src: image }) : null,
      el(
        "div",
        { class: "body" },
        words("h3", item.title || "(no title)", { class: "title" }),
        el("p", { class: "fields" }, words("span", item.item_id, { class: "field id" }, { limit: 60 }), ...fieldParts(item)),
        el("div", { class: "grades", role: "group", "aria-label": `Grade of ${short}` }, ...this.grades, this.state),
        this.commentText,
        this.commentLine,
      ),
      el(
        "div",
        { class: "acts" },
        this.button("explain", "Explain", short, act),
        this.button("comment", "Comment", short, act),
        this.button("bad", "Bad case", short, act),
      ),
    );
    this.element.classList.toggle("pictured", image !== null);
  }

  button(name, text, title, act) {
    return el("button", { type: "button", class: "small", data: { act: name === "comment" ? "open-comment" : name }, "aria-label": `${text}: ${title}`, text, on: { click: () => (name === "comment" ? this.edit() : act(name)) } });
  }

  /** Opens the field of the comment. */
  edit() {
    this.commentLine.hidden = false;
    this.comment.focus();
  }

  /** Shows a grade (null: none), a comment and whether they are saved. */
  show(grade, comment, state) {
    for (const button of this.grades) button.setAttribute("aria-pressed", String(Number(button.dataset.grade) === grade));
    this.element.dataset.grade = grade === null ? "" : String(grade);
    this.element.dataset.saved = state ?? (grade === null ? "" : "yes");
    const text = state ? STATES[state] : comment && grade === null ? "the comment is saved together with a grade" : "";
    if (this.state.textContent !== text) this.state.textContent = text;
    this.commentText.hidden = !comment;
    this.commentText.textContent = visible(comment, { limit: 4000, lines: true });
    if (document.activeElement !== this.comment) this.comment.value = comment;
  }

  current(on, { focus = false } = {}) {
    if (on) this.element.setAttribute("aria-current", "true");
    else this.element.removeAttribute("aria-current");
    if (on && focus) {
      this.element.focus({ preventScroll: true });
      this.element.scrollIntoView({ block: "nearest" });
    }
  }
}

/** Shows the state of the pool in words. */
export function showPoolState(text) {
  byId("pool-state").textContent = text;
}
