// Starts the page: the shop first, then the view that the address names.

import * as api from "./api.js";
import { startReports } from "./bad_case.js";
import { BadCasesView } from "./bad_cases.js";
import { startBookColumns, startBooks } from "./books.js";
import { setOffered } from "./columns.js";
import { announce, byId, typing } from "./dom.js";
import { startExplanations } from "./explain.js";
import { JudgeView } from "./judge.js";
import { startOutbox } from "./outbox.js";
import { hideError, showError } from "./problems.js";
import * as route from "./route.js";
import { SearchView } from "./search.js";
import { keysOn, startSettings } from "./settings.js";
import { SnapshotsView } from "./snapshots.js";
import { number, visible } from "./text.js";

const PAUSE = 2000;

const views = {};
let present = null;
let shopName = "";
let again;

async function showView() {
  const { view: asked, rest, parameters } = route.current();
  const name = Object.hasOwn(views, asked) ? asked : "search";
  const view = views[name];
  route.forgetReplacing();
  if (present && present !== view) present.leave?.();
  for (const [each, { element }] of Object.entries(views)) {
    element.hidden = each !== name;
    const link = byId(`nav-${each}`);
    if (each === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  byId("error").hidden = true;
  const moved = present !== null && present !== view;
  present = view;
  document.body.dataset.view = name;
  const title = await view.enter(rest, parameters);
  if (present !== view) return;
  document.title = `${title} \u00b7 ${shopName} \u00b7 dpsr`;
  if (moved) announce(title, 0);
}

async function start() {
  clearTimeout(again);
  let shop;
  try {
    shop = await api.shop();
  } catch (error) {
    showError("start", error.message, start);
    // The model server may be on its way.
    if (error.passing) again = setTimeout(start, PAUSE);
    return;
  }
  if (shopName) return;
  hideError("start");
  setOffered(shop);
  shopName = visible(shop.name, { limit: 60 }) || "shop";
  byId("shop-name").textContent = shopName;
  byId("shop-state").textContent = `${number(shop.items)} items \u00b7 server ${visible(shop.target, { limit: 100 })} \u00b7 dpsr ${visible(shop.version, { limit: 40 })}`;
  views.search.start(shop);
  startBookColumns();
  window.addEventListener("hashchange", showView);
  await showView();
  document.body.dataset.ready = "true";
}

function startHelp() {
  const dialog = byId("help-dialog");
  byId("help-button").addEventListener("click", () => dialog.showModal());
  byId("help-close").addEventListener("click", () => dialog.close());
  document.addEventListener("keydown", (event) => {
    if (event.key !== "?" || typing(event) || !keysOn()) return;
    event.preventDefault();
    dialog.showModal();
  });
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
}

startSettings();
startHelp();
startExplanations();
startReports();
startBooks();
startOutbox();
Object.assign(views, {
  search: new SearchView(),
  judge: new JudgeView(),
  badcases: new BadCasesView(),
  snapshots: new SnapshotsView(),
});
start();
