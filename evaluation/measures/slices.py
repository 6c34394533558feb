"""Slices of the examples with measures of their own: by query frequency, user history, script and column values."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from dpsr.baselines.examples import QueryExamples, normalise_query
from dpsr.data.dataset.schema import SKIP, DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.dataset.texts import take_rows

ALL = "all"
"""The slice of all examples."""
SEEN, UNSEEN, TYPO = "seen queries", "unseen queries", "one typo"
FREQUENCY = ("head", "torso", "tail")
LABELLED, UNLABELLED = "labelled queries", "unlabelled queries"
LONG = "long queries"
LONG_FROM = 5
"""Words of a long query, at least."""
MIXED, NO_LETTERS, NO_VALUE = "several scripts", "no letters", "none"
_MOST_VALUES = 10  # slices of one column


def slices_of(examples: QueryExamples, dataset: Dataset, *, columns: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Assigns examples to slices; the slices of one partition are neighbours.

    ``seen queries`` have a click in the train split. Head, torso and tail queries hold a third of its clicks each, the
    most frequent queries first; unseen queries are tail. ``labelled queries`` have labelled pairs, from which training
    learns as from clicks. ``with history`` has users with an event before the click. The script is that of the query's
    letters. Partitions by labels, history and script with all examples in one slice are left out. ``long queries`` have
    five words or more between white space.

    Args:
        examples: n clicks.
        dataset: the train split, and the columns.
        columns: profile columns of the user, or categorical columns of the clicked item; each of the ten most frequent
            values is a slice, ``<column>: <value>``.

    Returns:
        Name -> bool [n], at least one of them true.

    Raises:
        DatasetError: a column is unknown.
    """
    counts = _train_clicks(dataset)
    texts = [normalise_query(text) for text in examples.texts]
    clicks = np.array([counts[text] for text in texts], dtype=np.int64)
    band_of = frequency_bands(counts)
    bands = np.array([band_of.get(text, FREQUENCY[-1]) for text in texts], dtype=object)
    scripts = np.array([script_of(text) for text in texts], dtype=object)
    history = examples.records["history_end"] > 0
    slices = {ALL: np.ones(len(examples), dtype=bool), SEEN: clicks > 0, UNSEEN: clicks == 0}
    slices |= {band: bands == band for band in FREQUENCY}
    slices[LONG] = np.array([len(text.split()) >= LONG_FROM for text in texts], dtype=bool)
    if history.any() and not history.all():
        slices |= {"with history": history, "without history": ~history}
    labelled = _labelled(texts, dataset)
    if labelled.any() and not labelled.all():
        slices |= {LABELLED: labelled, UNLABELLED: ~labelled}
    if len(set(scripts)) > 1:
        slices |= {script: scripts == script for script in sorted(set(scripts))}
    for column in columns:
        slices |= _by_value(column, examples, dataset)
    return {name: mask for name, mask in slices.items() if mask.any()}


def _labelled(texts: Sequence[str], dataset: Dataset) -> np.ndarray:
    """Whether the normalised queries have labelled pairs, bool [n]."""
    rows = np.unique(dataset.labels()["query"])
    known = {normalise_query(text) for text in dataset.query_texts().take(rows).to_pylist()}
    return np.array([text in known for text in texts], dtype=bool)


def frequency_bands(counts: Counter[str]) -> dict[str, str]:
    """Assigns each query to head, torso or tail: thirds of the clicks, ordered by descending frequency of the query."""
    total = sum(counts.values())
    bands, before = {}, 0
    for text, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
        bands[text] = FREQUENCY[min(3 * before // total, 2)]
        before += count
    return bands


def script_of(text: str) -> str:
    """Returns the script of a text's letters (``latin script``, ...), ``several scripts`` or ``no letters``."""
    scripts = {unicodedata.name(letter, "unknown").split()[0].lower() for letter in text if letter.isalpha()}
    if not scripts:
        return NO_LETTERS
    return f"{scripts.pop()} script" if len(scripts) == 1 else MIXED


def _by_value(column: str, examples: QueryExamples, dataset: Dataset) -> dict[str, np.ndarray]:
    """Slices of the ten most frequent values of a column, and of the rest; an unknown user has no value."""
    if column in dataset.schema.profile:
        table, rows = dataset.user_table(), examples.records["user"]
    elif column in dataset.schema.categorical and column not in dataset.schema.numeric:
        table, rows = dataset.item_table(), examples.item_rows
    else:
        known = [*dataset.schema.profile, *(set(dataset.schema.categorical) - set(dataset.schema.numeric))]
        raise DatasetError(
            f"evaluation.slice_by: {column!r} is neither a profile column nor a categorical item column of the dataset "
            f"(there are: {', '.join(sorted(known)) or 'none'})"
        )
    given = (
        take_rows(table.select([column]), np.maximum(rows, 0))[column].to_pylist() if len(table) else [None] * len(rows)
    )
    pairs = zip(given, rows.tolist(), strict=True)
    values = np.array([NO_VALUE if row < 0 or value is None else str(value) for value, row in pairs], dtype=object)
    names, counts = np.unique(values, return_counts=True)
    shown = names[np.argsort(-counts, kind="stable")][:_MOST_VALUES].tolist()
    slices = {f"{column}: {value}": values == value for value in shown}
    if len(names) > len(shown):
        slices[f"{column}: others"] = ~np.isin(values, shown)
    return slices


def _train_clicks(dataset: Dataset) -> Counter[str]:
    """Clicks of every normalised query in the train split."""
    clicks = np.zeros(dataset.schema.num_queries, dtype=np.int64)
    for records in dataset.interaction_blocks("train"):
        clicks += np.bincount(records["query"][records["event"] != SKIP], minlength=len(clicks))
    rows = np.flatnonzero(clicks)
    times = clicks[rows]
    counts: Counter[str] = Counter()
    for text, count in zip(dataset.query_texts().take(rows).to_pylist(), times.tolist(), strict=True):
        counts[normalise_query(text)] += count
    return counts
