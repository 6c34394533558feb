"""Where tables go."""

import numpy as np
import pytest

from dpsr.cluster.placement import Load, place


def random_loads(seed: int) -> list[Load]:
    random = np.random.default_rng(seed)
    rows = (10 ** random.uniform(1, 6, 12)).astype(int)
    return [Load(f"table {i}", int(n), 64, float(random.integers(1, 1000))) for i, n in enumerate(rows)]


@pytest.mark.parametrize("num_ps", [1, 2, 3, 7])
@pytest.mark.parametrize("seed", range(4))
def test_every_row_is_somewhere_once(num_ps: int, seed: int) -> None:
    loads = random_loads(seed)
    placed = place(loads, num_ps, 4 << 20)
    assert placed == place(loads[::-1], num_ps, 4 << 20), "the order of the tables makes no difference"
    for load in loads:
        rows = placed[load.name]
        assert len({part.ps for part in rows}) == len(rows)
        assert [part.first_row for part in rows] == list(np.cumsum([0] + [part.rows for part in rows])[:-1])
        assert sum(part.rows for part in rows) == load.rows
        entry_bytes = 4 * load.rows * load.columns
        assert (len(rows) == 1) == (entry_bytes <= 4 << 20 or num_ps == 1)


def test_bytes_and_traffic_are_balanced() -> None:
    loads = [Load(f"table {i}", 1000, 64, 100.0) for i in range(12)]
    placed = place(loads, 4, 1 << 30)
    counts = np.bincount([rows[0].ps for rows in placed.values()], minlength=4)
    assert counts.tolist() == [3, 3, 3, 3]


def test_traffic_parts_what_bytes_would_put_together() -> None:
    busy = [Load(name, 10, 64, 1000.0) for name in ("a", "b")]
    large = [Load(name, 100_000, 64, 1.0) for name in ("c", "d")]
    placed = place(busy + large, 2, 1 << 30)
    assert placed["a"][0].ps != placed["b"][0].ps
    assert placed["c"][0].ps != placed["d"][0].ps
