"""Fusion on the page: a dense and a lexical list of the server in one, by a weight that the page chooses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_TOLERANCE = 1e-3
"""Of scores that float32 and the servable's quantisation have rounded."""


class ServerList(NamedTuple):
    """The answer of a server, or of a baseline, to one query; best first."""

    item_ids: np.ndarray
    """object (bytes) or int64 [n]."""
    scores: np.ndarray
    """float32 [n]."""
    heads: np.ndarray
    """int32 [n]; -1 where no head found the item."""
    sources: np.ndarray
    """int32 [n], bits of ``indexing.signature``; 0 where the server does not tell."""
    version: int | None = None

    def take(self, places: np.ndarray | slice) -> ServerList:
        """The items at some places: integers [n], bool of all, or a slice."""
        return ServerList(
            self.item_ids[places], self.scores[places], self.heads[places], self.sources[places], self.version
        )


def fuse(dense: ServerList, lexical: ServerList, hybrid: ServerList, lexical_weight: float) -> ServerList:
    """The weighted sum of two lists: ``w * lexical / best lexical + (1 - w) * dense``.

    This is the order of a servable's ``weighted_sum`` with ``dense_weight = (1 - w) / w``. A client has no score of an
    item by the searcher that did not find it, but the servable's own sum has it in it: from that, and its weight by the
    items that both found, the missing score follows. Where it does not (a servable that joins by reciprocal ranks, or
    an item that is not in its list), the item has the lexical score 0, or the largest dense score with which neither
    the dense nor the servable's list would have it.

    Args:
        dense: list of the mode ``dense``.
        lexical: list of the mode ``lexical``.
        hybrid: list of the mode ``hybrid``.
        lexical_weight: w, 0 to 1.

    Returns:
        The best items of both, as many as the longer list has; of equal scores the dense list's first.
    """
    place_of = {item: place for place, item in enumerate(dense.item_ids.tolist())}
    places = np.array([place_of.get(item, -1) for item in lexical.item_ids.tolist()], np.int64)
    both, alone = places >= 0, places < 0
    sources = np.concatenate([dense.sources, lexical.sources[alone]])
    sources[places[both]] |= lexical.sources[both]
    joined = ServerList(
        np.concatenate([dense.item_ids, lexical.item_ids[alone]]),
        np.concatenate([dense.scores, lexical.scores[alone]]),
        np.concatenate([dense.heads, lexical.heads[alone]]),
        sources,
        dense.version,
    )
    relative = lexical.scores / max(float(lexical.scores[0]), 1e-9) if len(lexical.scores) else lexical.scores
    # A lexical list that is shorter than the dense one is whole: other items have no word of the query.
    absent = 0.0 if len(lexical.scores) < len(dense.scores) else np.nan
    words = np.concatenate([np.full(len(dense.scores), absent), relative[alone]])
    words[places[both]] = relative[both]
    meaning = np.concatenate([dense.scores.astype(np.float64), np.full(int(alone.sum()), np.nan)])
    score_of = dict(zip(hybrid.item_ids.tolist(), hybrid.scores.tolist(), strict=True))
    sums = np.array([score_of.get(item, np.nan) for item in joined.item_ids.tolist()], np.float64)
    last_sum = float(hybrid.scores[-1]) if len(hybrid.scores) else 0.0
    most = np.minimum(float(dense.scores[-1]) if len(dense.scores) else 0.0, _complete(words, meaning, sums, last_sum))
    meaning = np.where(np.isnan(meaning), most, meaning)
    scores = lexical_weight * np.nan_to_num(words) + (1.0 - lexical_weight) * meaning
    order = np.argsort(-scores, kind="stable")[: max(len(dense.scores), len(lexical.scores))]
    return joined._replace(scores=scores.astype(np.float32)).take(order)


def _complete(words: np.ndarray, meaning: np.ndarray, sums: np.ndarray, last_sum: float) -> np.ndarray:
    """Fills in unknown parts (NaN) of sums ``words + dense_weight * meaning``, if they are such sums; float64 [n].

    Returns:
        The largest ``meaning`` with which an item has no sum, float64 [n]; infinity where nothing is known of it.
    """
    nothing = np.full(len(words), np.inf)
    known = np.isfinite(words + meaning + sums) & (np.abs(meaning) > _TOLERANCE)
    if not known.any():
        return nothing
    dense_weight = float(np.median((sums[known] - words[known]) / meaning[known]))
    difference = np.abs(words[known] + dense_weight * meaning[known] - sums[known])
    if dense_weight < _TOLERANCE or difference.max() > _TOLERANCE * (1.0 + dense_weight):
        return nothing
    np.copyto(meaning, (sums - words) / dense_weight, where=np.isnan(meaning))
    np.copyto(words, np.maximum(sums - dense_weight * meaning, 0.0), where=np.isnan(words))
    return np.nan_to_num((last_sum - words) / dense_weight, nan=np.inf)
