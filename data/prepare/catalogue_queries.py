"""A log for a catalogue that has none: random words of some items' own texts, each with its item as the click."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.config import Config
from dpsr.data.raw.readers import Chunk
from dpsr.data.raw.rejected import RejectsRows

MOST_QUERIES = 4000
# Scripts that are written without spaces; an ideograph or a kana is a word of the tokenizer too.
_UNSPACED = r"([\p{Han}\p{Hiragana}\p{Katakana}])"
_SEED = 20161024


class CatalogueQueries:
    """Takes the place of the interactions' ``Source`` where there are none.

    As in pre-training (``[pretraining]``: ``words``, ``text``). They are never trained on: what is chosen by looking at
    clicks (an epoch, the search parameters of an index) is chosen on these.
    """

    name = "interactions"
    files: tuple[str, ...] = ()

    def __init__(self, items: pa.Table, config: Config) -> None:
        """Draws the queries; the same catalogue has the same ones.

        Args:
            items: the catalogue, ``item_id`` and text columns.
            config: of the run.
        """
        random = np.random.default_rng(_SEED)
        chosen = random.choice(len(items), min(len(items), MOST_QUERIES), replace=False)
        some = items.take(chosen)
        texts = spaced_texts(some, config.pretraining.text or config.data.items.text)
        self._queries = pa.array([_some_words(text, random, config.pretraining.words) for text in texts.to_pylist()])
        self._item_ids = some.column("item_id").combine_chunks()

    def chunks(self, rejected: RejectsRows) -> Iterator[Chunk]:
        """All rows; an item without a word is rejected as a row with an empty query."""
        rows = np.arange(1, len(self._queries) + 1)
        yield Chunk("the catalogue", rows, {"query": self._queries, "item_id": self._item_ids})


def spaced_texts(items: pa.Table, columns: Sequence[str]) -> pa.Array:
    """Some text columns of every item in one, string [items], with spaces between all words of the tokenizer."""
    texts = [pc.fill_null(column.combine_chunks().cast(pa.string()), "") for column in items.select(columns).columns]
    return pc.replace_substring_regex(pc.binary_join_element_wise(*texts, " "), _UNSPACED, r"\1 ")


def _some_words(text: str, random: np.random.Generator, limits: tuple[int, int]) -> str:
    """Some of the words of a text in their order, as ``augmentation.random_words``."""
    words = text.split()
    size = min(len(words), int(random.integers(limits[0], limits[1] + 1)))
    return " ".join(words[place] for place in np.sort(random.permutation(len(words))[:size]))
