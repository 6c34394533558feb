"""Variables of a published SavedModel, read without the graph."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def keys_before(checkpoint: str, ending: str) -> list[str]:
    """The paths of objects that have a variable at ``ending``, as ``/_state/dataset``; ascending."""
    names = tf.train.load_checkpoint(checkpoint).get_variable_to_shape_map()
    return sorted(name.removesuffix(ending + _SUFFIX) for name in names if name.endswith(ending + _SUFFIX))


def read_variables(checkpoint: str, key: str, variables: Sequence[str]) -> list[tf.Tensor]:
    """Reads variables of one object.

    Args:
        checkpoint: prefix of the checkpoint's files.
        key: of ``keys_before``.
        variables: their names below the object.

    Raises:
        KeyError: the checkpoint has no such variable.
    """
    names = [f"{key}/{variable}{_SUFFIX}" for variable in variables]
    types = tf.train.load_checkpoint(checkpoint).get_variable_to_dtype_map()
    tensors: list[tf.Tensor] = tf.raw_ops.RestoreV2(
        prefix=checkpoint,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        dtypes=[types[name] for name in names],
    )
    return tensors
