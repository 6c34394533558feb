"""Benchmark of a fleet: moves, promotions, reloads, kills, A/B shares, the proxy's cost, models on demand.

    python benchmarks/fleet.py                         # every part; some 25 minutes
    python benchmarks/fleet.py --only kills proxy
    python benchmarks/fleet.py --models 60 --seconds 60

Real processes of this machine: `dpsr fleet up --local`, HAProxy, the controller, `dpsr serve`. The callers are a
process of their own, each caller with a connection of its own. Servers, proxy and callers share the cores.
"""

from __future__ import annotations

import argparse
import collections
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fleet_bench.traffic import Answers, Load, Traffic, request_of, zipf
from fleet_bench.world import World, cpu_seconds
from tabulate import tabulate

from dpsr.evaluation.report.machine import describe_machine
from dpsr.serving.fleet.operations import order_move, order_promotion
from dpsr.serving.fleet.simulation import belady_hits

SMALL = {"memory_gib": 0.02}


def describe_failures(answers: Answers) -> str:
    """Number of failed requests, and the most frequent of them."""
    kinds = collections.Counter((code, text[:80]) for _, _, code, text in answers.failures)
    return f"{len(answers.failures)}" + "".join(f"; {n} x {code}: {text}" for (code, text), n in kinds.most_common(3))


def steady(options: argparse.Namespace) -> str:
    """Moves, promotions and changes of the configuration under traffic."""
    names = [f"m{number:03}" for number in range(options.models)]
    aliases = "".join(f"[aliases.a{n}]\nvariants = {{{names[2 * n]} = 1}}\n" for n in range(5))
    with World(options.folder / "steady", servers=4, models=dict.fromkeys(names, SMALL), more=aliases) as world:
        asked = [*names, *(f"a{number}" for number in range(5))]
        random = np.random.default_rng(1)
        events = ["move"] * options.moves + ["promote"] * options.promotions + ["reload"] * options.reloads
        random.shuffle(events)
        load = Load(world.address, {n: request_of(n) for n in asked}, zipf(len(asked)), callers=8, pause=0.005)
        with Traffic(load) as traffic:
            begin = time.monotonic()
            for number, event in enumerate(events):
                if event == "move":
                    _move(world, str(random.choice(names)), random)
                elif event == "promote":
                    alias = f"a{random.integers(5)}"
                    variants = {str(name): float(random.integers(1, 10)) for name in random.choice(names, 2, False)}
                    order_promotion(world.config, alias, variants)
                else:
                    world.add(f"late{number}", SMALL)
                    world.write()
                time.sleep(max(0.0, begin + (number + 1) * options.seconds / len(events) - time.monotonic()))
            world.until(world.is_complete, 300)
            answers = traffic.stop()
        done = len(world.routes().models) == len(names) + options.reloads
        status = world.status()
    assert done
    assert status is not None
    assert not status.missing
    return (
        f"{options.models} models, 4 servers, 8 callers, {time.monotonic() - begin:.0f} s: {options.moves} moves, "
        f"{options.promotions} promotions, {options.reloads} reloads: {answers.requests:,} requests, failed "
        f"{describe_failures(answers)}; p50 {answers.percentile(50):.1f} ms, p99 {answers.percentile(99):.1f} ms"
    )


def _move(world: World, model: str, random: np.random.Generator) -> None:
    holders = world.holders(model)
    free = sorted(set(world.routes().servers) - set(holders))
    if holders and free:
        try:
            order_move(world.config, model, holders[0], str(random.choice(free)))
        except Exception as error:  # the status is a second old: the model has moved meanwhile
            print(f"  (no move: {error})", flush=True)


