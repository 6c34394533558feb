"""Training on parameter servers: bytes of a step on the sockets, beside lookups on the worker.

    python benchmarks/cluster.py                # 1, 2 and 4 parameter servers, on a generated shop; 10 minutes
    python benchmarks/cluster.py --items 5000 --clicks 50000 --ps 1
    python benchmarks/cluster.py --items 5000 --clicks 50000 --ps 2 --set cluster.split_above_bytes=1000000

Every task is a process of its own on loopback. Bytes are what the kernel counted on each connection of the tasks'
ports, in both directions (``ss``), between two moments without traffic. The peer is the same model over the
same batches with the bags looked up on the worker (``tf.nn.safe_embedding_lookup_sparse``), ``IndexedSlices`` as
gradients and stock optimiser ops on the parameter server. ``cluster_speed.py``, ``cluster_quality.py``,
``cluster_kills.py`` and ``cluster_memory.py`` measure whole trainings.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from cluster_bench.step import measured
from tabulate import tabulate

from dpsr.cluster.plan import workers_before_saturation
from dpsr.config import load_config

CONFIG = Path(__file__).parent.parent / "examples" / "paper.toml"
GIGABITS = 10.0


KINDS = {
    "peer: rows to the worker": (True, []),
    "bags summed on ps, dense every step": (False, ["cluster.dense_sync_steps=1"]),
    "the same, dense every 16 steps": (False, ["cluster.dense_sync_steps=16"]),
    "the same, bfloat16": (False, ["cluster.dense_sync_steps=16", "cluster.wire=bfloat16"]),
}
RECIPE = ["training.batch_size=64", "loss.group_size=64"]


def prepared_shop(folder: Path, items: int, clicks: int) -> list[str]:
    """The paper's recipe on a generated shop, as overrides of its example."""
    from dpsr.data.demo_shop.shop import generate
    from dpsr.data.prepare.job import prepare

    generate(folder / "shop", items=items, users=max(100, items // 5), interactions=clicks, seed=1)
    paths = [f"data.{name}.path={folder / 'shop' / name}.parquet" for name in ("items", "users", "interactions")]
    overrides = [f"work_dir={folder}", *paths, *RECIPE]
    prepare(load_config(CONFIG, overrides), progress=False)
    return overrides


def planned_bytes(overrides: list[str], ps: int, peer: bool) -> float:
    """What ``dpsr cluster plan`` expects."""
    from dpsr.cluster.plan import make_plan
    from dpsr.data.dataset.tables import Dataset

    config = load_config(CONFIG, overrides)
    plan = make_plan(config, Dataset.load(config.dataset_dir))
    return (plan.peer_traffic() if peer else plan.traffic(ps)).total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000, help="of the generated shop")
    parser.add_argument("--clicks", type=int, default=1_000_000)
    parser.add_argument("--ps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for all but the peer")
    options = parser.parse_args()
    rows, load = [], os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        shop = prepared_shop(Path(name), options.items, options.clicks)
        for ps in options.ps:
            of_peer = None
            for kind, (peer, overrides) in KINDS.items():
                overrides = overrides if peer else [*overrides, *options.set]
                request = {"config": str(CONFIG), "overrides": [*shop, *overrides], "workers": 1, "ps": ps}
                found = measured(**request, peer=peer, steps_of_unit=32, units=8)
                of_peer = of_peer or found
                expected = planned_bytes(request["overrides"], ps, peer)
                most = workers_before_saturation(found["bytes"], found["seconds_of_step"], GIGABITS)
                rows.append([ps, kind, f"{found['bytes']:,.0f}", f"{of_peer['bytes'] / found['bytes']:.1f} x"])
                rows[-1] += [
                    f"{found['bytes'] / expected - 1:+.1%}",
                    f"{found['examples_per_second']:,.0f}",
                    f"{most:.1f}",
                ]
    headers = ["ps", "", "bytes a step", "less", "over plan", "examples/s", f"workers on {GIGABITS:g} Gbit/s"]
    print(tabulate(rows, headers=headers, disable_numparse=True), end="\n\n")
    print(f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, load {load:.1f} at the start")


if __name__ == "__main__":
    main()
