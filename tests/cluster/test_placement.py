"""Where tables go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dpsr.cluster.loads import DenseLoad, Load, Lookups, TableLoad
from dpsr.cluster.placement import place


def table(name: str, rows: int, bags: float) -> TableLoad:
    return TableLoad(name, rows, 64, Lookups(bags, bags, bags))


def random_loads(seed: int) -> list[Load]:
    random = np.random.default_rng(seed)
    rows = (10 ** random.uniform(0, 6, 12)).astype(int)
    tables = [table(f"table {i}", int(n), float(random.integers(1, 1000))) for i, n in enumerate(rows)]
    return [*tables, DenseLoad(int(random.integers(1, 10**7)), tensors=4)]


@pytest.mark.parametrize("num_ps", [1, 2, 3, 7])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("split_above", [1, 4 << 20])
def test_every_row_is_somewhere_once(num_ps: int, seed: int, split_above: int) -> None:
    loads = random_loads(seed)
    placed = place(loads, num_ps, split_above)
    assert placed == place(loads[::-1], num_ps, split_above), "the order of the tables makes no difference"
    for load in loads:
        shards = placed[load.name]
        assert len({shard.ps for shard in shards}) == len(shards)
        assert [shard.first_row for shard in shards] == list(np.cumsum([0] + [shard.rows for shard in shards])[:-1])
        assert sum(shard.rows for shard in shards) == load.rows
        assert all(shard.rows for shard in shards), "no shard is empty"
        is_whole = num_ps == 1 or load.stored_bytes // 2 <= split_above or load.rows < 8
        assert (len(shards) == 1) == (is_whole or isinstance(load, DenseLoad))


def test_bytes_and_traffic_are_balanced() -> None:
    placed = place([table(f"table {i}", 1000, 100.0) for i in range(12)], 4, 1 << 30)
    counts = np.bincount([shards[0].ps for shards in placed.values()], minlength=4)
    assert counts.tolist() == [3, 3, 3, 3]


def test_traffic_parts_what_bytes_would_put_together() -> None:
    busy = [table(name, 10, 1000.0) for name in ("a", "b")]
    large = [table(name, 100_000, 1.0) for name in ("c", "d")]
    placed = place([*busy, *large], 2, 1 << 30)
    assert placed["a"][0].ps != placed["b"][0].ps
    assert placed["c"][0].ps != placed["d"][0].ps


def test_hard_negatives_and_sync_steps_move_the_dense_layers() -> None:
    """What fewer exchanges save is room for tables beside the dense layers."""
    tables = [table("a", 1000, 300.0), table("b", 1000, 300.0)]
    dense = DenseLoad(10_000, tensors=4, sync_steps=1)
    alone = place([*tables, replace(dense, parameters=100_000)], 2, 1 << 30)
    assert alone["a"][0].ps == alone["b"][0].ps != alone[dense.name][0].ps
    beside = place([*tables, replace(dense, sync_steps=16)], 2, 1 << 30)
    assert beside["a"][0].ps != beside["b"][0].ps
