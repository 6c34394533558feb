"""Long run with swaps, bad requests and clients that disconnect: no valid request may fail, memory has to stay flat."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import statistics
import time
from typing import Any

import grpc
import numpy as np
from serving_bench.load import METHOD, TIMEOUT, until_version
from serving_bench.load import steady as steady_load
from serving_bench.servable import publish
from serving_bench.servers import Plane, Server, started
from serving_bench.setting import LOAD_SECONDS, Setting, dpsr_server

_SETTLE_SHARE = 0.25
"""Share of the run before memory counts, while allocators and caches fill."""


def soaked(setting: Setting, plane: Plane) -> list[dict[str, Any]]:
    """Row of a long run: counts of requests and failures, and the course of memory."""
    with started([setting.base_path], dpsr_server(plane)) as (server,):
        return [{"plane": plane, **asyncio.run(_soak(server, setting))}]


async def _soak(server: Server, setting: Setting) -> dict[str, Any]:
    options, base_path, requests = setting.options, setting.base_path, setting.requests
    seconds, rate, every = options.soak_seconds, options.rate, options.soak_swap_every
    memory: list[tuple[float, float]] = []
    counts = {"bad": 0, "bad that were answered": 0, "hung up": 0, "swaps": 0}
    begin = time.perf_counter()
    number = 1
    async with steady_load(server.address, requests, rate) as answers:
        nuisance = asyncio.create_task(_nuisance(server.address, requests, rate, counts))
        while time.perf_counter() < begin + seconds:
            await asyncio.sleep(every)
            number += 1
            publish(setting.version, base_path, number)
            await until_version(answers, number, LOAD_SECONDS)
            shutil.rmtree(base_path / str(number - 1))
            counts["swaps"] += 1
            await asyncio.sleep(min(every, 2.0))  # the old version is freed
            memory.append((time.perf_counter() - begin, server.memory_mib()))
        nuisance.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await nuisance
    settled = [mib for when, mib in memory if when > _SETTLE_SHARE * seconds] or [mib for _, mib in memory]
    third = max(1, len(settled) // 3)
    first, last = statistics.median(settled[:third]), statistics.median(settled[-third:])
    good = [answer for answer in answers if answer.code != "CANCELLED"]
    return {
        "good requests": len(good),
        "failed": sum(answer.code != "OK" for answer in good),
        **counts,
        "MiB first third": round(first),
        "MiB last third": round(last),
        "growth": f"{100 * (last / first - 1):+.1f} %",
        "MiB by tenths of the time": " ".join(f"{mib:.0f}" for mib in _by_tenths(memory, seconds)),
        "p99 ms": round(float(np.percentile([1000 * answer.seconds for answer in good], 99)), 1),
    }


def _by_tenths(memory: list[tuple[float, float]], seconds: float) -> list[float]:
    """Median of every tenth of the time."""
    tenths: dict[int, list[float]] = {}
    for when, mib in memory:
        tenths.setdefault(min(int(10 * when / seconds), 9), []).append(mib)
    return [statistics.median(seen) for _, seen in sorted(tenths.items())]


async def _nuisance(address: str, requests: list[bytes], rate: float, counts: dict[str, int]) -> None:
    """Sends bad requests at 5 % of the rate, and twice as many that are cancelled or whose channel closes."""
    dice = random.Random(1)
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(METHOD)
        while True:
            await asyncio.sleep(1 / (0.05 * rate))
            data = bytearray(requests[dice.randrange(len(requests))])
            for _ in range(dice.randint(1, 4)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            counts["bad"] += 1
            try:
                await call(bytes(data), timeout=TIMEOUT)
            except grpc.RpcError as error:
                counts["bad that were answered"] += error.code() not in (
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                )
            else:
                counts["bad that were answered"] += 1  # still a request, of other text
            leaving = call(requests[0], timeout=TIMEOUT)
            await asyncio.sleep(dice.random() * 0.002)
            leaving.cancel()
            async with grpc.aio.insecure_channel(address) as short_lived:  # closes with the call under way
                pending = short_lived.unary_unary(METHOD)(requests[0], timeout=TIMEOUT)
                await asyncio.sleep(dice.random() * 0.01)
                del pending
            counts["hung up"] += 2
