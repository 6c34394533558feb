"""Memory of every task of a cluster of 2 workers and 2 parameter servers over a long training.

python benchmarks/cluster_memory.py                           # 13 minutes
python benchmarks/cluster_memory.py --minutes 3 --first 50    # 4 minutes
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
from cluster_bench.memory import KIB, Memory
from cluster_bench.runs import BAR, Shop, parser_of, run, step_reached
from tabulate import tabulate

from dpsr.cluster.up import LocalCluster
from dpsr.data.dataset.tables import Dataset


def memory(shop: Shop, options: argparse.Namespace) -> None:
    overrides = ["training.epochs=100000", f"cluster.checkpoint_seconds={options.checkpoint_seconds}"]
    config, command = shop.run("memory", [*overrides, *options.set])
    logs, found = Path(config.work_dir) / "logs", Memory()
    batch, rows = config.training.batch_size, Dataset.load(config.dataset_dir).num_interactions("train")
    steps_of_unit, steps_at = config.cluster.examples_per_call // batch, []
    with LocalCluster(command, workers=2, ps=2, logs=logs, say=lambda _: None) as cluster:
        started = time.monotonic()
        while (seconds := time.monotonic() - started) < 60 * options.minutes:
            time.sleep(2.0)
            found.look(cluster, seconds)
            text = (logs / "chief-0.log").read_bytes()[-4096:].decode(errors="ignore")
            steps = step_reached(text, -(-rows // batch), batch) if BAR.search(text) else 0
            steps_at.append((seconds, steps))
            if any(entry.process.poll() is not None for entry in cluster.processes.values()):
                raise SystemExit(f"a task ended; see {logs}")
    show_growth(found, [(seconds, steps / steps_of_unit) for seconds, steps in steps_at], options.first)


def show_growth(found: Memory, units_at: list[tuple[float, float]], first: int) -> None:
    """Memory of every task after N, 4 N, 16 N, ... work units, and how it grew in the last three quarters."""
    last = units_at[-1][1]
    marks = [float(mark) for mark in itertools.takewhile(lambda mark: mark < last, (first * 4**n for n in range(20)))]
    marks.append(last)
    rows = []
    for name in sorted({sample.name for sample in found.samples}):
        samples = [sample for sample in found.samples if sample.name == name]
        units = np.interp([sample.seconds for sample in samples], *zip(*units_at, strict=True))
        anonymous = np.array([sample.anonymous for sample in samples]) / KIB**2
        at = [int(np.argmax(units >= mark)) if mark < last else -1 for mark in marks]
        late = units >= last / 4
        slope = np.polyfit(units[late], anonymous[late], 1)[0] * KIB
        resident = samples[-1].resident / KIB**2
        rows.append([name, *(f"{anonymous[place]:.1f}" for place in at), f"{slope:.2f}", f"{resident:.0f}"])
    headers = ["", *(f"{mark:,.0f} work units" for mark in marks), "KiB a work unit, last 3/4", "resident at the end"]
    print(f"MiB of allocated memory over {units_at[-1][0] / 60:.1f} minutes")
    print(tabulate(rows, headers=headers, disable_numparse=True))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--first", type=int, default=250, help="work units after which memory is first shown")
    parser.add_argument("--checkpoint-seconds", type=float, default=5.0)
    run(memory, parser.parse_args())


if __name__ == "__main__":
    main()
