"""Training on parameter servers: bytes of a step on the sockets, beside lookups on the worker.

    python benchmarks/cluster.py                # 1, 2 and 4 parameter servers, on a generated shop
    python benchmarks/cluster.py --items 5000 --clicks 50000 --ps 1

Every task is a process of its own on loopback. Bytes are what the kernel counted on each connection of the tasks'
ports, in both directions (``ss``), between two moments without traffic. The peer is the same model over the
same batches with the bags looked up on the worker (``tf.nn.safe_embedding_lookup_sparse``), ``IndexedSlices`` as
gradients and stock optimiser ops on the parameter server. ``cluster_training.py`` measures whole trainings.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tabulate import tabulate

from dpsr.cluster.plan import workers_before_saturation
from dpsr.cluster.tasks import CHIEF, PS, WORKER, Task
from dpsr.config import Config, load_config

CONFIG = Path(__file__).parent.parent / "examples" / "paper.toml"
CLOCK = os.sysconf("SC_CLK_TCK")
GIGABITS = 10.0


# ---------------------------------------------------------------------------------------------- tasks and their sockets


def free_addresses(workers: int, ps: int) -> dict[str, tuple[str, ...]]:
    probes = [socket.socket() for _ in range(1 + workers + ps)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    names = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    for probe in probes:
        probe.close()
    return {CHIEF: tuple(names[:1]), WORKER: tuple(names[1 : 1 + workers]), PS: tuple(names[1 + workers :])}


@contextmanager
def tasks_running(addresses: dict[str, tuple[str, ...]], command: Sequence[str]) -> Iterator[dict[str, int]]:
    """Workers and parameter servers as processes; yields their process ids by name."""
    tasks = [Task(job, index, addresses) for job in (PS, WORKER) for index in range(len(addresses[job]))]
    processes = {
        task.name: subprocess.Popen(
            command, env={**os.environ, "TF_CONFIG": task.to_tf_config()}, stdout=subprocess.DEVNULL
        )
        for task in tasks
    }
    try:
        yield {name: process.pid for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Counted:
    """Bytes of one connection, as its listening end has them."""

    sent: int
    received: int


def connections(addresses: dict[str, tuple[str, ...]]) -> dict[tuple[str, str], Counted]:
    """Every open connection to a port of the cluster: (task that listens, the other end's port) to its bytes."""
    # By port: where a server listens on IPv6 and IPv4 together, addresses are written in the former's way.
    names = {
        address.rpartition(":")[2]: f"{job} {index}"
        for job, places in addresses.items()
        for index, address in enumerate(places)
    }
    lines = subprocess.run(["ss", "-tinH", "state", "established"], capture_output=True, text=True, check=True).stdout
    found = {}
    for head, details in zip(*[iter(lines.splitlines())] * 2, strict=True):
        local, remote = (address.rpartition(":")[2] for address in head.split()[2:4])
        if local in names:
            sent, received = (re.search(rf"{key}:(\d+)", details) for key in ("bytes_acked", "bytes_received"))
            found[names[local], remote] = Counted(*(int(match[1]) if match else 0 for match in (sent, received)))
    return found


def difference(before: dict, after: dict) -> dict[str, Counted]:
    """What each task's port moved between two looks."""
    moved: dict[str, Counted] = {}
    for (name, remote), now in after.items():
        then, so_far = before.get((name, remote), Counted(0, 0)), moved.get(name, Counted(0, 0))
        moved[name] = Counted(so_far.sent + now.sent - then.sent, so_far.received + now.received - then.received)
    return moved


def processor_seconds(pids: dict[str, int]) -> dict[str, tuple[float, float]]:
    """Of every process, in user code and in the kernel."""
    found = {}
    for name, pid in pids.items():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        found[name] = int(fields[11]) / CLOCK, int(fields[12]) / CLOCK
    return found


# -------------------------------------------------------------------------- one measurement, in a process of its own


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Connects as the chief, takes steps, and counts; TensorFlow connects to one cluster in a process's life."""
    import tensorflow as tf

    from dpsr.cluster.sockets import wait_for
    from dpsr.cluster.training import ClusterTraining
    from dpsr.cluster.watchdog import Watchdog
    from dpsr.data.dataset.tables import Dataset
    from dpsr.ops_cc import library
    from dpsr.training.trainer import start_run

    tf.config.threading.set_intra_op_parallelism_threads(1)
    config = load_config(request["config"], request["overrides"])
    dataset = Dataset.load(config.dataset_dir)
    addresses = free_addresses(request["workers"], request["ps"])
    command = [sys.executable, "-m", "dpsr.train", "--config", request["config"]]
    command += [part for override in request["overrides"] for part in ("--set", override)]
    with tasks_running(addresses, command) as pids:
        library.load()
        task = Task(CHIEF, 0, addresses)
        wait_for(task, (PS, WORKER), 120.0)
        spec = tf.train.ClusterSpec({job: list(names) for job, names in addresses.items()})
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            spec, task_type=CHIEF, task_id=0, rpc_layer="grpc"
        )
        coordinator = tf.distribute.coordinator.ClusterCoordinator(tf.distribute.ParameterServerStrategy(resolver))
        start_run(config, dataset, resume=False)
        training = ClusterTraining(config, dataset, task, coordinator, Watchdog(1), progress=False)
        take = Peer(training, config).work_unit() if request["peer"] else training.work_unit(training._training)
        plan = training._steps_of[training._training].epoch(config.training.seed, 0)
        steps, units = request["steps_of_unit"], request["units"]
        progress = training._progress_of_workers
        position = 0

        def run(count: int) -> None:
            nonlocal position
            for _ in range(count):
                coordinator.schedule(take, (plan.steps(position, steps), tf.constant(steps, tf.int64)))
                position += steps
            coordinator.join()

        run(request["workers"])
        first_loss = float(progress.loss_sum) / position
        run(request["workers"])
        time.sleep(0.5)
        pids |= {"chief 0": os.getpid()}
        before, used_before, started = connections(addresses), processor_seconds(pids), time.monotonic()
        run(units)
        seconds, used = time.monotonic() - started, processor_seconds(pids)
        time.sleep(0.5)
        moved = difference(before, connections(addresses))
        done = steps * units
        return {
            "first_loss": first_loss,
            "by_task": {name: [each.sent / done, each.received / done] for name, each in sorted(moved.items())},
            "bytes": sum(each.sent + each.received for each in moved.values()) / done,
            "seconds_of_step": seconds / done * request["workers"],
            "examples_per_second": done * config.training.batch_size / seconds,
            "processors": {
                name: [(used[name][kind] - used_before[name][kind]) / done for kind in (0, 1)] for name in used
            },
        }


