// The view with the reported bad cases.

import * as api from "./api.js";
import { titleOf, writeColumns } from "./columns.js";
import { byId, el, table, words } from "./dom.js";
import { attempt, notice } from "./problems.js";
import * as route from "./route.js";
import { number, plural, time, visible } from "./text.js";

export class BadCasesView {
  constructor() {
    this.element = byId("view-badcases");
    this.cases = [];
    this.titles = new Map();
    byId("bad-cases-find").addEventListener("input", () => this.show());
    document.addEventListener("dpsr-bad-case", () => {
      if (!this.element.hidden) this.load();
    });
  }

  async enter() {
    await this.load();
    return "Bad cases";
  }

  async load() {
    const cases = await attempt("badcases", api.badCases, () => this.load());
    if (!Array.isArray(cases)) return;
    this.cases = cases.filter(({ withdrawn }) => !withdrawn).reverse();
    this.titles = await api.titles(this.cases.map(({ item_id: itemId }) => itemId));
    this.show();
  }

  show() {
    const sought = byId("bad-cases-find").value.trim().toLowerCase();
    const shown = this.cases.filter(({ query, item_id: itemId, note, judge, kind }) => [query, itemId, this.titles.get(itemId) ?? "", note, judge, kind].some((text) => text.toLowerCase().includes(sought)));
    byId("bad-cases-count").textContent = sought ? `${number(shown.length)} of ${plural(this.cases.length, "bad case")}` : plural(this.cases.length, "bad case");
    byId("bad-cases").replaceChildren(
      this.cases.length
        ? table({ id: "bad-cases-table", class: "list" }, "Reported bad cases, newest first", ["No.", "Query", "What", "Item", "Note", "Where", "By", ""], shown.map((each) => this.row(each)))
        : el("p", { class: "hint", text: "No bad case is reported. In Search or Judge, the key b reports the item that has the focus." }),
    );
  }

  row(badCase) {
    const parameters = new URLSearchParams({ q: badCase.query });
    writeColumns(parameters, [badCase.column]);
    const where = [titleOf(badCase.column)];
    if (badCase.version !== null) where.push(`version ${badCase.version}`);
    where.push(badCase.rank === null ? "not in the list" : `rank ${badCase.rank}`);
    return el(
      "tr",
      { data: { badCase: String(badCase.id) } },
      el("td", { class: "narrow", text: String(badCase.id) }),
      el("th", { scope: "row" }, words("a", badCase.query || "(empty)", { href: route.address("search", null, parameters) }, { limit: 120 })),
      el("td", { text: badCase.kind }),
      el("td", {}, this.title(badCase.item_id), words("span", badCase.item_id, { class: "id" }, { limit: 80 })),
      words("td", badCase.note, { class: "note" }, { limit: 1000, lines: true }),
      words("td", where.join(", "), {}, { limit: 200 }),
      el("td", {}, words("bdi", badCase.judge, {}, { limit: 60 }), el("br"), el("span", { class: "hint", text: badCase.reported_at ? time(badCase.reported_at) : "" })),
      el("td", {}, el("button", { type: "button", class: "small", data: { act: "withdraw" }, "aria-label": `Withdraw bad case ${badCase.id}: ${visible(badCase.query, { limit: 60 })}`, text: "Withdraw", on: { click: () => this.withdraw(badCase.id) } })),
    );
  }

  title(itemId) {
    const title = this.titles.get(itemId);
    return title && title !== itemId ? words("div", title, {}, { limit: 120 }) : null;
  }

  async withdraw(id) {
    if (!(await attempt("badcases", () => api.withdrawBadCase(id), () => this.withdraw(id)))) return;
    notice(`Bad case ${id} withdrawn.`);
    await this.load();
    byId("bad-cases-find").focus();
  }
}
