"""Benchmark of the model server: throughput against a plain server, processor time, swaps, a second model, a soak.

    python benchmarks/serving.py                                        # 20,000 items, K = 100: minutes
    python benchmarks/serving.py --items 1000000 --k 1000 --heads 2     # the index is built once, below build/bench
    python benchmarks/serving.py --only soak --soak-seconds 1200
    python benchmarks/serving.py --only throughput --servable DIR/1     # an exported servable

The plain server is a gRPC thread pool around ``tf.saved_model.load``. Both servers run at the same time, each in a
process of its own, and the same client loads them in turns; a figure is the median of the rounds, CPU ms the server's
processor time per request. Swaps, the second model and the soak send requests at a steady rate, and a latency counts
from the time at which the request was due. The ratio of a swap stands beside that of a calm second, which shows the
influence of other work on the machine. Fuzzing is a test:
``DPSR_FUZZ_REQUESTS=100000 pytest -m slow tests/serving/test_fuzz.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from serving_bench import servable
from serving_bench.load import METHOD, closed_loops, make_requests, p99, reload_config, steady, until_version
from serving_bench.servable import NAME, publish
from serving_bench.servers import Server, graph_cpu_seconds, run_dpsr, run_plain, started
from serving_bench.soak import soak
from tabulate import tabulate

CACHE = Path(__file__).resolve().parent.parent / "build" / "bench" / "serving"
LOAD_SECONDS = 600.0


class Setting:
    """One servable below fresh base paths, and the options of the run."""

    def __init__(self, version: Path, folder: Path, options: argparse.Namespace) -> None:
        self.version = version
        self.base_path = folder / NAME
        self.second = folder / "second"
        self.options = options
        for base_path in (self.base_path, self.second):
            base_path.mkdir()
            publish(version, base_path, 1)
        self.requests = make_requests(NAME, 500)


def check_answers(servers: list[Server], requests: list[bytes]) -> None:
    """Fails unless both servers return the same items."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    for request in requests:
        items = []
        for server in servers:
            with grpc.insecure_channel(server.address) as channel:
                answer = channel.unary_unary(METHOD)(request, timeout=60)
            items.append(tf.make_ndarray(predict_pb2.PredictResponse.FromString(answer).outputs["item_id"]))
        np.testing.assert_array_equal(*items)


def throughput(setting: Setting) -> str:
    """Table of both servers at every concurrency, with processor time per request over that of the graph alone."""
    options, rows = setting.options, []
    graph = [graph_cpu_seconds([setting.base_path], options.graph_calls)]
    with started([setting.base_path], run_plain, run_dpsr) as servers:
        check_answers(servers, setting.requests[:20])
        for concurrency in options.concurrency:
            rows.append(_compare(servers, setting, concurrency))
    graph.append(graph_cpu_seconds([setting.base_path], options.graph_calls))
    plain_ms, lean_ms = (1000 * statistics.mean(runs) for runs in zip(*graph, strict=True))
    for row in rows:
        row += [row[-2] / plain_ms, row[-2] / lean_ms]
    names = [f"{name} {what}" for name in ("plain", "dpsr") for what in ("req/s", "p50 ms", "p99 ms", "CPU ms")]
    return tabulate(rows, headers=["callers", *names, "ratio req/s", "CPU / graph", "CPU / lean"], floatfmt=",.2f") + (
        f"\nprocessor time of one run of the graph in process, before and after: {plain_ms:.2f} ms by "
        f"tf.saved_model.load, {lean_ms:.2f} ms by the server's own session (lean). Bars at 32 callers: ratio req/s >= "
        "1.5, CPU / graph <= 1.6"
    )


def _compare(servers: list[Server], setting: Setting, concurrency: int) -> list[Any]:
    figures: list[list[list[float]]] = [[], []]
    for turn in range(setting.options.rounds):
        for place in (0, 1) if turn % 2 else (1, 0):
            before = servers[place].cpu_seconds()
            rate, latencies = asyncio.run(
                closed_loops(servers[place].address, setting.requests, concurrency, setting.options.seconds)
            )
            cpu = 1000 * (servers[place].cpu_seconds() - before) / len(latencies)
            figures[place].append([rate, *np.percentile(latencies, [50, 99]), cpu])
    plain, ours = ([statistics.median(column) for column in zip(*rows, strict=True)] for rows in figures)
    ratio = statistics.median(mine[0] / theirs[0] for theirs, mine in zip(*figures, strict=True))
    return [concurrency, *plain, *ours, ratio]


