"""Which parameter server holds what: tables whole where they are small, in rows where they are large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_ENTRY_BYTES = 4
_ROWS_TOGETHER = 4
"""Shards begin at multiples of so many rows."""


@dataclass(frozen=True)
class Load:
    """Something that one parameter server, or several, have to hold."""

    name: str
    rows: int
    columns: int
    traffic: float
    """Bytes that cross the network for it in a step."""

    @property
    def bytes(self) -> int:
        """Of its entries and their accumulators."""
        return 2 * _ENTRY_BYTES * self.rows * self.columns


@dataclass(frozen=True)
class Rows:
    """Rows ``first_row..first_row + rows - 1`` on parameter server ``ps``."""

    ps: int
    first_row: int
    rows: int


def place(loads: Sequence[Load], num_ps: int, split_above_bytes: int) -> dict[str, tuple[Rows, ...]]:
    """Spreads loads so that no parameter server has much more bytes, or much more traffic, than the others.

    The largest share of the whole comes first, and goes where the fuller of bytes and traffic then is the least. A load
    above ``split_above_bytes`` (entries, without accumulators) is cut into as few equal parts as are below it, at most
    one for every parameter server; every part has the whole traffic, since each has a sum for every bag.

    Args:
        loads: what is to be placed; their names are different.
        num_ps: parameter servers.
        split_above_bytes: the most bytes of a whole table.

    Returns:
        For every name its rows in their order; deterministic.
    """
    all_bytes = sum(load.bytes for load in loads) or 1
    all_traffic = sum(load.traffic for load in loads) or 1.0
    held, moved = [0.0] * num_ps, [0.0] * num_ps
    placed: dict[str, tuple[Rows, ...]] = {}
    order = sorted(loads, key=lambda load: (-max(load.bytes / all_bytes, load.traffic / all_traffic), load.name))
    for load in order:
        parts = min(num_ps, max(1, -(-load.bytes // 2 // split_above_bytes)))
        bytes_of_part, traffic_of_part = load.bytes / parts / all_bytes, load.traffic / all_traffic
        fullness = [(max(held[ps] + bytes_of_part, moved[ps] + traffic_of_part), ps) for ps in range(num_ps)]
        chosen = sorted(ps for _, ps in sorted(fullness)[:parts])
        for ps in chosen:
            held[ps] += bytes_of_part
            moved[ps] += traffic_of_part
        cuts = [load.rows * part // parts // _ROWS_TOGETHER * _ROWS_TOGETHER for part in range(parts)] + [load.rows]
        placed[load.name] = tuple(
            Rows(ps, first, last - first) for ps, first, last in zip(chosen, cuts[:-1], cuts[1:], strict=True)
        )
    return placed
