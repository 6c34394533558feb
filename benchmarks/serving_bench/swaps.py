"""Latency at a steady rate of requests while versions change and while another model is loaded."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
from serving_bench.load import p99, reload_config, steady, until_version
from serving_bench.servable import NAME, publish
from serving_bench.servers import Plane, Server, started
from serving_bench.setting import LOAD_SECONDS, Setting, dpsr_server

SWAP_HEADERS = [
    "plane",
    "swaps",
    "p99 ms before",
    "p99 ms while loading",
    "p99 ms swap second",
    "ratio",
    "ratio of a calm second",
    "s to swap",
    "MiB before",
    "MiB at most",
    "requests",
    "failed",
]
LOAD_HEADERS = [
    "plane",
    "loads",
    "p99 ms before",
    "p99 ms during",
    "ratio",
    "ratio of a calm time",
    "s",
    "requests",
    "failed",
]

Run = tuple[list[list[float]], int, int]
"""Rows of figures, requests that were sent, and those that failed."""


def swaps(setting: Setting, plane: Plane) -> list[list[Any]]:
    """Rows of swaps to new versions under a steady rate of requests: median, nine of ten, worst."""

    async def run(server: Server) -> Run:
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

    columns, sent, failed = _measured(setting, plane, run)
    return [
        [plane, "median", *map(statistics.median, columns), sent, failed],
        [plane, "9 of 10", *(float(np.percentile(column, 90)) for column in columns)],
        [plane, "worst", *map(max, columns)],
    ]


def _measured(
    setting: Setting, plane: Plane, run: Callable[[Server], Coroutine[Any, Any, Run]]
) -> tuple[list[tuple[float, ...]], int, int]:
    """Columns of the rows that a run on a fresh server gives, requests that it sent, and those that failed."""
    with started([setting.base_path], dpsr_server(plane)) as (server,):
        rows, sent, failed = asyncio.run(run(server))
    return list(zip(*rows, strict=True)), sent, failed


async def _watch_memory(server: Server, seen: list[float]) -> None:
    while True:
        await asyncio.sleep(0.1)
        seen.append(server.memory_mib())


def second_model(setting: Setting, plane: Plane) -> list[list[Any]]:
    """Rows of the latency of one model while another is loaded into the same process: median, worst."""

    async def run(server: Server) -> Run:
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
                before, calm = p99(answers, begin, middle), p99(answers, middle, start)
                during = p99(answers, start, end)
                rows.append([before, during, during / before, calm / before, end - start])
                await loop.run_in_executor(None, reload_config, server.address, {NAME: setting.base_path})
        return rows, len(answers), sum(answer.code != "OK" for answer in answers)

    columns, sent, failed = _measured(setting, plane, run)
    return [[plane, "median", *map(statistics.median, columns), sent, failed], [plane, "worst", *map(max, columns)]]
