// The list of books, and the form of a new one.

import * as api from "./api.js";
import { columnBoxes, offered } from "./columns.js";
import { byId, el, table, words } from "./dom.js";
import { attempt, notice } from "./problems.js";
import * as route from "./route.js";
import { askJudge, judgeName } from "./settings.js";
import { number, plural, time, visible, wellFormed } from "./text.js";

export const FORMATS = { qrels: "TREC qrels", csv: "CSV (Quepid)", workbench: "JSON (Search Relevance Workbench)", labels: "Parquet (labels)" };
const MOST_QUERIES = 10000;

let compared = [];

/** Links that download the judgements of a book. */
export function exportLinks(name) {
  return el(
    "ul",
    { class: "links" },
    ...Object.entries(FORMATS).map(([format, title]) =>
      el("li", {}, el("a", { href: api.exportAddress(name, format), download: "", data: { export: format }, text: title })),
    ),
  );
}

export async function showBooks() {
  const books = await attempt("judge", api.books, showBooks);
  if (!Array.isArray(books)) return;
  byId("books-empty").hidden = books.length > 0;
  byId("books").replaceChildren(books.length ? booksTable(books) : "");
}

function booksTable(books) {
  const judge = judgeName();
  return table(
    { id: "books-table", class: "list" },
    "Books of queries",
    ["Book", "Queries", "Your progress", "All judgements", "Made", ""],
    books.map((book) => {
      const mine = book.queries.filter((query) => query.judged[judge]).length;
      const all = book.queries.reduce((sum, query) => sum + Object.values(query.judged).reduce((a, b) => a + b, 0), 0);
      const name = visible(book.name, { limit: 120 });
      return el(
        "tr",
        { data: { book: book.name } },
        el("th", { scope: "row" }, words("a", book.name, { href: route.address("judge", book.name) }, { limit: 120 })),
        el("td", { class: "value", text: number(book.queries.length) }),
        el("td", {}, el("progress", { max: String(Math.max(book.queries.length, 1)), value: String(mine), "aria-label": `Your progress in ${name}` }), ` ${number(mine)}`),
        el("td", { class: "value", text: number(all) }),
        el("td", { class: "time", text: book.created_at ? time(book.created_at) : "" }),
        el("td", {}, el("button", { type: "button", class: "small", data: { act: "remove-book" }, "aria-label": `Remove the book ${name}`, text: "Remove", on: { click: () => removeBook(book) } })),
      );
    }),
  );
}

async function removeBook(book) {
  const { name, queries } = book;
  const judged = queries.reduce((sum, query) => sum + Object.values(query.judged).reduce((a, b) => a + b, 0), 0);
  if (!(await confirmed(`Remove the book \u201c${visible(name, { limit: 120 })}\u201d with ${plural(queries.length, "query", "queries")} and ${plural(judged, "judgement")}? This cannot be undone.`))) return;
  if (await attempt("judge", () => api.removeBook(name), () => removeBook(book))) {
    notice(`Book removed: ${name}`);
    await showBooks();
  }
}

/** Asks before something that cannot be undone. */
export function confirmed(text) {
  const dialog = byId("confirm-dialog");
  byId("confirm-text").textContent = text;
  dialog.returnValue = "";
  dialog.showModal();
  byId("confirm-no").focus();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

const source = () => document.querySelector('input[name="book-source"]:checked').value;

function showSource() {
  for (const part of document.querySelectorAll("[data-source-part]")) {
    part.hidden = part.dataset.sourcePart !== source();
    // A field out of sight takes no part in the form's checks.
    for (const field of part.querySelectorAll("input, select, textarea")) field.disabled = part.hidden;
  }
}

function showCompared() {
  if (!compared.length) compared = offered.columns.slice(0, 2);
  byId("new-book-columns").replaceChildren(columnBoxes("book-columns", { compare: { title: "Compare", most: 2, chosen: compared } }, (_, chosen) => (compared = chosen)));
  byId("new-book-columns").hidden = byId("new-book-sample").value !== "disagreement";
}

/** Lines of the text, without empty ones and repeats. */
export function queriesOf(text) {
  return [...new Set(wellFormed(text).split(/\r\n|\r|\n/).map((line) => line.trim()).filter((line) => line !== ""))];
}

function newBook() {
  const name = wellFormed(byId("new-book-name").value.trim());
  if (source() === "queries") {
    const queries = queriesOf(byId("new-book-queries").value);
    if (!queries.length) throw new Error("Paste queries first, one on each line.");
    if (queries.length > MOST_QUERIES) throw new Error(`${number(queries.length)} queries; a book holds at most ${number(MOST_QUERIES)}. Make two books.`);
    return { name, queries };
  }
  if (source() === "file") return { name };
  const sample = byId("new-book-sample").value;
  const book = { name, sample, count: byId("new-book-count").valueAsNumber, seed: byId("new-book-seed").valueAsNumber };
  if (sample === "disagreement") {
    if (compared.length !== 2) throw new Error("Choose two columns whose results are compared.");
    book.columns = compared;
  }
  return book;
}

function showFormError(text) {
  byId("new-book-error").textContent = visible(text, { limit: 4000 });
  byId("new-book-error").hidden = !text;
}

/** Imports a file into a book, and says what came of it. */
export async function importInto(name, format, file, report) {
  const judge = await askJudge();
  if (!judge) return false;
  const { imported, rejected } = await api.importFile(name, format, judge, file);
  report.replaceChildren(
    el("p", { text: `${plural(imported, "judgement")} imported${rejected.length ? `, ${plural(rejected.length, "line")} rejected:` : "."}` }),
    ...(rejected.length ? [el("ul", {}, ...rejected.slice(0, 50).map((text) => words("li", text)))] : []),
  );
  return true;
}

async function create() {
  const button = byId("new-book-create");
  button.disabled = true;
  showFormError("");
  byId("new-book-report").replaceChildren();
  try {
    const book = newBook();
    const file = byId("new-book-file").files[0];
    if (source() === "file") {
      if (!file) throw new Error("Choose a file first.");
      if (!(await askJudge())) return;
    }
    const made = await api.addBook(book);
    if (source() === "file" && !(await importFirst(made.name, file))) return;
    byId("new-book").reset();
    showSource();
    if (source() === "file" || made.queries.length === 0) await showBooks();
    else route.go("judge", made.name);
  } catch (error) {
    showFormError(error.message);
  } finally {
    button.disabled = false;
  }
}

/** A book that its file could not fill goes again, so that the next try may have its name. */
async function importFirst(name, file) {
  try {
    await importInto(name, byId("new-book-format").value, file, byId("new-book-report"));
  } catch (error) {
    await api.removeBook(name).catch(() => {});
    throw error;
  }
  await showBooks();
  return true;
}

export function startBooks() {
  byId("new-book-format").replaceChildren(...Object.entries(FORMATS).map(([value, text]) => el("option", { value, text })));
  byId("import-format").replaceChildren(...Object.entries(FORMATS).map(([value, text]) => el("option", { value, text })));
  for (const radio of document.querySelectorAll('input[name="book-source"]')) radio.addEventListener("change", showSource);
  byId("new-book-sample").addEventListener("change", showCompared);
  byId("new-book").addEventListener("submit", (event) => {
    event.preventDefault();
    create();
  });
  for (const [id, answer] of [["confirm-yes", "yes"], ["confirm-no", ""]]) {
    byId(id).addEventListener("click", () => byId("confirm-dialog").close(answer));
  }
  showSource();
}

export function startBookColumns() {
  showCompared();
}
