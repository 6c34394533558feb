"""Throughput of the servers in closed loops, and their processor time over that of the graph."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from serving_bench.closed_loop import Client, make_client
from serving_bench.load import METHOD
from serving_bench.servers import Plane, Server, graph_cpu_seconds, run_plain, started
from serving_bench.setting import Setting, dpsr_server
from tabulate import tabulate

HEADERS = [
    "callers",
    "server",
    "req/s",
    "p50 ms",
    "p99 ms",
    "CPU ms",
    "CPU / saved_model.load",
    "CPU / graph",
    "req/s / Python plane",
    "client CPU ms",
]


def throughput(setting: Setting, planes: list[Plane], cache: Path) -> str:
    """Table of the plain server and of dpsr's data planes, at every number of callers.

    Args:
        setting: the servable and the options.
        planes: data planes; ratios of requests per second are to ``python``, or to the plain server without it.
        cache: directory that keeps the compiled client.
    """
    options = setting.options
    client = make_client(cache, setting.requests, setting.folder)
    graph = [graph_cpu_seconds([setting.base_path], options.graph_calls)]
    with started([setting.base_path], run_plain, *map(dpsr_server, planes)) as running:
        servers = dict(zip(["plain", *(f"{plane} plane" for plane in planes)], running, strict=True))
        _check_answers(running, setting.requests[:20])
        found = {callers: _measure(client, servers, setting, callers) for callers in options.concurrency}
    graph.append(graph_cpu_seconds([setting.base_path], options.graph_calls))
    plain_ms, lean_ms = (1000 * statistics.mean(runs) for runs in zip(*graph, strict=True))
    peer = "python plane" if "python plane" in servers else "plain"
    rows = [
        [callers, name, *_row(rounds[name], rounds[peer], plain_ms, lean_ms)]
        for callers, rounds in found.items()
        for name in servers
    ]
    headers = [header.replace("Python plane", peer) for header in HEADERS]
    return tabulate(rows, headers=headers, floatfmt=",.2f") + (
        f"\nThe graph is one run in process, by the server's own session {lean_ms:.3f} ms, by tf.saved_model.load "
        f"{plain_ms:.3f} ms of processor time, a mean of before and after. Client {client.description}.\n"
        "Bars of the native plane at 32 callers: 20,000 items, K = 100: CPU / graph <= 2.0, 2.5 times the Python "
        "plane's req/s; 1 M items, K = 1,000: <= 1.25, 1.2 times. p50 at one caller: not above the Python plane's"
    )


def _check_answers(servers: list[Server], requests: list[bytes]) -> None:
    """Fails unless all servers return the same items."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    for request in requests:
        items = []
        for server in servers:
            with grpc.insecure_channel(server.address) as channel:
                answer = channel.unary_unary(METHOD)(request, timeout=60)
            items.append(tf.make_ndarray(predict_pb2.PredictResponse.FromString(answer).outputs["item_id"]))
        for other in items[1:]:
            np.testing.assert_array_equal(items[0], other)


def _measure(
    client: Client, servers: dict[str, Server], setting: Setting, callers: int
) -> dict[str, list[list[float]]]:
    """By server, a row a round: requests per second, p50, p99, CPU ms, client CPU ms."""
    rounds: dict[str, list[list[float]]] = {name: [] for name in servers}
    names = list(servers)
    for turn in range(setting.options.rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            before = servers[name].cpu_seconds()
            load = client.load(servers[name].address, callers, setting.options.seconds)
            cpu = servers[name].cpu_seconds() - before
            per_answer = [1000 * seconds / load.answers for seconds in (cpu, load.cpu_seconds)]
            rounds[name].append([load.answers / load.seconds, load.median_ms, load.p99_ms, *per_answer])
    return rounds


def _row(rounds: list[list[float]], peers: list[list[float]], plain_ms: float, lean_ms: float) -> list[Any]:
    rate, p50, p99, cpu, client_cpu = (statistics.median(column) for column in zip(*rounds, strict=True))
    ratio = statistics.median(ours[0] / theirs[0] for ours, theirs in zip(rounds, peers, strict=True))
    return [rate, p50, p99, cpu, cpu / plain_ms, cpu / lean_ms, ratio, client_cpu]
