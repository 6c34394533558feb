"""Examples of an evaluation: clicks of a split with the text that was typed, and the same texts with one typo."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace

import numpy as np

from dpsr.data.dataset.schema import INTERACTION, SKIP, DatasetError
from dpsr.data.dataset.tables import Dataset

# Each random choice of a run draws from its own stream, so that none shifts another.
SUBSAMPLE_STREAM, TIE_STREAM, TYPO_STREAM, CANDIDATE_STREAM, BOOTSTRAP_STREAM = range(5)


@dataclass(frozen=True)
class QueryExamples:
    """Queries with their clicked items; every array has one entry for each click."""

    texts: np.ndarray
    """Query texts as the retriever receives them, object (str) [n]."""
    records: np.ndarray
    """The clicks, INTERACTION [n]: user, clicked item, and the length of the history that precedes the click."""
    tie_keys: np.ndarray
    """Seeds of the order of items with equal scores (``ranking``), uint64 [n]."""

    def __len__(self) -> int:
        """Returns the number of clicks."""
        return len(self.records)

    @property
    def item_rows(self) -> np.ndarray:
        """The clicked items, int32 [n]."""
        return self.records["item"]

    def take(self, rows: np.ndarray | slice) -> QueryExamples:
        """Returns the examples at the given positions, or of a boolean mask."""
        return QueryExamples(self.texts[rows], self.records[rows], self.tie_keys[rows])

    def batches(self, size: int) -> list[QueryExamples]:
        """Splits the examples into batches of at most ``size``, in their order."""
        return [self.take(slice(start, start + size)) for start in range(0, len(self), size)]


def normalise_query(text: str) -> str:
    """Folds Unicode form (NFKC), case and white space: texts with the same outcome are the same query."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def make_examples(texts: np.ndarray, records: np.ndarray, *, seed: int) -> QueryExamples:
    """Makes examples of texts (str [n]) and records (INTERACTION [n]); ``seed`` decides the order of ties."""
    tie_keys = np.random.default_rng([seed, TIE_STREAM]).integers(0, 1 << 64, len(records), dtype=np.uint64)
    return QueryExamples(np.asarray(texts, dtype=object), np.asarray(records), tie_keys)


def anonymous_examples(texts: np.ndarray, *, seed: int) -> QueryExamples:
    """Makes examples of queries (str [n]) without user, history or clicked item."""
    records = np.zeros(len(texts), dtype=INTERACTION)
    records["user"] = -1
    return make_examples(texts, records, seed=seed)


def load_examples(dataset: Dataset, split: str, *, max_examples: int, seed: int) -> QueryExamples:
    """Reads the clicks and purchases of a split, one example each, ordered by query.

    Args:
        dataset: an opened dataset.
        split: ``train``, ``valid`` or ``test``.
        max_examples: size of the sample taken from a split with more clicks.
        seed: decides the sample and the order of ties.

    Raises:
        ValueError: the split's name is unknown.
        DatasetError: the split has no click.
    """
    records = load_clicks(dataset, split, at_most=max_examples, seed=seed)
    if not len(records):
        raise DatasetError(
            f"{dataset.directory}: split {split!r} has no click to evaluate on; "
            f"raise data.{split}_share and run `dpsr prepare` again"
        )
    # Neighbours with the same query let a retriever score it once.
    records = records[np.argsort(records["query"], kind="stable")]
    texts = dataset.query_texts().take(records["query"]).to_numpy(zero_copy_only=False)
    return make_examples(texts, records, seed=seed)


def load_clicks(dataset: Dataset, split: str, *, at_most: int, seed: int) -> np.ndarray:
    """Reads the clicks and purchases of a split, or a sample of them without replacement, in the order of the file.

    The split is read in blocks; memory grows with ``at_most``, not with the split.

    Args:
        dataset: an opened dataset.
        split: ``train``, ``valid`` or ``test``.
        at_most: size of the sample taken from a split with more clicks.
        seed: decides the sample.

    Returns:
        INTERACTION [min(clicks, at_most)].

    Raises:
        ValueError: the split's name is unknown.
    """
    clicks = sum(int((block["event"] != SKIP).sum()) for block in dataset.interaction_blocks(split))
    chosen = np.arange(min(clicks, at_most))
    if clicks > at_most:
        chosen = np.sort(np.random.default_rng([seed, SUBSAMPLE_STREAM]).choice(clicks, at_most, replace=False))
    found, start = [np.empty(0, INTERACTION)], 0
    for block in dataset.interaction_blocks(split):
        block = block[block["event"] != SKIP]
        first, last = np.searchsorted(chosen, [start, start + len(block)])
        found.append(block[chosen[first:last] - start])
        start += len(block)
    return np.concatenate(found)


def with_one_typo(examples: QueryExamples, *, seed: int) -> QueryExamples:
    """Applies one random edit of one letter or digit to each text.

    An edit deletes a letter, inserts one before it, replaces it, or swaps it with its neighbour; inserted letters are
    drawn from those of all texts. Texts of fewer than two letters or digits are left out.

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
