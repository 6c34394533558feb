"""Section ``cluster``: training on workers and parameter servers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dpsr.config.section import Section


class ClusterConfig(Section):
    """Training on a cluster of workers and parameter servers (docs/cluster.md)."""

    wire: Literal["float32", "bfloat16"] = "float32"
    """Type of embeddings and their gradients on the network; ``bfloat16`` halves the bytes and rounds."""
    dense_sync_steps: Annotated[int, Field(ge=1)] | None = None
    """Steps that a worker takes on its own copies of the dense layers before it sends what changed in them; 1 sends
    the gradients of every step. Without it 16, or fewer that make 4,096 examples."""
    split_above_bytes: Annotated[int, Field(ge=1)] = 1 << 30
    """A table with more bytes is split by rows over parameter servers; a smaller one is whole on one."""
    examples_per_call: Annotated[int, Field(ge=1)] = 8192
    """Examples that a worker is given at once; at most so many are done twice when it dies."""
    checkpoint_seconds: Annotated[float, Field(gt=0.0)] = 600.0
    """Time between checkpoints: what is lost when a parameter server or the chief dies."""
    start_timeout: Annotated[float, Field(gt=0.0)] = 600.0
    """Seconds that a task waits for those that it needs, at the start and after a failure."""
    stall_timeout: Annotated[float, Field(gt=0.0)] = 600.0
    """Seconds without a step anywhere after which the training counts as failed."""
    max_restarts: Annotated[int, Field(ge=0)] = 20
    """How often the chief goes on from the last checkpoint by itself, after a parameter server has died; and how often
    ``dpsr cluster up`` starts each task again."""
