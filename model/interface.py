"""What indexing, evaluation and validation need of a model, whichever class it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import tensorflow as tf

from dpsr.config import ModelConfig
from dpsr.data.batches.features import ItemFeatures, QueryFeatures
from dpsr.data.dataset.schema import Schema
from dpsr.data.dataset.tables import Dataset


class ItemEncoders(Protocol):
    """What gives the vectors of ``ItemFeatures.encoded``: ``frozen_encoder.FrozenEncoders``."""

    width: int
    """w, of a vector."""
    fingerprint: str
    """Hex digest of all that decides the vectors, but the items."""

    @property
    def columns(self) -> Sequence[str]:
        """Columns of a catalogue that are read."""

    def reader(self, table: pa.Table) -> Callable[[int, int], np.ndarray]:
        """What gives the vectors of rows first to end - 1 of a catalogue, float32 [end - first, w]."""

    def items_file(self, table: pa.Table) -> Path:
        """A name for encoders and texts together: a file that may hold the vectors."""


class Model(Protocol):
    """Embeds queries and items as unit vectors of one space."""

    config: ModelConfig
    schema: Schema
    has_history: bool
    """Whether the query tower reads the history of the user."""
    item_encoders: ItemEncoders | None
    """What gives ``ItemFeatures.encoded``; None where the item tower reads no frozen vectors."""

    @property
    def variables(self) -> Sequence[tf.Variable]:
        """All variables."""

    def query_heads(self, queries: QueryFeatures) -> tf.Tensor:
        """Embeds queries, float32 [B, heads, d]."""

    def item_vectors(self, items: ItemFeatures) -> tf.Tensor:
        """Embeds items, float32 [N, d]."""


OtherRun = Callable[[], tuple[Model, Dataset]]
"""Loads another trained run: its model, and the dataset that it was trained on."""
