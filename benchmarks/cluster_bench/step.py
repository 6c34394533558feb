"""Bytes, time and processors of a training step on a cluster, beside the same step with bags summed on the worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster_bench.sockets import connections, difference, free_addresses, processor_seconds, tasks_running

from dpsr.cluster.tasks import CHIEF, PS, WORKER, Task
from dpsr.config import Config, load_config


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
        stage = training._schedule[-1].stage
        take = Peer(training, config).work_unit() if request["peer"] else training.work_unit(stage)
        plan = stage.batches.epoch(config.training.seed, 0)
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

        spec = self._training._schedule[-1].stage.batches.spec
        return tf.function(self._take).get_concrete_function(spec, tf.TensorSpec([], tf.int64))

    def _take(self, plan: Any, steps: Any) -> None:
        import tensorflow as tf

        training = self._training
        batch_of = training._schedule[-1].stage.batches.batches(plan)
        total = tf.constant(0.0, tf.float64)
        for position in tf.range(steps):
            total += tf.cast(self._step(batch_of(position)), tf.float64)
        with tf.device(training._dense_device):
            training._progress_of_workers.loss_sum.assign_add(total)

    def _step(self, batch: Any) -> Any:
        import tensorflow as tf

        from dpsr.model.shards import shard_variables
        from dpsr.model.tower_inputs import join_bags

        model, step = self._training._model, self._training._schedule[-1].stage.step
        queries, items = model.query_inputs.bags(batch.queries), model.item_inputs.bags(batch.items)
        weights = model.weights
        tables = {name: _only(shard_variables(table.embeddings)) for name, table in model.tables.items()}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(tf.nest.flatten([tables, weights]))
            values = {
                name: tf.nn.safe_embedding_lookup_sparse(
                    tables[name], tf.cast(bags, tf.int64).to_sparse(), combiner=self._config.model.combiner
                )
                for name, bags in join_bags(queries, items).items()
            }
            of_queries = {name: values[name][: bags.nrows()] for name, bags in queries.items()}
            of_items = {name: values[name][-bags.nrows() :] for name, bags in items.items()}
            heads = model.project_query(batch.queries, of_queries, weights)
            vectors = model.project_item(batch.items, of_items, weights)
            with tape.stop_recording():
                found = step.objective(heads, vectors, batch, step.prepare(batch)[1])
        outputs = [found.heads, found.vectors]
        of_tables, of_weights = tape.gradient([heads, vectors], (tables, weights), output_gradients=outputs)
        for name, table in tables.items():
            tf.raw_ops.ResourceSparseApplyAdagradV2(
                var=table.handle,
                accum=_only(shard_variables(model.tables[name].accumulator)).handle,
                lr=self._config.training.table_learning_rate,
                epsilon=0.0,
                grad=of_tables[name].values,
                indices=of_tables[name].indices,
            )
        step.optimizer.update_weights(of_weights, None)
        return found.loss


def _only(parts: Sequence[Any]) -> Any:
    (part,) = parts
    return part


def measured(**request: Any) -> dict[str, Any]:
    """``measure`` in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "cluster_bench.step", json.dumps(request)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{request}\n{done.stdout}{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))), flush=True)
    os._exit(0)  # threads of TensorFlow may wait for tasks that are gone
