// What this browser remembers of the person before it.

import { byId } from "./dom.js";
import { visible, wellFormed } from "./text.js";

const held = new Map();

/** The storage of the browser, or this window's own memory where the browser refuses one. */
export const storage = {
  get(key) {
    if (held.has(key)) return held.get(key);
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  },
  /** False where the text is kept until the window closes only. */
  set(key, text) {
    try {
      localStorage.setItem(key, text);
      held.delete(key);
      return true;
    } catch {
      held.set(key, text);
      return false;
    }
  },
  /** Whether what is kept outlives the window. */
  lasting() {
    const lasting = this.set("dpsr.probe", "1");
    this.remove("dpsr.probe");
    return lasting;
  },
  remove(key) {
    held.delete(key);
    try {
      localStorage.removeItem(key);
    } catch {
      // The window's memory held it.
    }
  },
  keys(prefix) {
    let stored = [];
    try {
      stored = Object.keys(localStorage);
    } catch {
      // The window's memory has all.
    }
    return [...new Set([...stored, ...held.keys()])].filter((key) => key.startsWith(prefix));
  },
};

const JUDGE = "dpsr.judge";
const IMAGES = "dpsr.images";
const KEYS = "dpsr.keys";

/** Fires `change` with `judge`, `images` or `keys` as its `detail`. */
export const settings = new EventTarget();

/** The name under which this person judges; null before it was asked. */
export const judgeName = () => storage.get(JUDGE);

/** Whether images are loaded, from wherever the catalogue says. */
export const imagesOn = () => storage.get(IMAGES) === "on";

/** Whether single letters and digits are commands. */
export const keysOn = () => storage.get(KEYS) !== "off";

function showName() {
  const name = judgeName();
  byId("judge-name-button").textContent = name ? `Judge: ${visible(name, { limit: 60 })}` : "Judge: no name yet";
}

/** Tells of a change of the judge, the images or the keys. */
function changed(what) {
  showName();
  settings.dispatchEvent(new CustomEvent("change", { detail: what }));
}

let asked = null;

/** Asks for the judge's name where `anew` or where none is known; null where the person declines. */
export function askJudge({ anew = false } = {}) {
  const known = judgeName();
  if (known && !anew) return Promise.resolve(known);
  asked ??= new Promise((resolve) => {
    const dialog = byId("judge-dialog");
    const field = byId("judge-name");
    field.value = known ?? "";
    dialog.returnValue = "";
    dialog.showModal();
    field.select();
    dialog.addEventListener(
      "close",
      () => {
        asked = null;
        resolve(dialog.returnValue || null);
      },
      { once: true },
    );
  });
  return asked;
}

export function startSettings() {
  const dialog = byId("judge-dialog");
  byId("judge-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = wellFormed(byId("judge-name").value).trim();
    if (!name) return;
    storage.set(JUDGE, name);
    changed("judge");
    dialog.close(name);
  });
  byId("judge-cancel").addEventListener("click", () => dialog.close(""));
  byId("judge-name-button").addEventListener("click", () => askJudge({ anew: true }));
  for (const [id, key, read] of [
    ["images-switch", IMAGES, imagesOn],
    ["keys-switch", KEYS, keysOn],
  ]) {
    const box = byId(id);
    box.checked = read();
    box.addEventListener("change", () => {
      storage.set(key, box.checked ? "on" : "off");
      changed(key === KEYS ? "keys" : "images");
    });
  }
  showName();
}
