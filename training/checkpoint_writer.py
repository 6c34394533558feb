"""Checkpoints that are written by one and the same graph, however many there are."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import tensorflow as tf


class TracedCheckpoint(tf.train.Checkpoint):
    """A checkpoint whose writing is traced once.

    Where variables are on several tasks, TensorFlow traces a new graph for every checkpoint, and no task forgets one:
    half a MiB each in the memory of the chief, and up to as much in that of a parameter server.
    """

    def _write(self, file_prefix: Any, options: Any = None) -> Any:
        # What `write` and a `CheckpointManager` call, and what the graph is made of.
        if not tf.executing_eagerly():
            return super()._write(file_prefix)
        path = str(file_prefix)
        self._graph(tf.constant(path))
        for callback in options.experimental_write_callbacks or () if options else ():
            callback(path)
        return path

    @cached_property  # stored past `__setattr__`, by which it would become a part of the checkpoint
    def _graph(self) -> Any:
        return tf.function(lambda prefix: self._write(prefix))