def swaps(setting: Setting) -> str:
    """Table of swaps to new versions under a steady rate of requests."""

    async def run(server: Server) -> tuple[list[list[float]], int, int]:
        rows = []
        async with steady(server.address, setting.requests, setting.options.rate) as answers:
            for number in range(2, setting.options.swaps + 2):
                await asyncio.sleep(setting.options.calm)
                memory = [server.memory_mib()]
                watching = asyncio.create_task(_watch_memory(server, memory))
                published = time.perf_counter()
                publish(setting.version, setting.base_path, number)
                swapped = await until_version(answers, number, LOAD_SECONDS)
                await asyncio.sleep(1.5)
                watching.cancel()
                shutil.rmtree(setting.base_path / str(number - 1))
                before = p99(answers, published - setting.options.calm + 0.5, published - 1)
                calm = p99(answers, published - 1, published)
                second = p99(answers, swapped - 0.5, swapped + 0.5)
                loading = p99(answers, published, swapped)
                ratios = [second / before, calm / before]
                rows.append([before, loading, second, *ratios, swapped - published, memory[0], max(memory)])
        return rows, len(answers), sum(answer.code != "OK" for answer in answers)

    with started([setting.base_path], run_dpsr) as (server,):
        rows, count, failures = asyncio.run(run(server))
    columns = list(zip(*rows, strict=True))
    table = [
        ["median", *(statistics.median(column) for column in columns)],
        ["9 of 10", *(float(np.percentile(column, 90)) for column in columns)],
        ["worst", *(max(column) for column in columns)],
    ]
    headers = [
        "swaps",
        "p99 ms before",
        "p99 ms while loading",
        "p99 ms swap second",
        "ratio",
        "ratio of a calm second",
    ]
    headers += ["s to swap", "MiB before", "MiB at most"]
    return tabulate(table, headers=headers, floatfmt=",.2f") + (
        f"\n{len(rows)} swaps at {setting.options.rate:g} req/s, {count:,} requests, {failures} failures. Bars: 0 "
        "failures, ratio <= 3"
    )


async def _watch_memory(server: Server, seen: list[float]) -> None:
    while True:
        await asyncio.sleep(0.1)
        seen.append(server.memory_mib())


def second_model(setting: Setting) -> str:
    """Table of the latency of one model while another is loaded into the same process."""

    async def run(server: Server) -> list[list[float]]:
        rows, loop = [], asyncio.get_running_loop()
        async with steady(server.address, setting.requests, setting.options.rate) as answers:
            for _ in range(setting.options.loads):
                begin = time.perf_counter()
                await asyncio.sleep(setting.options.calm)
                start = time.perf_counter()
                both = {NAME: setting.base_path, "second": setting.second}
                await loop.run_in_executor(None, reload_config, server.address, both)
                end = max(time.perf_counter(), start + 1)
                await asyncio.sleep(max(0.0, end - time.perf_counter()) + 0.5)
                middle = (begin + start) / 2
                before, calm, during = (
                    p99(answers, begin, middle),
                    p99(answers, middle, start),
                    p99(answers, start, end),
                )
                rows.append([before, during, during / before, calm / before, end - start])
                await loop.run_in_executor(None, reload_config, server.address, {NAME: setting.base_path})
        if failed := sum(answer.code != "OK" for answer in answers):
            raise SystemExit(f"{failed} requests failed")
        return rows

    with started([setting.base_path], run_dpsr) as (server,):
        rows = asyncio.run(run(server))
    columns = list(zip(*rows, strict=True))
    table = [["median", *(statistics.median(column) for column in columns)], ["worst", *map(max, columns)]]
    headers = ["loads", "p99 ms before", "p99 ms during", "ratio", "ratio of a calm time", "s"]
    return tabulate(table, headers=headers, floatfmt=",.2f") + (
        f"\n{len(rows)} loads of a second model at {setting.options.rate:g} req/s. Bar: ratio <= 2"
    )


def soaked(setting: Setting) -> str:
    """Table of a long run; see ``serving_bench.soak``."""
    options = setting.options
    with started([setting.base_path], run_dpsr) as (server,):
        figures = asyncio.run(
            soak(
                server,
                setting.version,
                setting.base_path,
                setting.requests,
                seconds=options.soak_seconds,
                rate=options.rate,
                every=options.soak_swap_every,
            )
        )
    return tabulate([figures], headers="keys") + (
        f"\n{options.soak_seconds:g} s. Bars: no good request failed, every bad one answered, growth within 3 %"
    )


PARTS: dict[str, Callable[[Setting], str]] = {
    "throughput": throughput,
    "swaps": swaps,
    "second-model": second_model,
    "soak": soaked,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS))
    parser.add_argument("--servable", type=Path, help="a version directory with a serving_default of `query`")
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one round")
    parser.add_argument("--graph-calls", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=50.0, help="steady requests per second")
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--loads", type=int, default=5)
    parser.add_argument("--calm", type=float, default=4.0, help="seconds before every swap and load")
    parser.add_argument("--soak-seconds", type=float, default=60.0)
    parser.add_argument("--soak-swap-every", type=float, default=5.0, help="seconds")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sizes = (options.items, options.dimension, options.heads, options.k)
    version = options.servable or servable.cached(CACHE, *sizes)
    CACHE.mkdir(parents=True, exist_ok=True)
    for part in options.only:
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:  # on the file system of the servable: links, no copies
            print(f"\n## {part}\n\n{PARTS[part](Setting(version, Path(folder), options))}", flush=True)
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
