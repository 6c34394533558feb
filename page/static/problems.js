// Errors as text, above the view, with what to do.

import { byId, el, words } from "./dom.js";
import { plural, visible } from "./text.js";

const line = () => byId("error");

/** Shows an error of a `source`; `again` is offered as a button. */
export function showError(source, text, again = null) {
  const shown = visible(text, { limit: 4000 });
  line().dataset.source = source;
  line().replaceChildren(el("span", { dir: "auto", id: "error-text", text: shown }));
  if (again) {
    line().append(
      " ",
      el("button", {
        type: "button",
        id: "try-again",
        text: "Try again",
        on: {
          click: () => {
            hideError(source);
            again();
          },
        },
      }),
    );
  }
  line().append(el("button", { type: "button", class: "icon", "aria-label": "Close this message", text: "\u00d7", on: { click: () => hideError(source) } }));
  line().hidden = false;
}

/** Hides the error of a source. */
export function hideError(source) {
  if (line().hidden || line().dataset.source !== source) return;
  line().hidden = true;
  line().replaceChildren();
}

/** Runs an action; after an error, which is shown and `again` offered, returns null. */
export async function attempt(source, action, again) {
  try {
    const result = await action();
    hideError(source);
    return result ?? true;
  } catch (error) {
    if (error.name === "AbortError") return null;
    showError(source, error.message, again);
    return null;
  }
}

const REFUSED_SHOWN = 5;

/** A line that names the queries which the servers of columns, if some are named, took for too long. */
export function refusedQueries(queries, columns = []) {
  const named = queries.slice(0, REFUSED_SHOWN).flatMap((query) => [" ", words("q", query, {}, { limit: 80 })]);
  return el(
    "p",
    { class: "hint", data: { refused: String(queries.length) } },
    ...columns.flatMap((column, index) => [index ? ", " : "", words("bdi", column, {}, { limit: 100 })]),
    `${columns.length ? ": " : ""}${plural(queries.length, "query is", "queries are")} longer than the server takes and without results:`,
    ...named,
    queries.length > REFUSED_SHOWN ? " \u2026" : null,
  );
}

/** Says that something was done, for a few seconds. */
export function notice(text) {
  const note = byId("notice");
  note.textContent = visible(text);
  note.hidden = false;
  clearTimeout(notice.timer);
  notice.timer = setTimeout(() => {
    note.hidden = true;
    note.textContent = "";
  }, 5000);
}
