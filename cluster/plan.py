"""How large a training cluster has to be: bytes of tables, bytes on the wire of a step, and what a network carries.

Everything is arithmetic over the configuration, the dataset's schema and the first training steps, whose lookups are
counted; ``docs/cluster.md`` compares it with what was measured on sockets.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tensorflow as tf

from dpsr.config import Config, ModelConfig
from dpsr.data.batches.mapped import ArrayFiles
from dpsr.data.batches.pipeline import pretraining_batches, training_batches
from dpsr.data.dataset.schema import Schema, split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.model.tower_inputs import TableBags, item_bags, join_bags, query_bags, tower_inputs
from dpsr.training.inputs import batch_maker
from dpsr.training.negatives import HardNegatives

FLOAT, INT32, INT64 = 4, 4, 8
WIRE_BYTES = {"float32": 4, "bfloat16": 2}
# Frame, key and shape of one tensor between two tasks, request and answer together; measured (docs/cluster.md).
TENSOR_OVERHEAD = 190
# A table that does not fit one parameter server goes to several; this share of its memory is for tables.
USABLE_MEMORY = 0.8


@dataclass(frozen=True)
class Table:
    """One embedding table, and what a step asks of it."""

    name: str
    rows: int
    dimension: int
    one_id: bool
    """Every bag holds one id: a column, whose distinct rows travel instead of sums."""
    bags: float
    """Bags of a step, on average."""
    ids: float
    """Ids in them."""
    distinct: float
    """Different ids among them."""

    @property
    def stored_bytes(self) -> int:
        """Of the rows and their AdaGrad accumulators."""
        return 2 * FLOAT * self.rows * self.dimension

    def wire_bytes(self, wire: int, shards: int = 1) -> Traffic:
        """What a step moves when sums and updates are made where the rows are.

        Args:
            wire: bytes of a number on its way, 4 or 2.
            shards: parameter servers that the rows are split over; each returns its own partial sums.
        """
        if self.one_id:
            vectors = shards * self.distinct * self.dimension * wire
            return Traffic(INT32 * self.distinct, vectors, vectors, overhead=TENSOR_OVERHEAD * 3 * shards)
        vectors = shards * self.bags * self.dimension * wire
        ids = INT32 * (self.ids + shards * self.bags)
        return Traffic(ids, vectors, vectors, overhead=TENSOR_OVERHEAD * 4 * shards)

    def peer_wire_bytes(self) -> Traffic:
        """What a step moves when the worker gets the rows and sums them, ``safe_embedding_lookup_sparse``."""
        vectors = self.distinct * self.dimension * FLOAT
        return Traffic(INT64 * self.distinct, vectors, vectors, overhead=TENSOR_OVERHEAD * 3)


@dataclass(frozen=True)
class Traffic:
    """Bytes between one worker and all parameter servers in one step, both directions."""

    ids: float = 0.0
    """And lengths of bags."""
    sums: float = 0.0
    """Or rows, from the parameter servers."""
    gradients: float = 0.0
    """Of them, to the parameter servers."""
    dense: float = 0.0
    """Layers, and their changes."""
    overhead: float = 0.0
    """Of the messages."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.ids + self.sums + self.gradients + self.dense + self.overhead

    def __add__(self, other: Traffic) -> Traffic:
        """Both together."""
        return Traffic(
            *(getattr(self, name) + getattr(other, name) for name in ("ids", "sums", "gradients", "dense", "overhead"))
        )


@dataclass(frozen=True)
class Plan:
    """The sizes of a cluster for one training."""

    tables: tuple[Table, ...]
    dense_parameters: int
    dense_tensors: int
    batch_size: int
    wire: int
    dense_sync_steps: int
    """Steps between two exchanges of the dense layers; 1 sends the gradients of every step."""
    shards: Mapping[str, int] = field(default_factory=dict)
    """Of tables that are on more than one parameter server."""

    @property
    def stored_bytes(self) -> int:
        """Of all tables, dense layers and accumulators."""
        return sum(table.stored_bytes for table in self.tables) + 2 * FLOAT * self.dense_parameters

    def parameter_servers(self, memory: float) -> int:
        """Parameter servers of ``memory`` bytes each that hold the model."""
        return max(1, math.ceil(self.stored_bytes / (USABLE_MEMORY * memory)))

    def dense_traffic(self) -> Traffic:
        """Of the dense layers; a step's share of a call."""
        tensors = self.dense_tensors
        if self.dense_sync_steps == 1:
            return Traffic(dense=2 * FLOAT * self.dense_parameters, overhead=TENSOR_OVERHEAD * 2 * tensors)
        # Layers and accumulators there, the changes of both back.
        share = 1 / self.dense_sync_steps
        return Traffic(
            dense=4 * self.wire * self.dense_parameters * share, overhead=TENSOR_OVERHEAD * 4 * tensors * share
        )

    def traffic(self) -> Traffic:
        """Of one step of one worker."""
        of_tables = (table.wire_bytes(self.wire, self.shards.get(table.name, 1)) for table in self.tables)
        return sum(of_tables, self.dense_traffic())

    def peer_traffic(self) -> Traffic:
        """The same step with bags summed on the worker and dense layers sent at every step."""
        size = FLOAT * self.dense_parameters
        dense = Traffic(dense=2 * size, overhead=TENSOR_OVERHEAD * 2 * self.dense_tensors)
        return sum((table.peer_wire_bytes() for table in self.tables), dense)

    def network_limit(self, gigabits: float) -> float:
        """Examples a second that one link of ``gigabits`` per second carries, whoever sends them."""
        return examples_per_second(self.batch_size, self.traffic().total, gigabits)


