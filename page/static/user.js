// For whom the results are: a user of the dataset, or a profile and a history as typed.

import { announce, byId, el } from "./dom.js";
import { plural, visible } from "./text.js";

const LONGEST_HISTORY = 1000;

export class UserPicker {
  constructor(onChange) {
    this.onChange = onChange;
    this.history = [];
    this.titles = new Map();
    byId("user-id").addEventListener("input", () => this.changed());
    byId("user-clear").addEventListener("click", () => {
      this.set(null);
      this.onChange();
    });
  }

  start(shop) {
    byId("users").replaceChildren(...shop.users.map((user) => el("option", { value: user })));
    byId("profile").replaceChildren(
      ...shop.profile.map((name, index) =>
        el(
          "p",
          { class: "line" },
          el("label", { for: `profile-${index}`, dir: "auto", text: visible(name, { limit: 80 }) }),
          el("input", { id: `profile-${index}`, dir: "auto", autocomplete: "off", data: { profile: name }, on: { input: () => this.changed() } }),
        ),
      ),
    );
  }

  changed() {
    this.showState();
    this.onChange();
  }

  /** The user as the API takes it; null: nobody. */
  user() {
    const user = {};
    const id = byId("user-id").value.trim();
    if (id) user.user_id = id;
    const profile = {};
    for (const input of byId("profile").querySelectorAll("input")) {
      if (input.value.trim()) profile[input.dataset.profile] = input.value.trim();
    }
    if (Object.keys(profile).length) user.profile = profile;
    if (this.history.length) user.history = [...this.history];
    return Object.keys(user).length ? user : null;
  }

  set(user) {
    byId("user-id").value = user?.user_id ?? "";
    for (const input of byId("profile").querySelectorAll("input")) input.value = user?.profile?.[input.dataset.profile] ?? "";
    this.history = [...(user?.history ?? [])];
    this.showHistory();
    this.showState();
    if (user) byId("user").open = true;
  }

  add(itemId, title) {
    if (this.history.length >= LONGEST_HISTORY) return;
    this.history.push(itemId);
    if (title) this.titles.set(itemId, title);
    byId("user").open = true;
    this.showHistory();
    announce(`Added to the history: ${visible(title || itemId, { limit: 80 })}`, 0);
    this.changed();
  }

  showHistory() {
    byId("history").replaceChildren(
      ...this.history.map((itemId, index) =>
        el(
          "li",
          { data: { itemId } },
          el("bdi", { text: visible(this.titles.get(itemId) ?? itemId, { limit: 60 }) }),
          el("button", {
            type: "button",
            class: "icon",
            text: "\u00d7",
            "aria-label": `Remove from the history: ${visible(this.titles.get(itemId) ?? itemId, { limit: 60 })}`,
            on: {
              click: () => {
                this.history.splice(index, 1);
                this.showHistory();
                (byId("history").querySelectorAll("button")[Math.min(index, this.history.length - 1)] ?? byId("user-id")).focus();
                this.changed();
              },
            },
          }),
        ),
      ),
    );
    byId("history-empty").hidden = this.history.length > 0;
  }

  showState() {
    const user = this.user();
    const parts = [];
    if (user?.user_id) parts.push(visible(user.user_id, { limit: 40 }));
    if (user?.profile) parts.push("profile");
    if (user?.history) parts.push(plural(user.history.length, "item"));
    byId("user-state").textContent = parts.join(", ") || "nobody";
    byId("user-clear").hidden = user === null;
  }

  write(parameters) {
    const user = this.user();
    if (user?.user_id) parameters.set("u", user.user_id);
    for (const [name, value] of Object.entries(user?.profile ?? {})) parameters.set(`p.${name}`, value);
    for (const itemId of user?.history ?? []) parameters.append("h", itemId);
  }

  read(parameters) {
    const profile = {};
    for (const [name, value] of parameters) if (name.startsWith("p.")) profile[name.slice(2)] = value;
    const history = parameters.getAll("h").slice(0, LONGEST_HISTORY);
    const id = parameters.get("u");
    this.set(id || history.length || Object.keys(profile).length ? { user_id: id, profile, history } : null);
  }
}
