"""Distinct (query, item) pairs of records, counted in memory that does not grow with the number of records."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dpsr.data.dataset import spill
from dpsr.data.dataset.bag_files import BagsWriter
from dpsr.data.dataset.directory import scratch_directory
from dpsr.data.dataset.schema import SKIPS_FILE, split_file
from dpsr.data.dataset.tables import Bags, Dataset, load_bags

Blocks = Callable[[], Iterator[np.ndarray]]
"""Opens a stream of records with the fields ``query`` and ``item``, [n] at a time."""

_LEAST_MERGED = 1 << 20
_KEY = np.dtype(np.int64)


class KeyCounts(NamedTuple):
    """Distinct keys and the number of occurrences of each."""

    keys: np.ndarray
    """int64 [n], ascending."""
    counts: np.ndarray
    """int64 [n]."""


def pair_keys(records: np.ndarray, num_items: int) -> np.ndarray:
    """The key ``query * num_items + item`` of each record, int64 [n]: ascending by query, then by item."""
    return records["query"].astype(np.int64) * num_items + records["item"]


def count_keys(parts: Iterable[np.ndarray]) -> KeyCounts:
    """Counts keys (int64 [n] at a time); memory grows with the number of distinct keys, not with that of all."""
    found = KeyCounts(np.empty(0, np.int64), np.empty(0, np.int64))
    waiting: list[np.ndarray] = []
    for part in parts:
        waiting.append(part)
        # A merge costs as much as all distinct keys, so it waits for as many new ones.
        if sum(map(len, waiting)) >= max(_LEAST_MERGED, len(found.keys)):
            found, waiting = _with_more(found, np.concatenate(waiting)), []
    return _with_more(found, np.concatenate(waiting)) if waiting else found


def _with_more(found: KeyCounts, more: np.ndarray) -> KeyCounts:
    new = KeyCounts(*np.unique(more, return_counts=True))
    if not len(found.keys):
        return new
    keys, counts = np.concatenate([found.keys, new.keys]), np.concatenate([found.counts, new.counts])
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    return KeyCounts(keys[first], np.add.reduceat(counts[order], first))


def pairs_by_query(
    sources: Sequence[Blocks], num_queries: int, num_items: int, scratch: Path
) -> Iterator[tuple[int, tuple[KeyCounts, ...]]]:
    """Counts the pairs of several streams of records, one range of queries after another.

    The keys are distributed on disk first, into ranges of about ``spill.BUCKET_RECORDS`` records, so that memory holds
    the pairs of one range only: at most ``spill.BUCKET_RECORDS``, and those of one query more.

    Args:
        sources: the streams; each is read twice.
        num_queries: number of queries.
        num_items: size of the catalogue.
        scratch: existing directory for the keys, 8 bytes a record, removed at the end.

    Yields:
        For each range of queries, ascending, the first query behind it, and the keys (``pair_keys``) and counts of
        every source.
    """
    records = np.zeros(num_queries, dtype=np.int64)
    for blocks in sources:
        for block in blocks():
            records += np.bincount(block["query"], minlength=num_queries)
    bucket_of_query = (np.cumsum(records) - records) // spill.BUCKET_RECORDS
    size = int(bucket_of_query[-1]) + 1 if num_queries else 0
    with ExitStack() as stack:
        buckets = [
            stack.enter_context(spill.Buckets(scratch, f"pairs-{number}", size, _KEY)) for number in range(len(sources))
        ]
        for blocks, of_source in zip(sources, buckets, strict=True):
            for block in blocks():
                of_source.append(bucket_of_query[block["query"]], pair_keys(block, num_items))
        for number in range(size):
            behind = int(np.searchsorted(bucket_of_query, number, side="right"))
            yield behind, tuple(count_keys(of_source.blocks(number)) for of_source in buckets)


def clicked_items(dataset: Dataset, folder: Path) -> Bags:
    """The distinct items that each query led to in the train split, ascending.

    Args:
        dataset: an opened dataset.
        folder: where the bags are written; files of an earlier call for the same train split are used again, those of
            other train splits are removed.

    Returns:
        Memory-mapped bags of item rows, [queries].
    """
    sources = [lambda: dataset.interaction_blocks("train")]
    return _kept_bags(dataset, folder, "clicked_items", [split_file("train")], sources, lambda clicked: clicked.keys)


def skipped_items(dataset: Dataset, folder: Path) -> Bags:
    """The distinct items that each query was shown, that were skipped, and that it never led to in the train split.

    Args:
        dataset: an opened dataset.
        folder: as of ``clicked_items``.

    Returns:
        Memory-mapped bags of item rows, [queries], ascending.
    """
    sources = [dataset.skip_blocks, lambda: dataset.interaction_blocks("train")]
    files = [SKIPS_FILE, split_file("train")]
    return _kept_bags(
        dataset,
        folder,
        "skipped_items",
        files,
        sources,
        lambda skipped, clicked: np.setdiff1d(skipped.keys, clicked.keys),
    )


def _kept_bags(
    dataset: Dataset,
    folder: Path,
    kind: str,
    files: Sequence[str],
    sources: Sequence[Blocks],
    keys_of: Callable[..., np.ndarray],
) -> Bags:
    """Bags of items by query, made of the pairs of ``sources``, unless the folder has those of the same files."""
    schema = dataset.schema
    digests = "".join(dataset.manifest["files"][file]["sha256"] for file in files)
    name = f"{kind}.{hashlib.sha256(digests.encode()).hexdigest()[:24]}"
    with scratch_directory(folder) as scratch:
        parts = [f"{name}.values.npy", f"{name}.row_splits.npy"]
        if not all((folder / part).exists() for part in parts):
            writer = BagsWriter(scratch, name, schema.num_queries)
            for _, counts in pairs_by_query(sources, schema.num_queries, schema.num_items, scratch):
                keys = keys_of(*counts)
                writer.add(keys // schema.num_items, keys % schema.num_items)
            writer.close()
            for part in parts:
                (scratch / part).replace(folder / part)
            for path in folder.glob(f"{kind}.*.npy"):
                if path.name not in parts:  # of a log that is gone
                    path.unlink(missing_ok=True)
    return load_bags(folder, name, schema.num_queries)
