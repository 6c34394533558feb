"""Text as a bag of words, bigrams and letter trigrams (paper, section 4.2.1)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from dpsr.data.batches.features import TextFeatures
from dpsr.model.embeddings import TableBags, TableValues


class BagEncoder:
    """Combines the rows of a text's tokens in one embedding table, as the table's combiner says; no dense weights."""

    def __init__(self, table: str, rows: int) -> None:
        """Names the table.

        Args:
            table: name of the embedding table.
            rows: of the table, one for every token id.
        """
        self.name = table
        self.tables = {table: rows}

    def draw_weights(self, seed: int) -> Any:
        """As ``TextEncoder.draw_weights``; there are none."""
        return ()

    def bags(self, texts: TextFeatures) -> TableBags:
        """As ``TextEncoder.bags``."""
        return {self.name: texts.tokens}

    def __call__(
        self, texts: TextFeatures, values: TableValues, weights: Any, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """As ``TextEncoder.__call__``: the combined rows as they were looked up."""
        return values[self.name]
