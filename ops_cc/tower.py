"""The dense layers of a tower, and their gradient, in one operation each."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from dpsr.ops_cc import library


def tower(
    parts: Sequence[tf.Tensor],
    kernels: Sequence[tf.Tensor],
    biases: Sequence[tf.Tensor],
    *,
    outputs: int,
    residual: bool,
) -> tf.Tensor:
    """Maps the embedded inputs of a tower to unit vectors: ReLU layers, a linear one, the division by the norm.

    Args:
        parts: float32 [B, d] each; beside each other they are the input of the first layer.
        kernels: float32 [inputs, width] of every layer; the last has a width of ``outputs * d``.
        biases: float32 [width] of every layer.
        outputs: vectors of a row.
        residual: adds the sum of the parts to every vector before its division.

    Returns:
        float32 [B, outputs, d]; it can be differentiated, with the same bits for any number of threads.

    Raises:
        tf.errors.InvalidArgumentError: the shapes do not fit each other.
    """
    found = library.load().dpsr_tower(
        parts=parts, kernels=kernels, biases=biases, H=len(kernels) - 1, outputs=outputs, residual=residual
    )
    return found.vectors


@tf.RegisterGradient("DpsrTower")
def _tower_gradient(operation: tf.Operation, gradient: tf.Tensor, *_: tf.Tensor) -> list[tf.Tensor]:
    num_parts, num_layers = operation.get_attr("P"), operation.get_attr("L")
    inputs, outputs = list(operation.inputs), list(operation.outputs)
    found = library.load().dpsr_tower_gradient(
        parts=inputs[:num_parts],
        kernels=inputs[num_parts : num_parts + num_layers],
        hidden=outputs[1:-1],
        vectors=outputs[0],
        inverse_norms=outputs[-1],
        gradient=gradient,
        residual=operation.get_attr("residual"),
    )
    return [*found.part_gradients, *found.kernel_gradients, *found.bias_gradients]
