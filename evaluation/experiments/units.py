"""Randomisation units of one alias: the sticky keys, and the requests that have none."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

CROSSED = -1
"""In place of the variant of a unit that saw two."""


class Units:
    """Counts by unit: about 200 bytes for a key, and 34 for a request without one."""

    def __init__(self) -> None:
        """Has no unit."""
        self._of_key: dict[str, int] = {}
        self._variant = array("h")
        self._requests, self._errors, self._first, self._events = array("q"), array("q"), array("q"), array("q")

    def __len__(self) -> int:
        """All units, those that saw two variants included."""
        return len(self._variant)

    @property
    def keys(self) -> int:
        """Units that are sticky keys."""
        return len(self._of_key)

    def see(self, key: str | None, variant: int, time: int, failed: bool) -> int:
        """Counts a request.

        Args:
            key: the sticky key; None for a request that is a unit of its own.
            variant: number of the variant that answered.
            time: microseconds since 1970.
            failed: whether it ended without an answer.

        Returns:
            The number of the unit.
        """
        unit = None if key is None else self._of_key.get(key)
        if unit is None:
            unit = len(self._variant)
            if key is not None:
                self._of_key[key] = unit
            self._variant.append(variant)
            self._requests.append(1)
            self._errors.append(failed)
            self._first.append(time)
            self._events.append(0)
            return unit
        if self._variant[unit] != variant:
            self._variant[unit] = CROSSED
        self._requests[unit] += 1
        self._errors[unit] += failed
        if time < self._first[unit]:
            self._first[unit] = time
        return unit

    def of_key(self, key: str | None) -> int | None:
        """The unit of a sticky key; None where no request had it."""
        return None if key is None else self._of_key.get(key)

    def first_request(self, unit: int) -> int:
        """Time of a unit's first request, in microseconds since 1970."""
        return self._first[unit]

    def add_events(self, units: Iterable[int]) -> None:
        """Counts an event of each unit."""
        events = self._events
        for unit in units:
            events[unit] += 1

    @property
    def variants(self) -> np.ndarray:
        """Number of the variant by unit, int16 [units]; ``CROSSED`` where a unit saw two."""
        return np.array(self._variant, np.int16)

    @property
    def requests(self) -> np.ndarray:
        """int64 [units]."""
        return np.array(self._requests, np.int64)

    @property
    def errors(self) -> np.ndarray:
        """Failed requests, int64 [units]."""
        return np.array(self._errors, np.int64)

    @property
    def events(self) -> np.ndarray:
        """int64 [units]."""
        return np.array(self._events, np.int64)
