"""What is evaluated: clicks of a split, each with the text that was typed, and variants of those texts."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace

import numpy as np

from dpsr.data.dataset.schema import SKIP, DatasetError
from dpsr.data.dataset.tables import Dataset

# Every random choice of a run draws from a stream of its own, so that one never shifts another.
SUBSAMPLE_STREAM, TIE_STREAM, TYPO_STREAM, CANDIDATE_STREAM, BOOTSTRAP_STREAM = range(5)


@dataclass(frozen=True)
class Examples:
    """Clicks to be found again; every array has one entry for each click."""

    texts: np.ndarray
    """Query texts as they reach the retriever, object (str) [n]."""
    records: np.ndarray
    """The clicks, INTERACTION [n]: whose they are, what was clicked, and how much history may be seen."""
    tie_keys: np.ndarray
    """uint64 [n]; items with equal scores are ordered by a noise of this key and the item, see ``ranking``."""

    def __len__(self) -> int:
        """The number of clicks."""
        return len(self.records)

    @property
    def item_rows(self) -> np.ndarray:
        """The clicked items, int32 [n]."""
        return self.records["item"]

    def take(self, rows: np.ndarray | slice) -> Examples:
        """The examples at the given positions (or of a boolean mask)."""
        return Examples(self.texts[rows], self.records[rows], self.tie_keys[rows])

    def chunks(self, size: int) -> list[Examples]:
        """The examples in pieces of at most ``size``."""
        return [self.take(slice(start, start + size)) for start in range(0, len(self), size)]


def normalise_query(text: str) -> str:
    """The query up to Unicode form (NFKC), case and white space: what counts as the same query."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def make_examples(texts: np.ndarray, records: np.ndarray, *, seed: int) -> Examples:
    """Examples of given texts (str [n]) and records (INTERACTION [n])."""
    tie_keys = np.random.default_rng([seed, TIE_STREAM]).integers(0, 1 << 64, len(records), dtype=np.uint64)
    return Examples(np.asarray(texts, dtype=object), np.asarray(records), tie_keys)


def load_examples(dataset: Dataset, split: str, *, max_examples: int, seed: int) -> Examples:
    """The clicks and purchases of a split, one example each, ordered by query; a seeded sample where there are more.

    Args:
        dataset: an opened dataset.
        split: ``train``, ``valid`` or ``test``.
        max_examples: the most examples.
        seed: chooses the sample.

    Raises:
        ValueError: there is no such split.
        DatasetError: the split is empty.
    """
    records = dataset.interactions(split)
    rows = np.flatnonzero(records["event"] != SKIP)
    if not len(rows):
        raise DatasetError(
            f"{dataset.directory}: split {split!r} has no click to evaluate on; "
            f"raise data.{split}_share and run `dpsr prepare` again"
        )
    if len(rows) > max_examples:
        rows = np.random.default_rng([seed, SUBSAMPLE_STREAM]).choice(rows, max_examples, replace=False)
    records = np.asarray(records[np.sort(rows)])
    # Neighbours that share their query let a retriever score it once.
    records = records[np.argsort(records["query"], kind="stable")]
    texts = dataset.query_texts().take(records["query"]).to_numpy(zero_copy_only=False)
    return make_examples(texts, records, seed=seed)


def with_one_typo(examples: Examples, *, seed: int) -> Examples:
    """The same clicks after a slip of the finger: each text with one random edit of one letter or digit.

    An edit leaves out a letter, doubles its place with another one, replaces it, or swaps it with its neighbour; new
    letters are drawn from those of all the texts. Texts of fewer than two letters are left out.

    Args:
        examples: n examples.
        seed: decides every edit.

    Returns:
        At most n examples, in the same order.
    """
    rng = np.random.default_rng([seed, TYPO_STREAM])
    alphabet = sorted({letter for text in set(examples.texts) for letter in text.casefold() if letter.isalnum()})
    rows = [row for row, text in enumerate(examples.texts) if sum(map(str.isalnum, text)) >= 2]
    kept = examples.take(np.array(rows, dtype=np.int64))
    texts = [_one_edit(text, alphabet, rng) for text in kept.texts]
    return replace(kept, texts=np.array(texts, dtype=object))


def _one_edit(text: str, alphabet: list[str], rng: np.random.Generator) -> str:
    positions = [position for position, letter in enumerate(text) if letter.isalnum()]
    while True:
        at = positions[rng.integers(len(positions))]
        letter = alphabet[rng.integers(len(alphabet))]
        head, here, tail = text[:at], text[at], text[at + 1 :]
        edits = [head + tail, head + letter + here + tail, head + letter + tail, head + tail[:1] + here + tail[1:]]
        typo = edits[rng.integers(len(edits))]
        if normalise_query(typo) != normalise_query(text):
            return typo
