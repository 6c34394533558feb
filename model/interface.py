"""What indexing, evaluation and validation need of a model, whichever class it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import tensorflow as tf

from dpsr.config import ModelConfig
from dpsr.data.batches.features import ItemFeatures, QueryFeatures
from dpsr.data.dataset.schema import Schema
from dpsr.model.frozen_encoder import FrozenEncoders


class Model(Protocol):
    """Embeds queries and items as unit vectors of one space."""

    config: ModelConfig
    schema: Schema
    has_history: bool
    """Whether the query tower reads the history of the user."""
    item_encoders: FrozenEncoders | None
    """What gives ``ItemFeatures.encoded``; None where the item tower reads no frozen vectors."""

    @property
    def variables(self) -> Sequence[tf.Variable]:
        """All variables."""

    def query_heads(self, queries: QueryFeatures) -> tf.Tensor:
        """Embeds queries, float32 [B, heads, d]."""

    def item_vectors(self, items: ItemFeatures) -> tf.Tensor:
        """Embeds items, float32 [N, d]."""
