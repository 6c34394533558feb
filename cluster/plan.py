"""How large a training cluster has to be: bytes of tables, bytes on the wire of a step, and what a network carries.

Everything is arithmetic over the configuration, the dataset's schema and some training steps that are drawn from the
dataset and counted; ``docs/cluster.md`` compares it with what was measured on sockets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dpsr.config import Config, ModelConfig
from dpsr.data.schema import Schema
from dpsr.data.tables import Dataset
from dpsr.model.two_tower import tower_inputs

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
    steps_per_call: int
    """Steps between two exchanges of the dense layers; 1 sends their gradients at every step."""
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
        if self.steps_per_call == 1:
            return Traffic(dense=2 * FLOAT * self.dense_parameters, overhead=TENSOR_OVERHEAD * 2 * tensors)
        # Layers and accumulators there, the changes of both back.
        share = 1 / self.steps_per_call
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
    config: Config, dataset: Dataset, *, wire: str = "float32", steps_per_call: int = 1, sampled_steps: int = 50
) -> Plan:
    """Counts what some training steps of a dataset ask of every table.

    Args:
        config: the run.
        dataset: what ``dpsr prepare`` wrote.
        wire: ``float32`` or ``bfloat16``, of sums and gradients on their way.
        steps_per_call: as in ``Plan``.
        sampled_steps: steps that are drawn; the same are drawn every time.
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
        steps_per_call=steps_per_call,
    )


def _count_steps(config: Config, dataset: Dataset, steps: int) -> dict[str, np.ndarray]:
    """Means over some steps of bags, ids and distinct ids, float64 [3], of every table."""
    random = np.random.default_rng(config.training.seed)
    records = dataset.interactions("train")
    total: dict[str, np.ndarray] = {}
    for _ in range(steps):
        drawn = np.asarray(records[np.sort(random.integers(len(records), size=config.training.batch_size))])
        for name, (ids, bags) in _ids_of_step(config, dataset, drawn, random).items():
            total[name] = total.get(name, 0) + np.array([bags, len(ids), len(np.unique(ids))])
    return {name: counts / steps for name, counts in total.items()}


def _ids_of_step(
    config: Config, dataset: Dataset, records: np.ndarray, random: np.random.Generator
) -> dict[str, tuple[np.ndarray, int]]:
    """The ids that a step looks up in every table, and the number of their bags."""
    model, schema, loss = config.model, dataset.schema, config.loss
    batch = len(records)
    negatives = random.integers(schema.num_items, size=_random_negatives(loss.mixing_ratio, loss.group_size))
    items = np.concatenate([records["item"], negatives])
    query_tokens = dataset.query_tokens.take(records["query"]).values
    query_tokens = query_tokens[random.random(len(query_tokens)) >= config.training.token_dropout]
    item_tokens = dataset.item_tokens.take(items).values
    if model.shared_tokens:
        found = {"tokens": (np.concatenate([query_tokens, item_tokens]), batch + len(items))}
    else:
        found = {"query_tokens": (query_tokens, batch), "item_tokens": (item_tokens, len(items))}
    if model.head_tables:
        found |= {f"query_tokens.{head}": (query_tokens, batch) for head in range(model.heads)}
    for column in schema.categorical:
        found[f"item.{column}"] = dataset.item_categorical[column][items], len(items)
    users = records["user"]
    if model.profile:
        for column in schema.profile:
            ids = dataset.user_profile[column]
            found[f"user.{column}"] = np.where(users >= 0, ids[np.maximum(users, 0)], 0), batch
    if model.history_length > 0 and schema.num_users > 0:
        found["history"] = _history(dataset, records, model.history_length), batch
        if model.history_titles:
            titles = _history(dataset, records, model.history_titles)
            found["history_titles"] = _first_tokens(dataset, titles), batch
    return found


def _first_tokens(dataset: Dataset, items: np.ndarray) -> np.ndarray:
    """The tokens of the titles of some items, as the history reads them."""
    from dpsr.data.joins import first_tokens  # brings TensorFlow

    return first_tokens(dataset.item_tokens.take(items)).values


def _history(dataset: Dataset, records: np.ndarray, length: int) -> np.ndarray:
    """The item rows in the histories of some records."""
    known = records[records["user"] >= 0]
    starts = dataset.history.row_splits[known["user"]]
    parts = [
        dataset.history.values[start + max(0, end - length) : start + end]
        for start, end in zip(starts, known["history_end"], strict=True)
    ]
    return np.concatenate([np.zeros(0, np.int32), *parts])


def _random_negatives(mixing_ratio: float, group_size: int) -> int:
    """As ``model.negatives.count_random_negatives``, whose module needs TensorFlow."""
    if mixing_ratio == 1.0:
        return group_size - 1
    return round(mixing_ratio / (1.0 - mixing_ratio) * (group_size - 1))
