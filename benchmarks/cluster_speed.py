"""Examples/s of 1 worker and 1 parameter server beside one machine, and where the time goes.

python benchmarks/cluster_speed.py    # 2 minutes
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cluster_bench.runs import CONFIG, Shop, metrics_of, parser_of, run, train
from cluster_bench.step import measured
from tabulate import tabulate


def speed(shop: Shop, options: argparse.Namespace) -> None:
    overrides = [f"training.epochs={options.epochs}"]
    rows = []
    for name, cpus in (("1 machine", None), ("1 machine, one core", {0})):
        with on_cores(cpus):
            config = train(shop, f"speed_{len(rows)}", overrides, workers=0, ps=0)
        fastest = max(figures["examples_per_second"] for figures in metrics_of(config)["epochs"])
        rows.append([name, f"{fastest:,.0f}", f"{config.training.batch_size / fastest * 1e3:.1f}"])
    for every in (1, 8):
        config, command = shop.run(f"speed_every_{every}", overrides)
        sets = [after for before, after in itertools.pairwise(command) if before == "--set"]
        request = {
            "config": str(CONFIG),
            "overrides": [*sets, f"cluster.dense_sync_steps={every}"],
            "workers": 1,
            "ps": 1,
        }
        found = measured(**request, peer=False, steps_of_unit=16, units=options.units)
        rows.append([f"1 worker, 1 ps, dense_sync_steps {every}", f"{found['examples_per_second']:,.0f}"])
        rows[-1] += [f"{found['seconds_of_step'] * 1e3:.1f}", f"{found['bytes']:,.0f}"]
        for task in ("worker 0", "ps 0", "chief 0"):
            rows[-1].append(" + ".join(f"{seconds * 1e3:.1f}" for seconds in found["processors"][task]))
    headers = ["", "examples/s", "ms a step", "bytes a step", "worker: user + kernel ms", "ps", "chief"]
    print(tabulate(rows, headers=headers, disable_numparse=True))


@contextmanager
def on_cores(cpus: set[int] | None) -> Iterator[None]:
    """Processes that are started here run on these cores; on all if None."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--units", type=int, default=40, help="work units of 16 steps each that are measured")
    run(speed, parser.parse_args())


if __name__ == "__main__":
    main()
