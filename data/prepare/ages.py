"""The ages of the records of a log, in steps of a 65,535th of the time that it spans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpsr.data.dataset.schema import AGE
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.log import Log
from dpsr.data.raw.timestamps import Clock

_OLDEST = np.iinfo(AGE).max


@dataclass(frozen=True)
class AgeScale:
    """Turns times into ages."""

    last: int
    """The time of age 0, in units of the log's clock."""
    step: int
    """Units of one step."""

    @classmethod
    def of(cls, log: Log, before: Dataset | None) -> AgeScale | None:
        """The scale of a log, and of the dataset that it is appended to; None where either has no times."""
        if log.clock.unit == "row" or not log.accepted:
            return None
        first, last = log.first_time, log.last_time
        if before:
            past = cls.of_dataset(before)
            if past is None:
                return None
            first, last = min(first, past.last - past.step * int(_OLDEST)), max(last, past.last)
        return cls(last, max(1, -(-(last - first) // int(_OLDEST))))

    @classmethod
    def of_dataset(cls, dataset: Dataset) -> AgeScale | None:
        """The scale of a dataset; None where it has no times."""
        entry = dataset.manifest.get("ages")
        if entry is None:
            return None
        return cls(Clock.time(entry["last"]), entry["step"])

    def describe(self, clock: Clock) -> dict[str, str | int]:
        """For the manifest."""
        return {"last": clock.text(self.last), "step": self.step}

    def ages(self, times: np.ndarray) -> np.ndarray:
        """The ages of times, integers [n]; uint16 [n]."""
        steps = np.rint((float(self.last) - times.astype(np.float64)) / self.step)
        return np.clip(steps, 0, _OLDEST).astype(AGE)

    def times(self, ages: np.ndarray) -> np.ndarray:
        """The inverse of ``ages``, to half a step: int64 [n]."""
        return self.last - ages.astype(np.int64) * self.step

    def write(self, path: Path, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Passes blocks of TIMED [n] on, and writes the ages of their records."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for records in parts:
                self.ages(records["time"]).tofile(file)
                yield records
