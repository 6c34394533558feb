"""Which parameter server holds what: tables whole where they are small, in rows where they are large."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dpsr.cluster.loads import Load

ROWS_TOGETHER = 4
"""Shards begin at multiples of this number of rows."""


@dataclass(frozen=True)
class Rows:
    """Rows ``first_row..first_row + rows - 1`` on parameter server ``ps``."""

    ps: int
    first_row: int
    rows: int


def num_shards(load: Load, num_ps: int, split_above_bytes: int) -> int:
    """Shards of a load: at most one for every parameter server, and none without rows."""
    return max(1, min(num_ps, load.most_shards(split_above_bytes), load.rows // ROWS_TOGETHER))


def place(loads: Sequence[Load], num_ps: int, split_above_bytes: int) -> dict[str, tuple[Rows, ...]]:
    """Spreads loads so that no parameter server has much more bytes, or much more traffic, than the others.

    The load with the largest share of all bytes or all traffic comes first. It goes to the parameter server, or to as
    many as it has shards, where the larger of both sums is then the least.

    Args:
        loads: what is to be placed; their names are different.
        num_ps: parameter servers.
        split_above_bytes: the most bytes of a whole table, without accumulators.

    Returns:
        For every name its rows in their order. The order of the loads makes no difference.
    """
    shards = {load.name: num_shards(load, num_ps, split_above_bytes) for load in loads}
    moved_for = {load.name: load.traffic(shards[load.name]).total for load in loads}
    all_bytes = sum(load.stored_bytes for load in loads) or 1
    all_traffic = sum(moved_for.values()) or 1.0

    def shares(load: Load) -> tuple[float, float]:
        return load.stored_bytes / all_bytes, moved_for[load.name] / all_traffic

    held, moved = [0.0] * num_ps, [0.0] * num_ps
    placed: dict[str, tuple[Rows, ...]] = {}
    for load in sorted(loads, key=lambda load: (-max(shares(load)), load.name)):
        count = shards[load.name]
        bytes_of_shard, traffic_of_shard = (share / count for share in shares(load))
        fullness = [(max(held[ps] + bytes_of_shard, moved[ps] + traffic_of_shard), ps) for ps in range(num_ps)]
        chosen = sorted(ps for _, ps in sorted(fullness)[:count])
        for ps in chosen:
            held[ps] += bytes_of_shard
            moved[ps] += traffic_of_shard
        cuts = [load.rows * shard // count // ROWS_TOGETHER * ROWS_TOGETHER for shard in range(count)] + [load.rows]
        placed[load.name] = tuple(
            Rows(ps, first, last - first) for ps, first, last in zip(chosen, cuts[:-1], cuts[1:], strict=True)
        )
    return placed
