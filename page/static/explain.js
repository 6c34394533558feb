// The panel that tells why an item stands where it stands.

import * as api from "./api.js";
import { fieldParts, imageOf } from "./cards.js";
import { LETTERS, titleOf } from "./columns.js";
import { announce, byId, el, svg, table, words } from "./dom.js";
import { decimal, number, visible } from "./text.js";

const LONGEST_TITLE = 4000;
const panel = () => byId("explain");
let opener = null;
let running = null;

/** Explains an item; the focus comes back to `from` when the panel is closed. */
export async function openExplanation(request, from = null) {
  running?.abort();
  const own = new AbortController();
  running = own;
  if (from) opener = from;
  panel().hidden = false;
  panel().dataset.itemId = request.item_id;
  document.body.classList.add("explaining");
  const body = byId("explain-body");
  body.setAttribute("aria-busy", "true");
  byId("explain-heading").focus();
  try {
    const explanation = await api.explain(request, own.signal);
    if (running !== own) return;
    body.replaceChildren(...parts(explanation, request));
    body.scrollTop = 0;
    announce(`Explained: ${visible(explanation.item.title, { limit: 120 })}`, 0);
  } catch (error) {
    if (running !== own || error.name === "AbortError") return;
    body.replaceChildren(
      el("p", { class: "problem", role: "alert", dir: "auto", text: visible(error.message, { limit: 2000 }) }),
      el("button", { type: "button", text: "Try again", on: { click: () => openExplanation(request) } }),
    );
  }
  body.setAttribute("aria-busy", "false");
}

export function closeExplanation({ focus = true } = {}) {
  if (panel().hidden) return;
  running?.abort();
  running = null;
  panel().hidden = true;
  document.body.classList.remove("explaining");
  byId("explain-body").replaceChildren();
  if (focus && opener?.isConnected) opener.focus();
  opener = null;
}

export function startExplanations() {
  byId("explain-close").addEventListener("click", () => closeExplanation());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) closeExplanation();
  });
}

function parts(explanation, request) {
  const { item, heads, terms, near, log, notes } = explanation;
  return [
    ...itemPart(item, request),
    section("Ranks", "ranks", ranksTable(explanation.ranks, request.columns)),
    ...heads.map((head) => headPart(head, explanation.best_head)),
    terms.length || explanation.lexical_score !== null
      ? section(`BM25 ${explanation.lexical_score === null ? "" : decimal(explanation.lexical_score)}`, "bm25", tokensTable(terms, "BM25 by term"))
      : null,
    near.length ? section("Nearest items", "near", nearList(near, explanation.items, request)) : null,
    log.length ? section("In the log, for this query", "clicks", table({ class: "facts" }, "Events of the log", ["Event", "Count"], log.map(({ event, count }) => [words("span", event), number(count)]))) : null,
    notes.length ? section("Notes", "notes", el("ul", { class: "notes" }, ...notes.map((note) => words("li", note, {}, { limit: 2000 })))) : null,
  ].filter((part) => part !== null);
}

function section(title, name, ...content) {
  return el("section", { data: { part: name } }, el("h3", { text: title }), ...content);
}

function itemPart(item, request) {
  const image = imageOf(item);
  return [
    image ? el("img", { class: "large", alt: "", src: image, referrerpolicy: "no-referrer" }) : null,
    words("p", item.title, { class: "item-title" }, { limit: LONGEST_TITLE }),
    el("p", { class: "fields" }, words("span", item.item_id, { class: "field id" }, { limit: 200 }), ...fieldParts(item, 40)),
    el("p", { class: "asked" }, "Query: ", words("bdi", request.query, {}, { limit: 200 })),
  ].filter((part) => part !== null);
}

function ranksTable(ranks, columns) {
  const rows = ranks.map((rank, index) => [
    el("span", {}, el("b", { text: LETTERS[index] ?? "" }), " ", words("bdi", columns[index] ? titleOf(columns[index]) : "", {}, { limit: 100 })),
    rank === null ? "not among the best 1,000" : number(rank),
  ]);
  return table({ class: "facts" }, "Rank in every column", ["Column", "Rank"], rows);
}

function headPart({ head, score, tokens, method }, best) {
  const title = `Head ${head}: ${decimal(score)}${head === best ? ", the best" : ""}`;
  return section(title, "head", el("p", { class: "method", text: `Parts of the dense score: ${visible(method)}` }), tokensTable(tokens, `Parts of the score of head ${head}`));
}

/** Tokens with their parts: a bar to the left of the middle takes away, one to the right adds. */
function tokensTable(tokens, caption) {
  const largest = Math.max(...tokens.map(({ value }) => Math.abs(value)), 1e-9);
  const rows = tokens.map(({ token, kind, matched, value }) =>
    el(
      "tr",
      { class: matched ? "matched" : null, data: { token: visible(token, { limit: 100 }), kind } },
      el("th", { scope: "row" }, words("bdi", token || "(empty)", {}, { limit: 100 }), matched ? el("span", { class: "quiet", text: " (in the item's text)" }) : null),
      el("td", { class: "kind", text: visible(kind, { limit: 40 }) }),
      el("td", { class: "bar-cell" }, bar(value / largest)),
      el("td", { class: "value", text: decimal(value, 3, true) }),
    ),
  );
  return table({ class: "tokens" }, caption, ["Token", "Kind", "Part", "Value"], rows);
}

function bar(share) {
  const width = Math.max(Math.abs(share) * 49, 0.5);
  const box = { y: "1", height: "8", width: width.toFixed(2), x: (share < 0 ? 50 - width : 50).toFixed(2), class: share < 0 ? "less" : "more" };
  return svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", class: "bar", "aria-hidden": "true" }, svg("rect", box), svg("line", { x1: "50", x2: "50", y1: "0", y2: "10", class: "zero" }));
}

function nearList(near, items, request) {
  return el(
    "ol",
    { class: "near" },
    ...near.map(({ item_id: itemId, score }) =>
      el(
        "li",
        { data: { itemId } },
        words("button", items[itemId]?.title ?? itemId, { type: "button", class: "open", on: { click: () => openExplanation({ ...request, item_id: itemId }) } }, { limit: 160 }),
        el("span", { class: "value", text: decimal(score) }),
      ),
    ),
  );
}
