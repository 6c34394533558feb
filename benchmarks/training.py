"""Training speed: the step of dpsr beside tf_keras ``fit`` and PyTorch, and where its time goes.

    python benchmarks/training.py                       # batches of 64 and 1,024 on a generated shop
    python benchmarks/training.py --dataset DIRECTORY   # of a dataset that `dpsr prepare` wrote

All train the same towers with the same loss on the same batches, in turns; a figure is the median of the rounds.
``fit`` reads them from a tf.data pipeline; PyTorch gets them ready made, so it pays nothing for input,
and is left out where it is not installed (``pip install torch``). The profile is TensorFlow's own.
"""

from __future__ import annotations

import argparse
import collections
import functools
import importlib.util
import itertools
import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
import tf_keras
from tabulate import tabulate

from dpsr.config import Config, LossConfig, parse_config
from dpsr.data.batches.batch import Batch
from dpsr.data.batches.steps import BatchSource, plan_tensors
from dpsr.data.dataset.tables import Dataset
from dpsr.data.demo_shop.shop import generate
from dpsr.data.prepare.job import prepare
from dpsr.model.towers import ItemTower, QueryTower
from dpsr.model.two_tower import TwoTower
from dpsr.training.loop import take_steps
from dpsr.training.recipes import batch_maker, batch_sources, make_recipe
from dpsr.training.stages import TRAINING

Run = Callable[[], tuple[float, float]]
"""Takes some steps, and waits for them; returns seconds by the clock and of the processors."""


def measured(take: Callable[[], object]) -> Run:
    def run() -> tuple[float, float]:
        clock, processors = time.perf_counter(), time.process_time()
        take()
        return time.perf_counter() - clock, time.process_time() - processors

    return run


def configuration(folder: Path, batch_size: int) -> Config:
    shop = folder / "shop"
    return parse_config(
        {
            "name": "benchmark",
            "work_dir": str(folder),
            "data": {
                "items": {"path": str(shop / "items.parquet"), "categorical": ["brand", "category"]},
                "users": {
                    "path": str(shop / "users.parquet"),
                    "profile": ["gender", "age_band", "purchase_power"],
                },
                "interactions": {"path": str(shop / "interactions.parquet")},
            },
            "model": {"residual": True, "shared_tokens": True, "heads": 1},
            "loss": {"kind": "softmax", "group_size": min(batch_size, 512)},
            "training": {"batch_size": batch_size, "learning_rate": 0.05, "table_learning_rate": 0.6},
        },
        "benchmark",
    )


