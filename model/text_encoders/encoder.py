"""What every text encoder offers to the towers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import tensorflow as tf

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

    def bags(self, tokens: tf.RaggedTensor) -> TableBags:
        """The lookups of some texts.

        Args:
            tokens: int32 [B, None].
        """

    def __call__(self, tokens: tf.RaggedTensor, values: TableValues, weights: Any) -> tf.Tensor:
        """Encodes texts.

        Args:
            tokens: int32 [B, None].
            values: what was looked up for ``bags(tokens)``; may hold more tables.
            weights: tensors in the structure of ``draw_weights``.

        Returns:
            float32 [B, d].
        """
