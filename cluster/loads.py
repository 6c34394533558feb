"""What a model weighs on parameter servers: bytes that stay there, and bytes that a training step moves.

``placement`` spreads these loads over parameter servers, and ``plan`` sizes a cluster by them. The arithmetic is
compared with bytes counted on sockets in ``docs/cluster.md``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import tensorflow as tf

from dpsr.config import Config, ModelConfig
from dpsr.data.batches.features import TITLE_TOKENS
from dpsr.data.dataset.schema import Schema
from dpsr.data.dataset.tables import Bags, Dataset
from dpsr.model.encoded_items import EncodedItems
from dpsr.model.shards import NUM_KINDS
from dpsr.model.tower_inputs import encoders_of, tower_inputs
from dpsr.training.negatives import count_random_negatives
from dpsr.training.teachers import encoded_items

FLOAT, INT32, INT64 = 4, 4, 8
WIRE_BYTES = {"float32": 4, "bfloat16": 2}
TENSOR_OVERHEAD = 190
"""Bytes of frame, key and shape of one tensor between two tasks, request and answer together; measured."""
DENSE = "dense layers"


@dataclass(frozen=True)
class Traffic:
    """Bytes between one worker and all parameter servers in one step, both directions together."""

    ids: float = 0.0
    """Ids, lengths of bags and, of split tables, weights of ids: to the parameter servers."""
    sums: float = 0.0
    """Sums of bags, or rows of columns: from the parameter servers."""
    gradients: float = 0.0
    """Gradients of the sums: to the parameter servers."""
    dense: float = 0.0
    """Dense layers, and their gradients or changes."""
    overhead: float = 0.0
    """Frames of the messages."""

    @property
    def total(self) -> float:
        """The sum of all."""
        return self.ids + self.sums + self.gradients + self.dense + self.overhead

    def __add__(self, other: Traffic) -> Traffic:
        """The sum of each kind of bytes."""
        names = ("ids", "sums", "gradients", "dense", "overhead")
        return Traffic(*(getattr(self, name) + getattr(other, name) for name in names))


class Load(Protocol):
    """Something that one parameter server holds, or several by rows."""

    @property
    def name(self) -> str:
        """A name of its own."""

    @property
    def rows(self) -> int:
        """What may be cut into shards."""

    @property
    def stored_bytes(self) -> int:
        """Bytes of the entries and their AdaGrad accumulators."""

    def most_shards(self, split_above_bytes: int) -> int:
        """Shards into which the load is cut where there are that many parameter servers."""

    def traffic(self, shards: int = 1) -> Traffic:
        """What a step moves for the load, in that many shards."""


class Lookups(NamedTuple):
    """What one training step looks up in a table, on average."""

    bags: float
    ids: float
    """Ids in the bags."""
    distinct: float
    """Distinct ids in the bags."""


@dataclass(frozen=True)
class TableLoad:
    """One embedding table, and what a step asks of it."""

    name: str
    rows: int
    dimension: int
    lookups: Lookups
    wire: int = FLOAT
    """Bytes of a number of a sum or gradient on its way, 4 or 2."""
    one_id: bool = False
    """Every bag holds one id: a column, whose distinct rows travel instead of sums."""
    by_kind: bool = False
    """Ids weigh by their kind (``model.combiner = "sqrtn_by_kind"``)."""
    decays: bool = False
    """Ids weigh by their place in the bag (``model.history_decay``)."""

    @property
    def stored_bytes(self) -> int:
        """Bytes of the rows and their AdaGrad accumulators."""
        return 2 * FLOAT * self.rows * self.dimension

    def most_shards(self, split_above_bytes: int) -> int:
        """The fewest equal shards whose rows, without accumulators, are at most ``split_above_bytes`` each."""
        return max(1, -(-FLOAT * self.rows * self.dimension // split_above_bytes))

    def traffic(self, shards: int = 1) -> Traffic:
        """What a step moves, with sums and updates made where the rows are.

        Args:
            shards: parameter servers that the rows are split over. Each returns a partial sum for every bag.
        """
        bags, ids, distinct = self.lookups
        asked = distinct if self.one_id else bags
        vectors = shards * asked * self.dimension * self.wire
        sent, tensors = INT32 * (distinct if self.one_id else ids), 3
        if shards > 1 or not self.one_id:  # lengths of the bags; those of a whole column are known to be 1
            sent, tensors = sent + INT32 * shards * asked, tensors + 1
        if shards > 1 and self.by_kind:  # counts by kind and bag; 1.7 crossings of them were measured
            sent, tensors = sent + 2 * INT32 * NUM_KINDS * shards * bags, tensors + 2
        if shards > 1 and self.decays:
            sent, tensors = sent + FLOAT * ids, tensors + 1
        return Traffic(sent, vectors, vectors, overhead=TENSOR_OVERHEAD * tensors * shards)

    def peer_traffic(self) -> Traffic:
        """What a step moves when the worker gets the rows and sums them, ``safe_embedding_lookup_sparse``."""
        vectors = self.lookups.distinct * self.dimension * FLOAT
        return Traffic(INT64 * self.lookups.distinct, vectors, vectors, overhead=TENSOR_OVERHEAD * 3)


@dataclass(frozen=True)
class DenseLoad:
    """The dense layers of both towers; one parameter server holds them."""

    parameters: int
    tensors: int
    """Kernels and biases."""
    wire: int = FLOAT
    """Bytes of a number of a layer or change on its way, 4 or 2."""
    sync_steps: int = 1
    """Steps between two exchanges."""
    slots: int = 1
    """Numbers beside a parameter: 1 of AdaGrad, 2 moments."""
    name: str = DENSE

    @property
    def rows(self) -> int:
        """The parameters, a row each."""
        return self.parameters

    @property
    def stored_bytes(self) -> int:
        """Bytes of the layers and the slots of their optimiser."""
        return (1 + self.slots) * FLOAT * self.parameters

    def most_shards(self, split_above_bytes: int) -> int:
        """Dense layers are never split."""
        return 1

    def traffic(self, shards: int = 1) -> Traffic:
        """A step's share of an exchange."""
        if self.sync_steps == 1 and self.slots == 1:  # only the gradients of AdaGrad go to the parameter server
            return self.peer_traffic()
        # Layers and slots there, the changes of both back.
        crossings = 2 * (1 + self.slots) / self.sync_steps
        overhead = TENSOR_OVERHEAD * crossings * self.tensors
        return Traffic(dense=crossings * self.wire * self.parameters, overhead=overhead)

    def peer_traffic(self) -> Traffic:
        """Layers to the worker and gradients back, at every step."""
        return Traffic(dense=2 * FLOAT * self.parameters, overhead=TENSOR_OVERHEAD * 2 * self.tensors)


