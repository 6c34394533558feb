"""Fusion on the page: a dense and a lexical list of the server in one, by a weight that the page chooses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


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


def fuse(dense: ServerList, lexical: ServerList, lexical_weight: float) -> ServerList:
    """The weighted sum of two lists: ``w * lexical / best lexical + (1 - w) * dense``.

    This is the order of a servable's ``weighted_sum`` with ``dense_weight = (1 - w) / w``, but for what a servable
    knows and a client does not: the score of an item by the searcher that did not find it. Here such an item has the
    lexical score 0, or the dense score of the last item of the dense list, which its own does not exceed.

    Args:
        dense: list of the mode ``dense``.
        lexical: list of the mode ``lexical``.
        lexical_weight: w, 0 to 1.

    Returns:
        The best items of both, as many as the longer list has; of equal scores the dense list's first.
    """
    best = float(lexical.scores[0]) if len(lexical.scores) else 0.0
    words = lexical.scores / best if best > 0.0 else np.zeros_like(lexical.scores)
    place_of = {item: place for place, item in enumerate(dense.item_ids.tolist())}
    places = np.array([place_of.get(item, -1) for item in lexical.item_ids.tolist()], np.int64)
    both, alone = places >= 0, places < 0
    of_dense = np.zeros(len(dense.scores))
    of_dense[places[both]] = words[both]
    least = float(dense.scores[-1]) if len(dense.scores) else 0.0
    scores = np.concatenate(
        [
            lexical_weight * of_dense + (1.0 - lexical_weight) * dense.scores,
            lexical_weight * words[alone] + (1.0 - lexical_weight) * least,
        ]
    )
    sources = dense.sources.copy()
    sources[places[both]] |= lexical.sources[both]
    joined = ServerList(
        np.concatenate([dense.item_ids, lexical.item_ids[alone]]),
        scores.astype(np.float32),
        np.concatenate([dense.heads, lexical.heads[alone]]),
        np.concatenate([sources, lexical.sources[alone]]),
        dense.version,
    )
    order = np.argsort(-scores, kind="stable")[: max(len(dense.scores), len(lexical.scores))]
    return joined.take(order)
