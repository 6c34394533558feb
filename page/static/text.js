// Texts of strangers, made fit to be shown: titles, queries and notes may hold anything.

const LONGEST = 400;
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff\ufff9-\ufffb]/g;
const HIDDEN_BUT_LINES = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff\ufff9-\ufffb]/g;

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const TIME = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });

function picture(character) {
  const code = character.charCodeAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  if (code === 0x7f) return "\u2421";
  return `\u27e8U+${code.toString(16).toUpperCase().padStart(4, "0")}\u27e9`;
}

/**
 * A text with its control characters and directional overrides in visible form, cut after `limit` UTF-16 units:
 * the layout of a title of 1 MB would stop the page.
 */
export function visible(text, { limit = LONGEST, lines = false } = {}) {
  let shown = String(text);
  const length = shown.length;
  if (length > limit) {
    shown = shown.slice(0, limit).replace(/[\ud800-\udbff]$/, "");
  }
  shown = shown.replace(lines ? HIDDEN_BUT_LINES : HIDDEN, picture);
  return length > limit ? `${shown}\u2026 (${NUMBER.format(length)} characters)` : shown;
}

/** A text that UTF-8 can hold: half a surrogate pair becomes U+FFFD. */
export function wellFormed(text) {
  return text.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd");
}

export const number = (value) => NUMBER.format(value);
export const time = (seconds) => TIME.format(new Date(seconds * 1000));
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** Measures by their names in the API, as the field writes them. */
export const MEASURES = { "ndcg@10": "nDCG@10", "precision@10": "P@10", "err@10": "ERR@10", "judged@10": "judged@10" };

/** A score or a measure with a fixed number of decimals; the minus is the typographic one, as wide as a plus. */
export function decimal(value, digits = 3, signed = false) {
  const shown = Math.abs(value).toFixed(digits);
  if (value < 0 && Number(shown) !== 0) return `\u2212${shown}`;
  return signed && Number(shown) !== 0 ? `+${shown}` : shown;
}
