"""Writes the records of a dataset: splits by time, the skips, and the users' histories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from dpsr.data.dataset.bag_files import BagsWriter
from dpsr.data.dataset.records import Layout, record_blocks, write_records
from dpsr.data.dataset.schema import SKIP, SKIPS_FILE, ages_file, split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.ages import AgeScale
from dpsr.data.prepare.log import FOREVER, Boundaries, Log


@dataclass(frozen=True)
class Written:
    """Outcome of ``SplitWriter.write``."""

    counts: dict[str, int]
    """Records of each split, and ``skips``."""
    times: dict[str, tuple[int, int]]
    """First and last time of the new interactions of each split that is not empty."""
    ages: AgeScale | None
    """Of the ages of all records; None where the log has no times."""


class SplitWriter:
    """Writes a log to the files of one dataset directory."""

    def __init__(self, directory: Path, log: Log, boundaries: Boundaries, before: Dataset | None) -> None:
        """Sets the log and the files of one dataset directory.

        Args:
            directory: the dataset directory.
            log: the new interactions.
            boundaries: first times of the valid and of the test period.
            before: the dataset that is appended to; its clicks and purchases join the train split.
        """
        self._directory, self._log = directory, log
        self._boundaries, self._before = boundaries, before
        self._times: dict[str, tuple[int, int]] = {}
        self._ages = AgeScale.of(log, before)

    def write(self, num_items: int, num_users: int, advance: Callable[[int], object]) -> Written:
        """Writes all files.

        Args:
            num_items: rows of the catalogue.
            num_users: rows of the users.
            advance: called with the number of records after each block.
        """
        history = BagsWriter(self._directory / "users", "history", num_users)
        with self._log.records.sorted(self._log, self._boundaries, num_users, self._before) as ordered:
            for records in ordered.by_user():
                known = records[(records["user"] >= 0) & (records["event"] != SKIP)]
                history.add(known["user"], known["item"])
                advance(len(records))
            longest = history.close(self._before.history if self._before else None)
            layout = Layout.of(
                queries=len(self._log.queries), users=num_users, items=num_items, longest_history=longest
            )
            counts = {
                "train": self._write(split_file("train"), layout, self._timed("train", ordered.train())),
                "skips": self._write(SKIPS_FILE, layout, chain(self._past_skips(), ordered.skips())),
            }
            for name in ("valid", "test"):
                counts[name] = self._write(split_file(name), layout, self._timed(name, ordered.later(name)))
        return Written(counts, self._times, self._ages)

    def _timed(self, split: str, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Passes the blocks on and writes the ages; keeps the first and the last time of the log's own records."""
        if self._ages is not None:
            parts = self._ages.write(self._directory / ages_file(split), parts)
        for records in parts:
            time = records["time"][records["row"] < self._log.accepted]
            if len(time):
                low, high = self._times.get(split, (FOREVER, -FOREVER))
                self._times[split] = min(low, int(time.min())), max(high, int(time.max()))
            yield records

    def _past_skips(self) -> Iterator[np.ndarray]:
        if self._before:
            yield from record_blocks(self._before.directory / SKIPS_FILE)

    def _write(self, name: str, layout: Layout, parts: Iterable[np.ndarray]) -> int:
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_records(path, layout, parts)
