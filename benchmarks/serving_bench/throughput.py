"""Throughput of the servers in closed loops, and their processor time over that of the graph."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
from serving_bench.closed_loop import Client, make_client
from serving_bench.load import METHOD
from serving_bench.servers import GraphSeconds, Plane, Server, run_plain, started, started_graph
from serving_bench.setting import Setting, dpsr_server
from tabulate import tabulate

HEADERS = [
    "callers",
    "server",
    "req/s",
    "p50 ms",
    "p99 ms",
    "CPU ms",
    "CPU / graph",
    "CPU / saved_model.load",
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
    paths = [setting.base_path]
    with (
        started(paths, run_plain, *map(dpsr_server, planes)) as running,
        started_graph(paths, options.graph_calls) as graph,
    ):
        servers = dict(zip(["plain", *(f"{plane} plane" for plane in planes)], running, strict=True))
        _check_answers(running, setting.requests[:20])
        found = [(callers, _measure(client, servers, graph, setting, callers)) for callers in options.concurrency]
    peer = "python plane" if "python plane" in servers else "plain"
    rows = [[callers, name, *_row(rounds, name, peer)] for callers, rounds in found for name in servers]
    session_ms, function_ms = (
        1000 * statistics.median(column)
        for column in zip(*(turn.graph for _, rounds in found for turn in rounds), strict=True)
    )
    headers = [header.replace("Python plane", peer) for header in HEADERS]
    return tabulate(rows, headers=headers, floatfmt=",.2f") + (
        f"\nThe graph: one run of one query in process, measured in each round, by the server's own session "
        f"{session_ms:.3f} ms of processor time, by tf.saved_model.load {function_ms:.3f} ms. A server may run many "
        f"queries at a time. Client {client.description}.\n"
        "Bars of the native plane at 32 callers: 20,000 items, K = 100: CPU / graph <= 2.0, 2.5 times the Python "
        "plane's req/s; 1 M items, K = 1,000: <= 1.25, 1.2 times. p50 at one caller: not above the Python plane's"
    )


class Round(NamedTuple):
    """Figures of one turn of all servers."""

    graph: GraphSeconds
    servers: dict[str, Figures]


class Figures(NamedTuple):
    """Of one server in one round; times a request."""

    rate: float
    median_ms: float
    p99_ms: float
    cpu_ms: float
    client_cpu_ms: float


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
    client: Client, servers: dict[str, Server], graph: Callable[[], GraphSeconds], setting: Setting, callers: int
) -> list[Round]:
    rounds, names = [], list(servers)
    for turn in range(setting.options.rounds):
        figures = {}
        first = turn % len(names)
        graph_seconds = graph()
        for name in names[first:] + names[:first]:
            before = servers[name].cpu_seconds()
            load = client.load(servers[name].address, callers, setting.options.seconds)
            cpu = servers[name].cpu_seconds() - before
            cpu_ms, client_cpu_ms = (1000 * seconds / load.answers for seconds in (cpu, load.cpu_seconds))
            rate = load.answers / load.seconds
            figures[name] = Figures(rate, load.median_ms, load.p99_ms, cpu_ms, client_cpu_ms)
        rounds.append(Round(graph_seconds, figures))
    return rounds


def _row(rounds: list[Round], name: str, peer: str) -> list[float]:
    """Medians over the rounds, of ratios too: what disturbs a round disturbs all of it."""
    columns = []
    for graph, servers in rounds:
        ours = servers[name]
        over = (ours.cpu_ms / (1000 * seconds) for seconds in graph)
        columns.append([*ours[:4], *over, ours.rate / servers[peer].rate, ours.client_cpu_ms])
    return [statistics.median(column) for column in zip(*columns, strict=True)]
