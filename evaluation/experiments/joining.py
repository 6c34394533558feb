"""Join of events with requests by id, in buckets on disk, so that memory does not grow with the logs."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pyarrow as pa

from dpsr.evaluation.experiments.units import Units

NO_UNIT = -1
"""Of a request that another alias or a model answered, and of an event whose user is no key."""
EARLY = -2
"""Of an event whose user is a key, before the first request with that key."""
_SHARED_ID = -3

_SCHEMA = pa.schema([("id", pa.string()), ("unit", pa.int64())])
_BUCKET_BYTES = 1 << 26
"""Bytes of access log whose requests are one bucket: some 300,000 requests, 60 MiB while they are joined."""


@dataclass(frozen=True)
class Joins:
    """What became of the events of the action."""

    by_request: int
    """Their ``query_id`` is the id of a request of the alias."""
    by_key: int
    """Their ``query_id`` is unknown to the access log or missing; their user is a sticky key."""
    other_requests: int
    """Their ``query_id`` is the id of a request of another alias or model."""
    shared_ids: int
    """Their ``query_id`` is the id of requests of several units."""
    before_first_request: int
    """Their user is a sticky key, and they happened before its first request."""
    unknown: int
    """Neither their ``query_id`` nor their user is in the access log."""


class Buckets:
    """Ids and units of one side of the join, in files by the hash of the id."""

    def __init__(self, directory: Path, name: str, count: int) -> None:
        """Creates ``count`` files in ``directory``."""
        self.count = count
        self._paths = [directory / f"{name}.{number}" for number in range(count)]
        self._stack = ExitStack()
        self._writers = [self._stack.enter_context(pa.ipc.new_stream(str(path), _SCHEMA)) for path in self._paths]

    def __enter__(self) -> Buckets:
        """Nothing to do before the first id."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the files, which can be read from then on."""
        self._stack.close()

    def add(self, ids: Sequence[str], units: Sequence[int]) -> None:
        """Writes ids and their units, both [n]."""
        parts: list[tuple[list[str], list[int]]] = [([], []) for _ in self._writers]
        for name, unit in zip(ids, units, strict=True):
            part = parts[zlib.crc32(name.encode()) % self.count]
            part[0].append(name)
            part[1].append(unit)
        for writer, part in zip(self._writers, parts, strict=True):
            if part[0]:
                writer.write_batch(pa.record_batch([pa.array(part[0]), pa.array(part[1], pa.int64())], schema=_SCHEMA))

    def read(self, number: int) -> tuple[list[str], list[int]]:
        """Ids and units of one bucket."""
        with pa.ipc.open_stream(str(self._paths[number])) as stream:
            table = stream.read_all()
        return table["id"].to_pylist(), table["unit"].to_pylist()


def bucket_count(files: Sequence[str]) -> int:
    """Buckets for access logs; compressed ones are taken to be a tenth of their lines."""
    sizes = (Path(file).stat().st_size * (10 if file.endswith((".gz", ".zst")) else 1) for file in files)
    return min(512, -(-max(1, sum(sizes)) // _BUCKET_BYTES))


def join(requests: Buckets, events: Buckets, keyed: Counter[int], units: Units) -> Joins:
    """Counts the events of every unit.

    Args:
        requests: id and unit of every request of the access log; ``NO_UNIT`` where the alias did not answer it.
        events: ``query_id`` of every event that has one, and the unit of its user, ``NO_UNIT`` or ``EARLY``.
        keyed: units, ``NO_UNIT`` and ``EARLY`` of the events without ``query_id``, counted.
        units: takes the events.
    """
    kinds: Counter[str] = Counter()

    def take_by_user(unit: int, count: int = 1) -> None:
        if unit >= 0:
            units.add_events([unit] * count)
        kinds["before_first_request" if unit == EARLY else "unknown" if unit < 0 else "by_key"] += count

    for number in range(events.count):
        ids, users = events.read(number)
        wanted = set(ids)
        known: dict[str, int] = {}
        for name, unit in zip(*requests.read(number), strict=True):
            if name in wanted and known.setdefault(name, unit) != unit:
                known[name] = _SHARED_ID
        for name, user in zip(ids, users, strict=True):
            found = known.get(name)
            if found is None:
                take_by_user(user)
            elif found >= 0:
                units.add_events([found])
                kinds["by_request"] += 1
            else:
                kinds["shared_ids" if found == _SHARED_ID else "other_requests"] += 1
    for unit, count in keyed.items():
        take_by_user(unit, count)
    names = ("by_request", "by_key", "other_requests", "shared_ids", "before_first_request", "unknown")
    return Joins(**{name: kinds[name] for name in names})
