"""ScaNN's tensors as variables, and where a checkpoint has them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from scann.scann_ops.py import scann_ops

from dpsr.indexing.checkpoint import keys_before, read_variables

_ARRAYS = (
    "scann_config",
    "serialized_partitioner",
    "datapoint_to_token",
    "ah_codebook",
    "hashed_dataset",
    "int8_dataset",
    "int8_multipliers",
    "dp_norms",
    "dataset",
)
"""In the order of ``scann_ops.ScannState``."""


class ScannVariables(scann_ops.ScannState):
    """``ScannState`` whose searcher has a name: searchers of one SavedModel and equal names are one resource."""

    def __init__(self, tensors: Sequence[tf.Tensor], searcher: str) -> None:
        """Takes the tensors of ``scann_to_tensors`` and the name of the operation that makes a searcher of them."""
        super().__init__(tensors)
        self._searcher = searcher

    @tf.function(input_signature=[], autograph=False)
    def recreate_handle(self) -> tf.Tensor:
        """The searcher of the tensors; made where there is none yet."""
        return scann_ops.tensors_to_scann(
            self.dataset,
            self.scann_config,
            self.serialized_partitioner,
            self.datapoint_to_token,
            self.ah_codebook,
            self.hashed_dataset,
            self.int8_dataset,
            self.int8_multipliers,
            self.dp_norms,
            name=self._searcher,
        )

    @classmethod
    def restored(cls, checkpoint: str, key: str, searcher: str) -> ScannVariables:
        """Reads the tensors of a checkpoint; ``key`` is of ``state_keys``."""
        return cls(read_variables(checkpoint, key, _ARRAYS), searcher)


def state_keys(checkpoint: str) -> list[str]:
    """The keys of the states of ScaNN in a checkpoint."""
    return keys_before(checkpoint, f"/{_ARRAYS[0]}")


def stored_vectors(checkpoint: str, key: str) -> np.ndarray:
    """The vectors of a state that has them in float32; ``key`` is of ``state_keys``; float32 [items, d]."""
    vectors: np.ndarray = read_variables(checkpoint, key, ["dataset"])[0].numpy()
    return vectors