def kills(options: argparse.Namespace) -> str:
    """SIGKILL of a server, of HAProxy, of the controller, of both."""
    pairs = {f"two{number:03}": {**SMALL, "replicas": 2} for number in range(options.models // 2)}
    singles = {f"one{number:03}": SMALL for number in range(options.models // 2)}
    lines = []
    with World(options.folder / "kills", servers=4, models={**pairs, **singles}) as world:
        requests = {name: request_of(name) for name in (*pairs, *singles)}
        load = Load(world.address, requests, [1.0] * len(requests), callers=8, pause=0.005)

        def during(action: Callable[[], float], rest: float) -> tuple[Answers, float]:
            with Traffic(load) as traffic:
                time.sleep(2)
                killed_at = action()
                time.sleep(rest)
                world.until(world.is_complete, 300)
                return traffic.stop(), killed_at

        lost = {name for name in singles if world.holders(name) == ["local2"]}
        answers, killed_at = during(lambda: world.kill("local2.config"), 30)
        of_pairs = [entry for entry in answers.failures if entry[1] in pairs]
        of_others = [entry for entry in answers.failures if entry[1] in singles and entry[1] not in lost]
        back = max((entry[0] for entry in answers.failures), default=killed_at) - killed_at
        lines.append(
            f"a server of four killed: {answers.requests:,} requests; failed: {len(of_pairs)} of models with two "
            f"replicas, {len(of_others)} of models of other servers, "
            f"{len(answers.failures) - len(of_pairs) - len(of_others)} of its {len(lost)} models with one, the last "
            f"{back:.1f} s after the kill"
        )
        for what, words in (
            ("HAProxy", [("haproxy", "-W")]),
            ("the controller", [("fleet", "controller")]),
            ("both", [("haproxy", "-W"), ("fleet", "controller")]),
        ):
            answers, killed_at = during(lambda words=words: min([world.kill(*one) for one in words]), 6)  # type: ignore[misc]
            back = max((entry[0] for entry in answers.failures), default=killed_at) - killed_at
            failed = describe_failures(answers)
            lines.append(f"{what} killed: {answers.requests:,} requests, failed {failed}; the last {back:.2f} s after")
    return "\n".join(lines)


def split(options: argparse.Namespace) -> str:
    """Shares of an alias over many requests, and stickiness."""
    alias = '[aliases.shop]\nvariants = {v41 = 90, v42 = 10}\nsticky_header = "x-user"\n'
    with World(options.folder / "split", servers=1, models={"v41": SMALL, "v42": SMALL}, more=alias) as world:
        count = options.requests
        load = Load(world.address, {"shop": request_of("shop")}, [1.0], keys=("x-user", 10**9), count=count)
        with Traffic(load) as traffic:
            answers = traffic.wait()
        share = answers.variants.get("v42", 0) / sum(answers.variants.values())
        twice = Load(world.address, {"shop": request_of("shop")}, [1.0], keys=("x-user", 500), count=count // 5)
        with Traffic(twice) as traffic:
            sticky = traffic.wait()
    changed = sum(len(variants) > 1 for variants in sticky.variants_of.values())
    return (
        f"alias 90 / 10, {answers.requests:,} requests of different users: {share:.3%} to the second variant, failed "
        f"{describe_failures(answers)}; {sticky.requests:,} requests of {len(sticky.variants_of)} users: {changed} saw "
        "two variants"
    )


def proxy(options: argparse.Namespace) -> str:
    """Latency that the proxy adds, and its processor time, at 1, 8 and 32 callers."""
    rows = []
    alias = "[aliases.shop]\nvariants = {m = 1}\n"
    with World(options.folder / "proxy", servers=1, models={"m": SMALL}, more=alias) as world:
        direct = world.routes().servers["local1"].grpc
        for callers in (1, 8, 32):
            figures: dict[str, list[tuple[float, float, float]]] = collections.defaultdict(list)
            for _ in range(options.rounds):
                for name, address, model in (
                    ("direct", direct, "m"),
                    ("proxy", world.address, "m"),
                    ("alias", world.address, "shop"),
                ):
                    workers = world.haproxy_workers()
                    before = cpu_seconds(workers)
                    load = Load(address, {model: request_of(model)}, [1.0], callers=callers)
                    with Traffic(load) as traffic:
                        time.sleep(options.calm)
                        answers = traffic.stop()
                    cpu = 1000 * (cpu_seconds(workers) - before) / answers.requests
                    figures[name].append((answers.percentile(50), answers.percentile(99), cpu))
            medians = {name: np.median(np.array(values), axis=0) for name, values in figures.items()}
            for name, (p50, p99, cpu) in medians.items():
                added = (p50 - medians["direct"][0], p99 - medians["direct"][1])
                rows.append((callers, name, p50, p99, *added, cpu if name != "direct" else 0.0))
    headers = ("callers", "way", "p50 ms", "p99 ms", "added p50", "added p99", "proxy CPU ms")
    return tabulate(rows, headers, floatfmt=".2f")


def on_demand(options: argparse.Namespace) -> str:
    """Models of which a part fits, loaded at their requests: hits against Belady's optimum, and failed requests."""
    fits = options.models * 40 // 300
    names = [f"m{number:03}" for number in range(options.models)]
    models: dict[str, dict[str, Any]] = {name: {"on_demand": True, "memory_gib": 1.0} for name in names}
    more = "[control]\nmin_resident_seconds = 0.5\nwait_seconds = 60.0\n"
    world = World(options.folder / "demand", servers=2, models=models, more=more, server_gib=fits / 2 + 0.5)
    with world:
        load = Load(
            world.address, {n: request_of(n) for n in names}, zipf(len(names)), callers=8, count=options.demands
        )
        start = time.monotonic()
        with Traffic(load) as traffic:
            answers = traffic.wait()
        seconds = time.monotonic() - start
        loads = world.loads()
    hits = answers.requests - loads
    best = belady_hits([names.index(name) for name in answers.order], fits)
    slow = np.percentile(answers.latencies, 99) / 1000
    return (
        f"{len(names)} models on demand where {fits} fit, {answers.requests:,} requests of 8 callers in {seconds:.0f} "
        f"s: hit ratio {hits / answers.requests:.3f}, Belady {best / answers.requests:.3f}: {hits / best:.2f} of it; "
        f"failed {describe_failures(answers)}; p50 {answers.percentile(50):.1f} ms, p99 {slow:.1f} s"
    )


PARTS = {"steady": steady, "kills": kills, "split": split, "proxy": proxy, "on_demand": on_demand}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=600.0, help="of the part steady")
    parser.add_argument("--moves", type=int, default=50)
    parser.add_argument("--promotions", type=int, default=20)
    parser.add_argument("--reloads", type=int, default=5)
    parser.add_argument("--requests", type=int, default=100_000, help="of the part split")
    parser.add_argument("--rounds", type=int, default=3, help="of the part proxy")
    parser.add_argument("--calm", type=float, default=5.0, help="seconds of one measurement of the part proxy")
    parser.add_argument("--demands", type=int, default=2_000, help="requests of the part on_demand")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        options.folder = Path(folder)
        for part in options.only:
            print(f"\n## {part}\n\n{PARTS[part](options)}", flush=True)
    print(f"\n{describe_machine()}")


if __name__ == "__main__":
    main()
