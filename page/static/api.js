// The JSON API of `dpsr page` (docs/page_openapi.json).

const BASE = new URL("api/", document.baseURI);

/** What the server refused, or that it did not answer: a text for people. */
export class ApiError extends Error {
  /** `status` of HTTP; 0 where no answer came. */
  constructor(text, status) {
    super(text);
    this.status = status;
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

async function ask(method, path, { body, signal, type = "application/json" } = {}) {
  const headers = method === "GET" ? {} : { "content-type": type, "x-dpsr-page": "1" };
  let response;
  let text;
  try {
    response = await fetch(new URL(path, BASE), { method, headers, body, signal });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(
      "The server of this page does not answer. Check that dpsr page still runs, then try again; what you typed is kept.",
      0,
    );
  }
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new ApiError(`The server of this page answered ${response.status} with something else than JSON.`, response.status || 500);
  }
  if (!response.ok) throw new ApiError(answer.error ?? `The server of this page answered ${response.status}.`, response.status);
  return answer;
}

const post = (path, body, signal) => ask("POST", path, { body: JSON.stringify(body), signal });
const remove = (path) => ask("DELETE", path, { body: "{}" });
const segment = encodeURIComponent;
const query = (values) => {
  const given = Object.entries(values).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
};

export const shop = () => ask("GET", "shop");
export const search = (request, judge, signal) => post(`search${query({ judge })}`, request, signal);
/** Titles of items by id; none where they cannot be had, and their ids have to do. */
export async function titles(itemIds) {
  const asked = [...new Set(itemIds)].slice(0, 5000);
  if (!asked.length) return new Map();
  try {
    const { items } = await post("items", { item_ids: asked });
    return new Map(Object.values(items).map(({ item_id: itemId, title }) => [itemId, title]));
  } catch (error) {
    if (error instanceof ApiError) return new Map();
    throw error;
  }
}
export const explain = (request, signal) => post("explain", request, signal);

export const books = async () => (await ask("GET", "books")).books;
export const book = (name) => ask("GET", `books/${segment(name)}`);
export const addBook = (book) => post("books", book);
export const removeBook = (name) => remove(`books/${segment(name)}`);
export const judgements = async (name, filter) =>
  (await ask("GET", `books/${segment(name)}/judgements${query(filter)}`)).judgements;
export const report = (name, columns, count, signal) => post(`books/${segment(name)}/report`, { columns, count }, signal);
export const exportAddress = (name, format) => new URL(`books/${segment(name)}/export${query({ format })}`, BASE).href;
export const importFile = (name, format, judge, file) =>
  ask("POST", `books/${segment(name)}/import${query({ format, judge })}`, { body: file, type: "application/octet-stream" });
export const judge = (judgement) => ask("PUT", "judgements", { body: JSON.stringify(judgement) });

export const badCases = async () => (await ask("GET", "bad_cases")).bad_cases;
export const reportBadCase = (badCase) => post("bad_cases", badCase);
export const withdrawBadCase = (id) => remove(`bad_cases/${id}`);

export const snapshots = async () => (await ask("GET", "snapshots")).snapshots;
export const takeSnapshot = (snapshot) => post("snapshots", snapshot);
export const removeSnapshot = (id) => remove(`snapshots/${id}`);
export const difference = async (first, second) => (await ask("GET", `snapshots/${first}/difference/${second}`)).differences;
