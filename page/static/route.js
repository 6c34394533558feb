// Views and their addresses: `#search?q=red+shoes`, `#judge/BOOK?at=3`.

/** The view, its path and its parameters, as the address has them. */
export function current() {
  const hash = location.hash.slice(1);
  const mark = hash.indexOf("?");
  const path = mark < 0 ? hash : hash.slice(0, mark);
  const slash = path.indexOf("/");
  return {
    view: (slash < 0 ? path : path.slice(0, slash)) || "search",
    rest: slash < 0 ? null : decoded(path.slice(slash + 1)),
    parameters: new URLSearchParams(mark < 0 ? "" : hash.slice(mark + 1)),
  };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function address(view, rest = null, parameters = new URLSearchParams()) {
  const query = parameters.toString();
  return `#${view}${rest === null ? "" : `/${encodeURIComponent(rest)}`}${query ? `?${query}` : ""}`;
}

let replacing;

/** Writes the state of a view into the address, a moment later: browsers slow down pages that do it at every key. */
export function replaceSoon(view, rest, parameters) {
  clearTimeout(replacing);
  replacing = setTimeout(() => history.replaceState(null, "", address(view, rest, parameters)), 250);
}

/** Writes the state of a view as a new entry of the history. */
export function push(view, rest, parameters) {
  clearTimeout(replacing);
  const next = address(view, rest, parameters);
  if (next !== location.hash) history.pushState(null, "", next);
}

/** Goes to a view; what the view left before had still to write is forgotten. */
export function go(view, rest = null, parameters = new URLSearchParams()) {
  location.hash = address(view, rest, parameters);
}

export function forgetReplacing() {
  clearTimeout(replacing);
}