def table_loads(config: Config, schema: Schema, lookups: Mapping[str, Lookups]) -> list[TableLoad]:
    """The tables of a model in the order of its inputs, given what a step looks up in each."""
    query_inputs, item_inputs = tower_inputs(config.model, schema, encoded_items(config))
    of_tokens = query_inputs.token_tables | item_inputs.token_tables
    return [
        TableLoad(
            name,
            rows,
            config.model.dimension,
            lookups[name],
            wire=WIRE_BYTES[config.cluster.wire],
            one_id=name.startswith(("user.", "item.")),
            by_kind=name in of_tokens and config.model.combiner == "sqrtn_by_kind",
            decays=name in ("history", "history_titles") and config.model.history_decay != 1.0,
        )
        for name, rows in (query_inputs.tables | item_inputs.tables).items()
    ]


def dense_load(config: Config, schema: Schema) -> DenseLoad:
    """The dense layers of a model."""
    shapes = dense_shapes(config.model, schema, encoded_items(config))
    return DenseLoad(
        parameters=sum(math.prod(shape) for shape in shapes),
        tensors=len(shapes),
        wire=WIRE_BYTES[config.cluster.wire],
        sync_steps=config.cluster.dense_sync_steps_at(config.training.batch_size),
        slots=2 if config.training.has_schedule else 1,
    )


def dense_shapes(config: ModelConfig, schema: Schema, encoded: EncodedItems | None = None) -> list[tuple[int, ...]]:
    """Shapes of the dense weights: kernels and biases of both towers, and those of the text encoders."""
    shapes: list[tuple[int, ...]] = []
    query, item = tower_inputs(config, schema, encoded)
    of_query = [(query.num_vectors, config.heads)]
    if config.head_tables:
        of_query = config.heads * [(query.num_vectors + 1, 1)]
    of_item = [(item.num_vectors, 1)] if item.num_vectors else []
    for inputs, outputs in (*of_query, *of_item):
        width = inputs * config.dimension
        for units in [*config.hidden, outputs * config.dimension]:
            shapes += [(width, units), (units,)]
            width = units
    for encoder in encoders_of(query, item).values():
        shapes += [tuple(variable.shape) for variable in tf.nest.flatten(encoder.draw_weights(0))]
    return shapes


def expected_loads(config: Config, dataset: Dataset) -> list[Load]:
    """The loads of a model by mean lengths of texts and histories: known without reading the log.

    A table is placed by these before the training starts. Hard negatives count with the most that a query may have.
    """
    model, schema = config.model, dataset.schema
    query_inputs, item_inputs = tower_inputs(model, schema, encoded_items(config))
    queries = config.training.batch_size
    items = queries + count_random_negatives(config.loss.mixing_ratio, config.loss.group_size)
    items += queries * (config.loss.hard_negatives + config.loss.mined_negatives)
    history = min(_mean_length(dataset.history), model.history_length)
    ids_of_query = {
        "history": history,
        "history_titles": min(history, model.history_titles) * TITLE_TOKENS,
    }
    query_tokens = _mean_length(dataset.query_tokens) * (1.0 - config.training.token_dropout)
    lookups = {}
    for name, rows in (query_inputs.tables | item_inputs.tables).items():
        one_id = name.startswith(("user.", "item."))
        of_query, of_item = queries * (name in query_inputs.tables), items * (name in item_inputs.tables)
        bags = of_query + of_item
        ids = of_query * (1.0 if one_id else ids_of_query.get(name, query_tokens))
        ids += of_item * (1.0 if one_id else _mean_length(dataset.item_tokens))
        lookups[name] = Lookups(bags, ids, min(ids, rows))
    return [*table_loads(config, schema, lookups), dense_load(config, schema)]


def _mean_length(bags: Bags) -> float:
    return float(bags.row_splits[-1]) / max(len(bags), 1)
