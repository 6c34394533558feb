"""Section ``cluster``: training on workers and parameter servers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dpsr.config.section import Section

# Steps on local copies cost accuracy where they are a large part of an epoch; exchanges cost bytes (docs/cluster.md).
_DENSE_SYNC_STEPS, _DENSE_SYNC_EXAMPLES = 16, 4096


class ClusterConfig(Section):
    """Training on a cluster of workers and parameter servers (docs/cluster.md)."""

    wire: Literal["float32", "bfloat16"] = "float32"
    """Type of embeddings and their gradients on the network; ``bfloat16`` halves the bytes and rounds."""
    dense_sync_steps: Annotated[int, Field(ge=1)] | None = None
    """Steps that a worker takes on its own copies of the dense layers between two exchanges with the parameter server;
    1 sends the gradients of every step. By default 16 steps, or fewer where 16 steps exceed 4,096 examples."""
    split_above_bytes: Annotated[int, Field(ge=1)] = 1 << 30
    """A table whose rows take more bytes is split by rows over parameter servers; a smaller one is whole on one."""
    examples_per_call: Annotated[int, Field(ge=1)] = 8192
    """Examples of a work unit, which a worker takes in one call; up to this number are repeated after its death."""
    checkpoint_seconds: Annotated[float, Field(gt=0.0)] = 600.0
    """Seconds between checkpoints: the most work that the death of a parameter server or the chief costs."""
    start_timeout: Annotated[float, Field(gt=0.0)] = 600.0
    """Seconds that a task waits for the tasks that it needs, at the start and after a failure."""
    stall_timeout: Annotated[float, Field(gt=0.0)] = 600.0
    """Seconds without a finished work unit after which the training counts as failed."""
    max_restarts: Annotated[int, Field(ge=0)] = 20
    """Number of times that the chief resumes from the last checkpoint after the death of a parameter server, and that
    ``dpsr cluster up`` restarts each task."""

    def dense_sync_steps_at(self, batch_size: int) -> int:
        """``dense_sync_steps``, or its default for batches of ``batch_size`` examples."""
        return self.dense_sync_steps or max(1, min(_DENSE_SYNC_STEPS, _DENSE_SYNC_EXAMPLES // batch_size))
