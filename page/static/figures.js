// How columns do on a book, as far as it is judged.

import * as api from "./api.js";
import { byId, el, table, words } from "./dom.js";
import { refusedQueries } from "./problems.js";
import { MEASURES, decimal, number, plural, visible } from "./text.js";

const PAUSE = 400;

/** The figures of a book; they are asked for anew a moment after the last change. */
export class Figures {
  constructor() {
    this.wanted = null;
    this.running = false;
  }

  /** Asks for the figures; a request that runs is followed by one more. */
  refresh(book, columns, count, { at = PAUSE } = {}) {
    this.wanted = { book, columns, count };
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), at);
  }

  forget() {
    clearTimeout(this.timer);
    this.wanted = null;
    byId("figures").replaceChildren();
    byId("agreement-figures").textContent = "";
  }

  async ask() {
    if (this.running || !this.wanted) return;
    const { book, columns, count } = this.wanted;
    const asked = this.wanted;
    this.running = true;
    byId("figures").setAttribute("aria-busy", "true");
    try {
      const report = await api.report(book, columns, count);
      if (this.wanted?.book === book) this.show(report);
    } catch (error) {
      if (this.wanted?.book === book) byId("figures").replaceChildren(el("p", { class: "problem", dir: "auto", text: visible(error.message, { limit: 1000 }) }));
    }
    this.running = false;
    byId("figures").setAttribute("aria-busy", "false");
    if (this.wanted && this.wanted !== asked) this.ask();
  }

  show({ figures, alpha, pairs, judges }) {
    const measures = [...new Set(figures.flatMap(({ values }) => Object.keys(values)))];
    byId("figures").replaceChildren(
      figures.length
        ? table(
            { id: "figures-table", class: "figures" },
            "Mean over the judged queries with its 95 % interval",
            ["Column", ...measures.map((measure) => words("span", MEASURES[measure] ?? measure))],
            figures.map(({ title, queries, values }) =>
              el(
                "tr",
                { data: { title } },
                el("th", { scope: "row" }, words("bdi", title, {}, { limit: 100 }), el("span", { class: "interval", text: plural(queries, "query", "queries") })),
                ...measures.map((measure) => {
                  const value = values[measure];
                  return value
                    ? el("td", { class: "value", data: { measure } }, el("b", { text: decimal(value[0]) }), el("span", { class: "interval", text: `${decimal(value[1], 2)}\u2013${decimal(value[2], 2)}` }))
                    : el("td", { text: "\u2013" });
                }),
              ),
            ),
          )
        : el("p", { class: "hint", text: "No judgements yet." }),
      ...refusals(figures),
    );
    const parts = [plural(pairs, "judged pair"), ...Object.entries(judges).map(([judge, count]) => `${visible(judge, { limit: 60 })} ${number(count)}`)];
    parts.push(alpha === null ? "Krippendorff\u2019s alpha needs two judges of the same pair" : `Krippendorff\u2019s alpha ${decimal(alpha)}`);
    const line = byId("agreement-figures");
    line.dataset.alpha = alpha === null ? "" : String(alpha);
    line.textContent = parts.join(" \u00b7 ");
  }
}

/** Lines about queries that servers refused; columns with the same ones share a line. */
function refusals(figures) {
  const lines = new Map();
  for (const { title, refused } of figures) {
    if (!refused.length) continue;
    const key = JSON.stringify(refused);
    lines.set(key, { refused, titles: [...(lines.get(key)?.titles ?? []), title] });
  }
  return [...lines.values()].map(({ refused, titles }) => refusedQueries(refused, titles));
}
