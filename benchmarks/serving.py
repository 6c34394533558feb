"""Benchmark of the model server: throughput against a plain server, processor time, swaps, a second model, a soak.

    python benchmarks/serving.py                                        # 20,000 items, K = 100: minutes
    python benchmarks/serving.py --items 1000000 --k 1000 --heads 2     # the index is built once, below build/bench
    python benchmarks/serving.py --only soak --soak-seconds 1200        # of each data plane, one after the other
    python benchmarks/serving.py --only swaps second-model --planes native
    python benchmarks/serving.py --only throughput --servable DIR/1     # an exported servable

The plain server is a gRPC thread pool around ``tf.saved_model.load``; dpsr is measured with each of its data planes.
For the throughput all servers run at the same time, each in a process of its own, and the same client, compiled from
``serving_bench/load_client.cc``, loads them in turns; a figure is the median of the rounds, CPU ms the server's
processor time per request, and CPU / graph that over the time of the graph alone in the same round. Swaps, the second
model and the soak send requests at a steady rate, and a latency counts from the time at which the request was due. The
ratio of a swap stands beside that of a calm second, which shows the influence of other work on the machine. Fuzzing is
a test:
``DPSR_FUZZ_REQUESTS=100000 pytest -m slow tests/serving/test_fuzz.py``.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving_bench import servable
from serving_bench.servers import Plane
from serving_bench.setting import Setting
from serving_bench.soak import soaked
from serving_bench.swaps import LOAD_HEADERS, SWAP_HEADERS, second_model, swaps
from serving_bench.throughput import throughput
from tabulate import tabulate

CACHE = Path(__file__).resolve().parent.parent / "build" / "bench" / "serving"
PARTS = ["throughput", "swaps", "second-model", "soak"]


def available_planes() -> tuple[list[Plane], str]:
    """Data planes of this build, and why it has the native one or not."""
    from dpsr.config import ServingConfig
    from dpsr.serving.api.native_plane import find_transport

    transport, reason = find_transport(ServingConfig())
    return ["python"] if transport is None else ["python", "native"], reason


class Run:
    """The parts of the benchmark for one servable; every server gets fresh base paths."""

    def __init__(self, version: Path, planes: list[Plane], options: argparse.Namespace) -> None:
        self._version = version
        self._planes = planes
        self._options = options

    def part(self, name: str) -> str:
        """Table of one of ``PARTS``."""
        options = self._options
        if name == "throughput":
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                return throughput(Setting(self._version, Path(folder), options), self._planes, CACHE)
        if name == "swaps":
            return tabulate(self._rows(swaps), headers=SWAP_HEADERS, floatfmt=",.2f") + (
                f"\n{options.swaps} swaps at {options.rate:g} req/s. Bars: 0 failed, ratio <= 3"
            )
        if name == "second-model":
            return tabulate(self._rows(second_model), headers=LOAD_HEADERS, floatfmt=",.2f") + (
                f"\n{options.loads} loads of a second model at {options.rate:g} req/s. Bars: 0 failed, ratio <= 2"
            )
        return tabulate(self._rows(soaked), headers="keys") + (
            f"\n{options.soak_seconds:g} s. Bars: no good request failed, every bad one answered, growth within 3 %"
        )

    def _rows(self, measure: Callable[[Setting, Plane], list[Any]]) -> list[Any]:
        rows = []
        for plane in self._planes:
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:  # the file system of the servable: links, no copies
                rows += measure(Setting(self._version, Path(folder), self._options), plane)
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--planes", choices=["python", "native"], nargs="+", help="by default all that this build has")
    parser.add_argument("--servable", type=Path, help="a version directory with a serving_default of `query`")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one round")
    parser.add_argument("--graph-calls", type=int, default=300, help="runs of the graph in a round")
    parser.add_argument("--rate", type=float, default=50.0, help="steady requests per second")
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--loads", type=int, default=5)
    parser.add_argument("--calm", type=float, default=4.0, help="seconds before every swap and load")
    parser.add_argument("--soak-seconds", type=float, default=60.0)
    parser.add_argument("--soak-swap-every", type=float, default=5.0, help="seconds")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    planes, reason = available_planes()
    if missing := set(options.planes or []).difference(planes):
        parser.error(f"--planes {' '.join(missing)}: {reason}")
    if "native" not in planes:
        print(f"the Python plane alone is measured: {reason}")
    CACHE.mkdir(parents=True, exist_ok=True)
    sizes = (options.items, options.dimension, options.heads, options.k)
    version = options.servable or servable.cached(CACHE, *sizes)
    run = Run(version, options.planes or planes, options)
    for name in options.only:
        print(f"\n## {name}\n\n{run.part(name)}", flush=True)
    what = options.servable or f"{options.items:,} items x {options.dimension}, m = {options.heads}, K = {options.k}"
    print(
        f"\n{what}; {os.cpu_count()} cores shared with the client, {platform.processor() or platform.machine()}, ",
        end="",
    )
    print(
        f"Python {platform.python_version()}; throughput: medians of {options.rounds} rounds of {options.seconds:g} s"
    )


if __name__ == "__main__":
    main()
