"""Synthetic log of a catalogue without one: each query is sampled from the words of an item's text and clicks it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from dpsr.config import Config
from dpsr.data.dataset.texts import spaced_texts, take_rows, with_small_strings
from dpsr.data.raw.readers import Chunk
from dpsr.data.raw.rejected import RejectsRows

MOST_QUERIES = 4000
_SEED = 20161024


class CatalogueQueries:
    """Source of synthetic interactions, in place of the log's ``Source``.

    Words are sampled as in pre-training (``[pretraining]``: ``words``, ``text``). The queries form the valid and the
    test split, on which an epoch and the search parameters of an index are chosen; no training step uses them.
    """

    name = "interactions"
    files: tuple[str, ...] = ()

    def __init__(self, items: pa.Table, config: Config) -> None:
        """Samples the queries; the same catalogue gives the same queries.

        Args:
            items: the catalogue, with ``item_id`` and text columns.
            config: the run.
        """
        random = np.random.default_rng(_SEED)
        chosen = random.choice(len(items), min(len(items), MOST_QUERIES), replace=False)
        columns = config.pretraining.text or config.data.items.text
        some = take_rows(items.select(list(dict.fromkeys(["item_id", *columns]))), chosen)
        texts = spaced_texts(some, columns)
        self._queries = pa.array([_some_words(text, random, config.pretraining.words) for text in texts.to_pylist()])
        self._item_ids = with_small_strings(some.select(["item_id"])).column(0).combine_chunks()

    def chunks(self, rejected: RejectsRows) -> Iterator[Chunk]:
        """Yields all rows; the row of an item without a word has an empty query, and is rejected later."""
        rows = np.arange(1, len(self._queries) + 1)
        yield Chunk("the catalogue", rows, {"query": self._queries, "item_id": self._item_ids})


def _some_words(text: str, random: np.random.Generator, limits: tuple[int, int]) -> str:
    """Samples words of a text in their order, as ``augmentation.random_words``."""
    words = text.split()
    size = min(len(words), int(random.integers(limits[0], limits[1] + 1)))
    return " ".join(words[place] for place in np.sort(random.permutation(len(words))[:size]))