class Peer:
    """The same model on the same parameter servers, with stock lookups on the worker and stock updates there."""

    def __init__(self, training: Any, config: Config) -> None:
        self._training, self._config = training, config

    def work_unit(self) -> Any:
        import tensorflow as tf

        spec = self._training._steps_of[self._training._training].spec
        return tf.function(self._take).get_concrete_function(spec, tf.TensorSpec([], tf.int64))

    def _take(self, plan: Any, steps: Any) -> None:
        import tensorflow as tf

        training = self._training
        batch_of = training._steps_of[training._training].batches(plan)
        total = tf.constant(0.0, tf.float64)
        for position in tf.range(steps):
            total += tf.cast(self._step(batch_of(position)), tf.float64)
        with tf.device(training._dense_device):
            training._progress_of_workers.loss_sum.assign_add(total)

    def _step(self, batch: Any) -> Any:
        import tensorflow as tf

        from dpsr.model.shards import parts_of
        from dpsr.model.tower_inputs import join_bags

        model, step, settings = self._training._model, self._training._step, self._config.training
        queries, items = model.query_bags(batch.queries), model.item_bags(batch.items)
        tables = {name: _only(parts_of(table.embeddings)) for name, table in model.tables.items()}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([*tables.values(), *step.dense.variables])
            values = {
                name: tf.nn.safe_embedding_lookup_sparse(
                    tables[name], tf.cast(bags, tf.int64).to_sparse(), combiner=self._config.model.combiner
                )
                for name, bags in join_bags(queries, items).items()
            }
            heads = model.project_query({name: values[name][: bags.nrows()] for name, bags in queries.items()})
            vectors = model.project_item({name: values[name][-bags.nrows() :] for name, bags in items.items()})
            with tape.stop_recording():
                found = step._batch_loss(heads, vectors, batch.query_rows, batch.item_rows, None, None, None)
        sources = [*tables.values(), *step.dense.variables]
        gradients = tape.gradient([heads, vectors], sources, output_gradients=[found.heads, found.vectors])
        for (name, table), gradient in zip(tables.items(), gradients, strict=False):
            tf.raw_ops.ResourceSparseApplyAdagradV2(
                var=table.handle,
                accum=_only(parts_of(model.tables[name].accumulator)).handle,
                lr=settings.table_learning_rate,
                epsilon=0.0,
                grad=gradient.values,
                indices=gradient.indices,
            )
        step.dense.update(gradients[len(tables) :])
        return found.loss


def _only(parts: Sequence[Any]) -> Any:
    (part,) = parts
    return part


def measured(**request: Any) -> dict[str, Any]:
    """``measure`` in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "measure", json.dumps(request)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{request}\n{done.stdout}{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# ------------------------------------------------------------------------------------------------------------ the table

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
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(json.loads(sys.argv[2]))), flush=True)
        os._exit(0)  # threads of TensorFlow may wait for tasks that are gone
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
