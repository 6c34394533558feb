// Judgements on their way to the server. Each is in the browser's storage until the server has said that it is on disk.

import * as api from "./api.js";
import { byId, el } from "./dom.js";
import { storage } from "./settings.js";
import { plural } from "./text.js";

const PREFIX = "dpsr.outbox:";
const WAITS = [1, 2, 5, 10, 30];

/** Fires `saved` with the judgement as `detail`, and `change` with every change of what waits. */
export const outbox = new EventTarget();

const refused = new Map();
let sending = false;
let failures = 0;
let timer;
let lastError = "";

const keyOf = ({ book, judge, query, item_id }) => PREFIX + JSON.stringify([book, judge, query, item_id]);

function entries() {
  return storage.keys(PREFIX).map((key) => [key, storage.get(key)]).filter(([, text]) => text !== null);
}

/** What waits, of a book and a judge. */
export function waiting(book, judge) {
  return entries().map(([, text]) => JSON.parse(text)).filter((each) => each.book === book && each.judge === judge);
}

/** `pending` or `refused` of a pair that is not saved, else null. */
export function stateOf(judgement) {
  const key = keyOf(judgement);
  if (storage.get(key) === null) return null;
  return refused.has(key) ? "refused" : "pending";
}

/** Sends a judgement now or, where the server is away, as soon as it answers; a later one of the pair replaces it. */
export function send(judgement) {
  const key = keyOf(judgement);
  storage.set(key, JSON.stringify(judgement));
  refused.delete(key);
  changed();
  flush();
}

/** Sends what waits. */
export async function flush() {
  if (sending) return;
  sending = true;
  clearTimeout(timer);
  try {
    for (let next = nextEntry(); next; next = nextEntry()) await sendOne(...next);
    failures = 0;
  } catch (error) {
    lastError = error.message;
    timer = setTimeout(flush, 1000 * WAITS[Math.min(failures, WAITS.length - 1)]);
    failures += 1;
  } finally {
    sending = false;
    changed();
  }
}

const nextEntry = () => entries().find(([key]) => !refused.has(key));

async function sendOne(key, text) {
  try {
    const saved = await api.judge(JSON.parse(text));
    // A judgement that was changed meanwhile stays, and goes next.
    if (storage.get(key) === text) storage.remove(key);
    failures = 0;
    outbox.dispatchEvent(new CustomEvent("saved", { detail: saved }));
  } catch (error) {
    if (!(error instanceof api.ApiError) || error.passing) throw error;
    refused.set(key, error.message);
    lastError = error.message;
  }
  changed();
}

function changed() {
  const count = entries().length;
  const line = byId("unsaved");
  const troubled = count > 0 && (failures > 0 || refused.size > 0);
  line.hidden = !troubled;
  line.dataset.count = String(count);
  if (troubled) {
    line.replaceChildren(
      el("span", { text: `${plural(count, "judgement")} not saved yet, kept in this browser and sent again. ${lastError} ` }),
      el("button", { type: "button", id: "send-again", text: "Send now", on: { click: sendAgain } }),
      refused.size ? el("button", { type: "button", id: "drop-refused", text: `Drop ${plural(refused.size, "refused one")}`, on: { click: dropRefused } }) : "",
    );
  } else {
    line.replaceChildren();
  }
  outbox.dispatchEvent(new Event("change"));
}

function sendAgain() {
  refused.clear();
  flush();
}

function dropRefused() {
  for (const key of refused.keys()) storage.remove(key);
  refused.clear();
  changed();
}

export function startOutbox() {
  window.addEventListener("online", flush);
  window.addEventListener("beforeunload", (event) => {
    // What the browser did not take is lost with the window.
    if (entries().length && !storage.lasting()) event.preventDefault();
  });
  flush();
}