def batches_of(config: Config, dataset: Dataset) -> tf.data.Dataset:
    """Endless training batches, made ahead by a tf.data pipeline, as ``fit`` takes them."""
    source: BatchSource = batch_sources(config, dataset, batch_maker(config, dataset))[TRAINING]
    batch_of = source.batches(plan_tensors(source.epoch(1, 0).steps(0, source.steps)))
    batches = tf.data.Dataset.range(source.steps).map(batch_of, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return batches.repeat().prefetch(tf.data.AUTOTUNE)


def dpsr_run(config: Config, dataset: Dataset, steps: int) -> Run:
    stage = make_recipe(config, dataset).stages[-1]
    signature = [stage.batches.spec, tf.TensorSpec([], tf.int64)]
    take = tf.function(functools.partial(take_steps, stage), input_signature=signature)
    epoch, taken = stage.batches.epoch(1, 0), itertools.count(0, steps)

    def next_steps() -> None:
        plan = epoch.steps(next(taken) % stage.batches.steps, steps)
        take(plan_tensors(plan), tf.constant(steps, tf.int64)).numpy()

    return measured(next_steps)


def stock_loss(
    heads: tf.Tensor, vectors: tf.Tensor, query_rows: tf.Tensor, item_rows: tf.Tensor, config: LossConfig
) -> tf.Tensor:
    """The sampled softmax of dpsr in stock operations; float32 [B, d] and [B + R, d]."""
    rows, group = tf.shape(query_rows)[0], config.group_size
    positives, randoms = vectors[:rows], vectors[rows:]
    of_group = tf.matmul(
        tf.reshape(heads, [-1, group, heads.shape[1]]),
        tf.reshape(positives, [-1, group, heads.shape[1]]),
        transpose_b=True,
    )
    positive = tf.reshape(tf.linalg.diag_part(of_group), [rows, 1])
    queries, items = tf.reshape(query_rows, [-1, group]), tf.reshape(item_rows[:rows], [-1, group])
    same = (queries[:, :, None] == queries[:, None]) | (items[:, :, None] == items[:, None])
    drawn = item_rows[:rows, None] == item_rows[None, rows:]
    # Their sums are put together, not they: to concatenate [B, N] would copy it, and its gradient again.
    parts = [
        tf.where(tf.reshape(same, [rows, group]), vectors.dtype.min, tf.reshape(of_group, [rows, group])),
        tf.where(drawn, vectors.dtype.min, tf.matmul(heads, randoms, transpose_b=True)),
        positive,
    ]
    sums = [tf.reduce_logsumexp(part / config.temperature, axis=1) for part in parts]
    return tf.reduce_mean(tf.reduce_logsumexp(tf.stack(sums, axis=1), axis=1) - positive[:, 0] / config.temperature)


def stock_tower(tower: QueryTower | ItemTower, values: dict[str, tf.Tensor]) -> tf.Tensor:
    """A tower of one output by its Keras layers; [B, d] of every part to float32 [B, d]."""
    parts = list(values.values())
    hidden = tf.concat(parts, axis=1)
    for layer in tower.perceptron.layers:
        hidden = layer(hidden)
    return tf.math.l2_normalize(tower.perceptron.last(hidden) + tf.add_n(parts), axis=1)


class KerasTowers(tf_keras.Model):
    """The towers over stock embedding layers, differentiated through the lookup."""

    def __init__(self, config: Config, dataset: Dataset) -> None:
        super().__init__()
        self._towers = TwoTower(config.model, dataset.schema)
        self._loss = config.loss
        self._layers_of = {
            name: tf_keras.layers.Embedding(table.rows, config.model.dimension)
            for name, table in self._towers.tables.items()
        }
        for layer in self._layers_of.values():
            layer.build([None])
        tables = [layer.embeddings for layer in self._layers_of.values()]
        self._weights_of = [
            *tables,
            *self._towers.query_tower.trainable_variables,
            *self._towers.item_tower.trainable_variables,
        ]

    def _combine(self, bags: dict[str, tf.RaggedTensor]) -> dict[str, tf.Tensor]:
        sums = {name: tf.reduce_sum(self._layers_of[name](ragged), axis=1) for name, ragged in bags.items()}
        lengths = {name: tf.cast(ragged.row_lengths(), tf.float32) for name, ragged in bags.items()}
        return {name: sums[name] * tf.math.rsqrt(tf.maximum(lengths[name], 1.0))[:, tf.newaxis] for name in bags}

    def train_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        towers = self._towers
        with tf.GradientTape() as tape:
            heads = stock_tower(towers.query_tower, self._combine(towers.query_inputs.bags(batch.queries)))
            vectors = stock_tower(towers.item_tower, self._combine(towers.item_inputs.bags(batch.items)))
            loss = stock_loss(heads, vectors, batch.query_rows, batch.item_rows, self._loss)
        gradients = tape.gradient(loss, self._weights_of)
        self.optimizer.apply_gradients(zip(gradients, self._weights_of, strict=True))
        return {"loss": loss}


def fit_run(config: Config, dataset: Dataset, steps: int) -> Run:
    model = KerasTowers(config, dataset)
    optimizer = tf_keras.optimizers.Adagrad(config.training.table_learning_rate, jit_compile=False)
    model.compile(optimizer=optimizer, steps_per_execution=steps, jit_compile=False)
    batches = batches_of(config, dataset)

    class Clock(tf_keras.callbacks.Callback):
        """Times the second epoch: the first one starts the pipeline."""

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.started = time.perf_counter(), time.process_time()

        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            self.taken = time.perf_counter() - self.started[0], time.process_time() - self.started[1]

    def run() -> tuple[float, float]:
        clock = Clock()
        model.fit(batches, steps_per_epoch=steps, epochs=2, verbose=0, callbacks=[clock])
        return clock.taken

    return run


def torch_run(config: Config, dataset: Dataset, steps: int, *, threads: int) -> Run:
    """The same model of ``EmbeddingBag(sparse=True)``, over batches that lie ready."""
    import torch
    from torch.nn import functional

    torch.manual_seed(1)
    towers = TwoTower(config.model, dataset.schema)  # names the tables and bags
    width, group, temperature = config.model.dimension, config.loss.group_size, config.loss.temperature

    class Table(torch.nn.Module):
        def __init__(self, rows: int) -> None:
            super().__init__()
            self.bags = torch.nn.EmbeddingBag(rows, width, mode="sum", sparse=True, include_last_offset=True)

        def forward(self, values: Any, splits: Any, scale: Any) -> Any:
            return self.bags(values, splits) * scale

    tables = {name: Table(table.rows) for name, table in towers.tables.items()}

    def tower(inputs: int) -> Any:
        hidden = config.model.hidden[0]
        return torch.nn.Sequential(
            torch.nn.Linear(inputs * width, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, width)
        )

    def embed(layers: Any, bags: dict[str, Any]) -> Any:
        parts = [tables[name](*ragged) for name, ragged in bags.items()]
        return functional.normalize(layers(torch.cat(parts, dim=1)) + sum(parts), dim=1)

    def as_torch(bags: dict[str, tf.RaggedTensor]) -> dict[str, Any]:
        found = {}
        for name, ragged in bags.items():
            splits = torch.from_numpy(ragged.row_splits.numpy())
            scale = torch.rsqrt(torch.clamp(splits.diff(), min=1).float())[:, None]
            found[name] = torch.from_numpy(ragged.values.numpy()).long(), splits, scale
        return found

    ready = []
    for batch in batches_of(config, dataset).take(min(steps, 64)):
        queries, items = (
            as_torch(towers.query_inputs.bags(batch.queries)),
            as_torch(towers.item_inputs.bags(batch.items)),
        )
        names = torch.from_numpy(batch.query_rows.numpy()), torch.from_numpy(batch.item_rows.numpy())
        ready.append((queries, items, *names))
    first = ready[0]
    query_tower, item_tower = tower(len(first[0])), tower(len(first[1]))
    sparse = torch.optim.Adagrad(
        [parameter for table in tables.values() for parameter in table.parameters()],
        lr=config.training.table_learning_rate,
        initial_accumulator_value=0.1,
    )
    dense = torch.optim.Adagrad(
        [*query_tower.parameters(), *item_tower.parameters()],
        lr=config.training.learning_rate,
        initial_accumulator_value=0.1,
    )

    def loss_of(queries: Any, items: Any, query_rows: Any, item_rows: Any) -> Any:
        rows = len(query_rows)
        heads, vectors = embed(query_tower, queries), embed(item_tower, items)
        of_group = heads.view(-1, group, width) @ vectors[:rows].view(-1, group, width).transpose(1, 2)
        positive = torch.diagonal(of_group, dim1=1, dim2=2).reshape(rows)
        names, positives = query_rows.view(-1, group), item_rows[:rows].view(-1, group)
        same = (names[:, :, None] == names[:, None]) | (positives[:, :, None] == positives[:, None])
        lowest = torch.finfo(torch.float32).min
        of_random = heads @ vectors[rows:].T
        of_random = (of_random / temperature).masked_fill(item_rows[:rows, None] == item_rows[None, rows:], lowest)
        of_batch = (of_group / temperature).masked_fill(same, lowest).view(rows, group)
        logits = torch.cat([positive[:, None] / temperature, of_batch, of_random], dim=1)
        return (torch.logsumexp(logits, dim=1) - logits[:, 0]).mean()

    def take() -> None:
        torch.set_num_threads(threads)
        for step in range(steps):
            loss = loss_of(*ready[step % len(ready)])
            sparse.zero_grad()
            dense.zero_grad()
            loss.backward()
            sparse.step()
            dense.step()

    return measured(take)


TOWERS, LOSS, LOOKUP, UPDATE, REST, NOTHING = "towers", "loss", "lookup", "update", "other operations", "none runs"
_KIND_OF_OP = {
    "DpsrTower": TOWERS,
    "DpsrTowerGradient": TOWERS,
    "DpsrGroupLoss": LOSS,
    "DpsrEmbeddingBags": LOOKUP,
    "DpsrEmbeddingBagsAdagrad": UPDATE,
    "DpsrAdagrad": UPDATE,
}
_OP = re.compile(r"(?<!:):([A-Z_]\w+)$")


def profile(config: Config, dataset: Dataset, folder: Path, steps: int) -> dict[str, float]:
    """The share of the time in which an operation of each kind runs; where several run at once, the first kind."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    run = dpsr_run(config, dataset, steps)
    run()
    run()
    tf.profiler.experimental.start(str(folder))
    run()
    tf.profiler.experimental.stop()
    space = xplane_pb2.XSpace()
    space.ParseFromString(sorted(folder.rglob("*.xplane.pb"))[-1].read_bytes())
    kinds, edges = [TOWERS, LOSS, LOOKUP, UPDATE, REST], []
    for plane in space.planes:
        for line in plane.lines:
            if not line.name.startswith("tf_Compute"):
                continue
            for event in line.events:
                op = _OP.search(plane.event_metadata[event.metadata_id].name)
                if op is None or op[1] in ("While", "StatefulPartitionedCall", "PartitionedCall"):
                    continue
                kind = _KIND_OF_OP.get(op[1], REST)
                start = line.timestamp_ns * 1000 + event.offset_ps
                edges += [(start, 1, kind), (start + event.duration_ps, -1, kind)]
    edges.sort(key=lambda edge: edge[:2])
    active, spent = collections.Counter(), collections.Counter()
    for (at, change, kind), (then, _, _) in itertools.pairwise(edges):
        active[kind] += change
        spent[next((each for each in kinds if active[each]), NOTHING)] += then - at
    return {kind: spent[kind] / sum(spent.values()) for kind in [*kinds, NOTHING]}


def speeds(dataset: Dataset, folder: Path, batch_sizes: list[int], rounds: int, examples: int) -> list[list[str]]:
    peers = {"dpsr": dpsr_run, "tf_keras fit": fit_run}
    if importlib.util.find_spec("torch"):
        for threads in (1, 2):
            peers[f"PyTorch, {threads} thread{'s' * (threads > 1)}"] = functools.partial(torch_run, threads=threads)
    rows = []
    for batch_size in batch_sizes:
        config, steps = configuration(folder, batch_size), max(8, examples // batch_size)
        runs = {name: make(config, dataset, steps) for name, make in peers.items()}
        for run in runs.values():
            run()
        wall, used = collections.defaultdict(list), collections.defaultdict(list)
        for _ in range(rounds):
            for name, run in runs.items():
                seconds = run()
                wall[name].append(steps * batch_size / seconds[0])
                used[name].append(steps * batch_size / seconds[1])
        ours = statistics.median(wall["dpsr"]), statistics.median(used["dpsr"])
        for name in runs:
            theirs = statistics.median(wall[name]), statistics.median(used[name])
            cells = [f"{theirs[0]:,.0f}", f"{ours[0] / theirs[0]:.2f} x", f"{theirs[1]:,.0f}"]
            rows.append([f"{batch_size:,}", name, *cells, f"{ours[1] / theirs[1]:.2f} x"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="a dataset directory; one of a generated shop by default")
    parser.add_argument("--items", type=int, default=5_000, help="of the generated shop")
    parser.add_argument("--interactions", type=int, default=60_000)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--examples", type=int, default=16_384, help="of one round")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.dataset is None:
            shop = folder / "shop"
            generate(shop, items=options.items, users=2_000, interactions=options.interactions, seed=1)
            prepare(configuration(folder, 64), progress=False)
        dataset = Dataset.load(options.dataset or folder / "dataset")
        table = speeds(dataset, folder, options.batch_size, options.rounds, options.examples)
        shares = [
            profile(configuration(folder, size), dataset, folder / f"profile-{size}", max(8, options.examples // size))
            for size in options.batch_size
        ]
    headers = ["batch", "", "examples/s", "dpsr is", "examples per processor second", "dpsr is"]
    print(tabulate(table, headers=headers), end="\n\n")
    names = list(shares[0])
    cells = [
        [f"{size:,}", *(f"{found[name]:.1%}" for name in names)]
        for size, found in zip(options.batch_size, shares, strict=True)
    ]
    print(tabulate(cells, headers=["batch", *names]), end="\n\n")
    if not importlib.util.find_spec("torch"):
        print("PyTorch is not installed; it was left out")
    print(
        f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, load {load:.1f} at the start, ", end=""
    )
    print(f"TensorFlow {tf.__version__}; medians of {options.rounds} rounds of {options.examples:,} examples")


if __name__ == "__main__":
    main()
