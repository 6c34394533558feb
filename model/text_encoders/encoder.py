"""What every text encoder offers to the towers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import tensorflow as tf

from dpsr.data.batches.features import TextFeatures
from dpsr.model.embeddings import TableBags, TableValues


class TextEncoder(Protocol):
    """Maps texts to vectors, one among the inputs of a tower.

    An encoder is a function without a state. The model owns its embedding tables and dense weights: rows are looked up
    together with those of all other inputs, and weights are an argument of every call. So training, a cluster and a
    servable treat every encoder alike.
    """

    @property
    def name(self) -> str:
        """Name of its weights in the model; encoders of one name share them."""

    @property
    def tables(self) -> Mapping[str, int]:
        """Name and rows of every embedding table that the encoder reads."""

    def draw_weights(self, seed: int) -> Any:
        """Creates the dense variables, in any nested structure; the same seed draws the same ones."""

    def bags(self, texts: TextFeatures) -> TableBags:
        """The lookups of some texts."""

    def __call__(
        self, texts: TextFeatures, values: TableValues, weights: Any, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Encodes texts.

        Args:
            texts: B rows.
            values: what was looked up for ``bags(texts)``; may hold more tables.
            weights: tensors in the structure of ``draw_weights``.
            seed: int64 [2], of the dropout of a training step; None drops nothing.

        Returns:
            float32 [B, d].
        """
