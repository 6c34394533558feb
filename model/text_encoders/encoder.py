"""What every text encoder offers to the towers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import tensorflow as tf

from dpsr.model.embeddings import TableBags, TableValues


class TextEncoder(Protocol):
    """Maps texts to vectors, one among the inputs of a tower.

    The rows of its embedding tables are looked up before, together with those of all other inputs, and its dense
    weights are an argument. So training, a cluster and a servable treat every encoder alike.
    """

    @property
    def tables(self) -> Mapping[str, int]:
        """Name and rows of every embedding table that the encoder reads."""

    @property
    def weights(self) -> Any:
        """The trainable dense variables, in any nested structure; ``()`` where there are none."""

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
            weights: tensors in the structure of ``self.weights``.

        Returns:
            float32 [B, d].
        """
