"""Writes the records of a dataset: splits by time, the skips, and the users' histories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from dpsr.data.bag_files import BagsWriter
from dpsr.data.log import FOREVER, TIMED, Boundaries, Log, with_histories
from dpsr.data.records import Layout, record_blocks, write_records
from dpsr.data.schema import INTERACTION, SKIP, SKIPS_FILE, SPLITS, split_file
from dpsr.data.spill import Buckets, num_buckets
from dpsr.data.tables import Dataset

_SHUFFLE_SEED = 20200425


@dataclass(frozen=True)
class Written:
    """What has been written."""

    counts: dict[str, int]
    """Records of each split, and ``skips``."""
    times: dict[str, tuple[int, int]]
    """First and last time of the new interactions of each split that has any."""


class SplitWriter:
    """Distributes a log over the files of one dataset directory."""

    def __init__(self, directory: Path, log: Log, boundaries: Boundaries, before: Dataset | None) -> None:
        """Keeps what to write.

        Args:
            directory: the dataset directory; ``scratch`` below it takes what is larger than memory.
            log: the new interactions.
            boundaries: what cuts them.
            before: the dataset that is appended to: all its clicks and purchases come to the train split.
        """
        self._directory, self._scratch = directory, directory / "scratch"
        self._log, self._boundaries, self._before = log, boundaries, before
        known = sum(before.manifest["counts"][name] for name in (*SPLITS, "skips")) if before else 0
        self._shares = num_buckets(log.accepted + known)
        self._random = np.random.default_rng(_SHUFFLE_SEED)
        self._times: dict[str, tuple[int, int]] = {}

    def write(self, num_items: int, num_users: int, advance: Callable[[int], object]) -> Written:
        """Writes all files.

        Args:
            num_items: rows of the catalogue.
            num_users: rows of the users.
            advance: told the number of records after each block.
        """
        shares = self._shares
        history = BagsWriter(self._directory / "users", "history", num_users)
        past_events = np.zeros(num_users + 1, dtype=np.int64)  # the last stands for user -1, who has none
        if self._before:
            past_events[: len(self._before.history)] = np.diff(self._before.history.row_splits)
        with (
            Buckets(self._scratch, "train", shares, TIMED) as train,
            Buckets(self._scratch, "later", 2 * shares, TIMED) as later,
            Buckets(self._scratch, "skips", shares, TIMED) as skips,
        ):
            for records in with_histories(self._log, num_users, self._scratch):
                records["history_end"] += past_events[records["user"]].astype(np.int32)
                known = records[(records["user"] >= 0) & (records["event"] != SKIP)]
                history.add(known["user"], known["item"])
                self._distribute(records, train, later, skips)
                advance(len(records))
            for records in self._past(SPLITS):
                train.append(self._random.integers(0, shares, len(records)), _timed(records))
            longest = history.close(self._before.history if self._before else None)
            layout = Layout.of(
                queries=len(self._log.queries), users=num_users, items=num_items, longest_history=longest
            )
            shuffled = (part[self._random.permutation(len(part))] for part in train.read())
            counts = {
                "train": self._write(split_file("train"), layout, shuffled),
                "skips": self._write(
                    SKIPS_FILE, layout, chain(self._past(("skips",)), _in_order_of_time(skips.read()))
                ),
            }
            parts = _in_order_of_time(later.read())
            for name in ("valid", "test"):
                counts[name] = self._write(split_file(name), layout, islice(parts, shares))
        return Written(counts, self._times)

    def _distribute(self, records: np.ndarray, train: Buckets, later: Buckets, skips: Buckets) -> None:
        split = self._boundaries.of(records["time"])
        skipped = records["event"] == SKIP
        width = (self._log.last_time - self._log.first_time) // self._shares + 1
        by_time = (records["time"] - self._log.first_time) // width  # the log's time range in equal pieces
        for number, name in enumerate(SPLITS):
            time = records["time"][(split == number) & ~skipped]
            if len(time):
                low, high = self._times.get(name, (FOREVER, -FOREVER))
                self._times[name] = min(low, int(time.min())), max(high, int(time.max()))
        chosen = records[(split == 0) & ~skipped]
        train.append(self._random.integers(0, self._shares, len(chosen)), chosen)
        late = (split > 0) & ~skipped
        later.append((by_time + (split - 1) * self._shares)[late], records[late])
        skipped &= split == 0
        skips.append(by_time[skipped], records[skipped])

    def _past(self, names: Iterable[str]) -> Iterator[np.ndarray]:
        """The records of the dataset before."""
        if self._before:
            for name in names:
                yield from record_blocks(self._before.directory / (SKIPS_FILE if name == "skips" else split_file(name)))

    def _write(self, name: str, layout: Layout, parts: Iterable[np.ndarray]) -> int:
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_records(path, layout, parts)


def _in_order_of_time(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    return (part[np.lexsort((part["row"], part["time"]))] for part in parts)


def _timed(records: np.ndarray) -> np.ndarray:
    """INTERACTION records as TIMED ones whose time is not known."""
    timed = np.zeros(len(records), dtype=TIMED)
    for name in INTERACTION.names or ():
        timed[name] = records[name]
    return timed
