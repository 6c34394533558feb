// The dialog that reports a bad case: an item that is wrong for a query, or one that is missing.

import * as api from "./api.js";
import { byId, el, words } from "./dom.js";
import { notice } from "./problems.js";
import { askJudge } from "./settings.js";
import { visible, wellFormed } from "./text.js";

const PICKS = 10;
const dialog = () => byId("bad-case-dialog");
let present = null;
let picked = null;
let searching = null;
let timer;

/** Opens the dialog on an item, or to look for a missing one; what was typed for the same pair is still there. */
export async function openReport({ query, kind, item = null, column, opener = null }) {
  if (!query.trim()) {
    notice("Type a query first: a bad case belongs to one.");
    return;
  }
  const judge = await askJudge();
  if (!judge) return;
  const same = present && present.query === query && present.item?.item_id === item?.item_id && !present.sent;
  present = { query, item, column, judge, opener, sent: false };
  byId("bad-case-query").textContent = visible(query, { limit: 200 });
  byId("bad-case-judge").textContent = visible(judge, { limit: 100 });
  byId("bad-case-wrong").disabled = item === null;
  byId(kind === "wrong item" && item ? "bad-case-wrong" : "bad-case-missing").checked = true;
  if (!same) {
    byId("bad-case-note").value = "";
    byId("bad-case-search").value = "";
    byId("bad-case-picks").replaceChildren();
    picked = null;
  }
  showError("");
  showKind();
  dialog().showModal();
  byId(missing() ? "bad-case-search" : "bad-case-note").focus();
}

const missing = () => byId("bad-case-missing").checked;

function showError(text) {
  byId("bad-case-error").textContent = visible(text, { limit: 2000 });
  byId("bad-case-error").hidden = !text;
}

function showKind() {
  byId("bad-case-picker").hidden = !missing();
  const item = missing() ? picked : present.item;
  const shown = byId("bad-case-item");
  shown.textContent = item ? visible(item.title || item.item_id, { limit: 200 }) : "none picked yet";
  shown.dataset.itemId = item?.item_id ?? "";
}

async function look() {
  searching?.abort();
  const own = new AbortController();
  searching = own;
  const query = wellFormed(byId("bad-case-search").value);
  if (!query.trim()) {
    byId("bad-case-picks").replaceChildren();
    return;
  }
  try {
    const answer = await api.search({ query, columns: [present.column], count: PICKS }, null, own.signal);
    if (searching !== own) return;
    const [result] = answer.results;
    showError(result.error ?? "");
    const items = result.items.map(({ item_id: itemId }) => answer.items[itemId] ?? { item_id: itemId, title: itemId, fields: {} });
    byId("bad-case-picks").replaceChildren(...items.map((item) => pick(item)));
  } catch (error) {
    if (searching === own && error.name !== "AbortError") showError(error.message);
  }
}

function pick(item) {
  const box = el("input", { type: "radio", name: "bad-case-pick", value: item.item_id, checked: picked?.item_id === item.item_id });
  box.addEventListener("change", () => {
    picked = item;
    showKind();
  });
  return el("li", {}, el("label", {}, box, words("span", item.title, {}, { limit: 120 }), " ", words("span", item.item_id, { class: "field id" }, { limit: 60 })));
}

async function report() {
  const item = missing() ? picked : present.item;
  if (!item) {
    showError("Pick the missing item first: search for it, then choose it from the list.");
    byId("bad-case-search").focus();
    return;
  }
  const button = byId("bad-case-send");
  button.disabled = true;
  try {
    const kept = await api.reportBadCase({
      query: wellFormed(present.query),
      kind: missing() ? "missing item" : "wrong item",
      item_id: item.item_id,
      note: wellFormed(byId("bad-case-note").value),
      judge: present.judge,
      column: present.column,
    });
    present.sent = true;
    dialog().close();
    notice(`Bad case ${kept.id} reported: ${kept.kind}, ${item.title || item.item_id}`);
    document.dispatchEvent(new Event("dpsr-bad-case"));
  } catch (error) {
    showError(`Not reported. ${error.message}`);
  } finally {
    button.disabled = false;
  }
}

export function startReports() {
  for (const id of ["bad-case-wrong", "bad-case-missing"]) byId(id).addEventListener("change", showKind);
  byId("bad-case-search").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, 120);
  });
  byId("bad-case-search").addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      byId("bad-case-picks").querySelector("input")?.focus();
    }
  });
  byId("bad-case-form").addEventListener("submit", (event) => {
    event.preventDefault();
    report();
  });
  byId("bad-case-note").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    report();
  });
  byId("bad-case-cancel").addEventListener("click", () => dialog().close());
  dialog().addEventListener("close", () => {
    if (present?.opener?.isConnected) present.opener.focus();
  });
}