def examples_per_second(batch_size: int, step_bytes: float, gigabits: float) -> float:
    """Examples a second that a link carries when a step of ``batch_size`` moves ``step_bytes`` over it."""
    return batch_size * gigabits * 1e9 / 8 / step_bytes


def workers_before_saturation(step_bytes: float, step_seconds: float, gigabits: float) -> float:
    """Workers that fill a link when each takes a step of ``step_bytes`` in ``step_seconds``."""
    return gigabits * 1e9 / 8 * step_seconds / step_bytes


def dense_shapes(config: ModelConfig, schema: Schema) -> list[tuple[int, ...]]:
    """Shapes of the kernels and biases of both towers."""
    shapes: list[tuple[int, ...]] = []
    query, item = tower_inputs(config, schema)
    of_query = [(len(query), config.heads)]
    if config.head_tables:
        of_query = config.heads * [(len(query) - config.heads + 1, 1)]
    for inputs, outputs in (*of_query, (len(item), 1)):
        width = inputs * config.dimension
        for units in [*config.hidden, outputs * config.dimension]:
            shapes += [(width, units), (units,)]
            width = units
    return shapes


def make_plan(
    config: Config, dataset: Dataset, *, wire: str = "float32", dense_sync_steps: int = 1, sampled_steps: int = 50
) -> Plan:
    """Counts what some training steps of a dataset ask of every table.

    Args:
        config: the run.
        dataset: what ``dpsr prepare`` wrote.
        wire: ``float32`` or ``bfloat16``, of sums and gradients on their way.
        dense_sync_steps: as in ``Plan``.
        sampled_steps: steps that are counted, the first of an epoch.
    """
    counts = _count_steps(config, dataset, sampled_steps)
    query, item = tower_inputs(config.model, dataset.schema)
    tables = tuple(
        Table(name, rows, config.model.dimension, name.startswith(("user.", "item.")), *map(float, counts[name]))
        for name, rows in (query | item).items()
    )
    shapes = dense_shapes(config.model, dataset.schema)
    return Plan(
        tables=tables,
        dense_parameters=sum(math.prod(shape) for shape in shapes),
        dense_tensors=len(shapes),
        batch_size=config.training.batch_size,
        wire=WIRE_BYTES[wire],
        dense_sync_steps=dense_sync_steps,
    )


def measured_speed(config: Config) -> float | None:
    """Examples a second of the last epoch on one machine; None where nothing was trained."""
    path = Path(config.checkpoint_dir) / "metrics.json"
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["epochs"][-1]["examples_per_second"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def _count_steps(config: Config, dataset: Dataset, steps: int) -> dict[str, np.ndarray]:
    """Means over the first steps of a training of bags, ids and distinct ids, float64 [3], of every table."""
    random = np.random.default_rng(config.training.seed)
    total: dict[str, np.ndarray] = {}
    counted = 0
    for bags in itertools.islice(_bags_of_steps(config, dataset, random), steps):
        for name, each in bags.items():
            ids = each.values.numpy()
            total[name] = total.get(name, 0) + np.array([each.nrows(), len(ids), len(np.unique(ids))])
        counted += 1
    return {name: counts / counted for name, counts in total.items()}


def _bags_of_steps(config: Config, dataset: Dataset, random: np.random.Generator) -> Iterator[TableBags]:
    """The bags that every step of the first epoch over the log looks up, or over the catalogue where no log is read."""
    loss, training = config.loss, config.training
    with TemporaryDirectory() as folder:  # a large dataset stays on the disk
        tensor = ArrayFiles(Path(folder))
        batches = batch_maker(config, dataset, tensor=tensor)
        hard = None
        if training.epochs:
            epoch = training_batches(batches, [dataset.directory / split_file("train")], seed=training.seed, epoch=0)
            if loss.hard_negatives:
                hard = HardNegatives.of_dataset(
                    dataset, loss.hard_negatives, batches.tables, Path(folder), tensor=tensor
                )
        else:
            epoch = pretraining_batches(batches, seed=training.seed, epoch=0)
        for batch in epoch:
            tokens = batch.queries.tokens
            kept = random.random(len(tokens.values)) >= training.token_dropout
            queries = batch.queries._replace(tokens=tf.ragged.boolean_mask(tokens, tokens.with_values(kept)))
            bags = query_bags(config.model, dataset.schema, queries)
            bags = join_bags(bags, item_bags(config.model, dataset.schema, batch.items))
            if hard is not None:
                bags = join_bags(bags, item_bags(config.model, dataset.schema, hard.of_queries(batch.query_rows)[1]))
            yield bags
