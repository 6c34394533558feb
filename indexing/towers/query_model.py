"""A query model of another make: what it reads, and what it gives."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from dpsr.indexing.errors import ExportError
from dpsr.indexing.parity import strings
from dpsr.indexing.signature import FILTER_PREFIX, MODE_INPUT

_INPUT_NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")
_RESOURCES = (tf.Variable, tf.saved_model.experimental.TrackableResource, tf.saved_model.Asset)
_BATCH = 256
_DTYPES = {"f": np.float32, "i": np.int64, "u": np.int64, "b": np.bool_}
"""By kind of a NumPy type, what an input is sent as; int32 stays as it is."""


class QueryModel:
    """Calls a query model by the names of its inputs, and gives heads, whether it has one or several."""

    def __init__(self, model: Callable[..., Any], queries: Mapping[str, np.ndarray], *, by_name: bool) -> None:
        """Calls the model once.

        Args:
            model: a Keras model or another trackable object of TensorFlow.
            queries: inputs that it reads, of ``example_inputs``.
            by_name: whether the model takes a dict; else the one tensor of ``queries``.

        Raises:
            ExportError: the model cannot be called with these inputs, or does not return float32 [B, d] or [B, m, d].
        """
        self._model, self._by_name = model, by_name
        self.specs = {
            name: tf.TensorSpec([None, *values.shape[1:]], tf.string if values.dtype == object else values.dtype, name)
            for name, values in queries.items()
        }
        self._call = tf.function(self._called, input_signature=[self.specs])
        self.heads, self.dimension = self._measured(queries)

    def __call__(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The heads of B queries, by the names of ``specs``; float32 [B, heads, dimension]."""
        vectors = self._call({name: inputs[name] for name in self.specs})
        return tf.reshape(vectors, [-1, self.heads, self.dimension])

    def embed(self, queries: Mapping[str, np.ndarray]) -> np.ndarray:
        """The heads of n queries, in batches; float32 [n, heads, dimension].

        Raises:
            ExportError: a vector is not finite.
        """
        rows = len(next(iter(queries.values())))
        found = [
            self({name: tf.constant(values[start : start + _BATCH]) for name, values in queries.items()})
            for start in range(0, rows, _BATCH)
        ]
        heads = np.concatenate(found)
        finite = np.isfinite(heads).all(axis=(1, 2))
        if not finite.all():
            raise ExportError(
                f"the query model gives NaN or infinite numbers for query {int(np.argmin(finite))} of {rows}; look at "
                "its training, and at that input"
            )
        return heads

    def resources(self) -> Iterator[Any]:
        """Variables, tables and assets of the model, each once: all that a saved call of it may need."""
        seen = set()
        for each in (*tf.train.TrackableView(self._model).descendants(), *getattr(self._model, "variables", ())):
            resource = each if isinstance(each, _RESOURCES) else getattr(each, "value", None)  # a variable of Keras 3
            if isinstance(resource, _RESOURCES) and id(resource) not in seen:
                seen.add(id(resource))
                yield resource

    def variables(self) -> list[tf.Variable]:
        """Those among ``resources``."""
        return [resource for resource in self.resources() if isinstance(resource, tf.Variable)]

    def _called(self, inputs: Mapping[str, tf.Tensor]) -> Any:
        return self._model(dict(inputs) if self._by_name else next(iter(inputs.values())))

    def _measured(self, queries: Mapping[str, np.ndarray]) -> tuple[int, int]:
        """Heads and dimension, by a call with a few queries."""
        try:
            tracked = callable(self._model) and bool(tf.train.TrackableView(self._model).descendants())
        except (AssertionError, AttributeError):
            tracked = False
        if not tracked:
            raise ExportError(
                f"the query model is {type(self._model).__name__}, which TensorFlow cannot save; give a Keras model, a "
                "tf.Module with __call__, or what tf.saved_model.load returns"
            )
        some = {name: tf.constant(values[:2]) for name, values in queries.items()}
        try:
            found = self._call(some)
        except Exception as error:  # whatever the model raises
            sent = ", ".join(f"{name} {tensor.dtype.name} {tensor.shape}" for name, tensor in some.items())
            raise ExportError(
                f"the query model cannot be called with {sent} {'as a dict' if self._by_name else 'as one tensor'}; "
                f"give `queries` as the model reads them: {type(error).__name__}: {error}"
            ) from error
        rows = len(next(iter(some.values())))
        shape = found.shape.as_list() if isinstance(found, tf.Tensor) else None
        if shape is None or found.dtype != tf.float32 or len(shape) not in (2, 3) or shape[0] != rows:
            what = f"{found.dtype.name} {shape}" if isinstance(found, tf.Tensor) else type(found).__name__
            raise ExportError(
                f"the query model returns {what} for {rows} queries; expected a tensor float32 [{rows}, d], or "
                f"[{rows}, m, d] of m heads"
            )
        return (1 if len(shape) == 2 else shape[1]), shape[-1]


def example_inputs(queries: Any, input_name: str) -> dict[str, np.ndarray]:
    """Example inputs as a signature takes them.

    Args:
        queries: values by input, or those of one input.
        input_name: its name.

    Returns:
        By name arrays [n, ...] of one length: bytes objects, int32, int64, float32 or bool.

    Raises:
        ExportError: there are none, lengths differ, values are no tensor, or a name cannot be one of a signature.
    """
    given = dict(queries) if isinstance(queries, Mapping) else {input_name: queries}
    found = {name: _input(name, values) for name, values in given.items()}
    lengths = {name: len(values) for name, values in found.items()}
    if not found or not all(lengths.values()):
        raise ExportError(f"queries: expected at least one example of every input (found: {lengths})")
    if len(set(lengths.values())) > 1:
        raise ExportError(f"queries: expected as many examples of every input (found: {lengths})")
    return found


def _input(name: Any, values: Any) -> np.ndarray:
    if not isinstance(name, str) or not _INPUT_NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ExportError(
            f"queries: input {name!r} cannot be named so in a signature; expected ASCII letters, digits and _, a "
            "letter first, and no word of Python's"
        )
    if name == MODE_INPUT or name.startswith(FILTER_PREFIX):
        raise ExportError(
            f"queries: input {name!r} would collide with the input {MODE_INPUT!r} or a filter's, which begins with "
            f"{FILTER_PREFIX!r}; rename it"
        )
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ExportError(f"queries: input {name!r} is no array ({error}); give rows of equal length") from None
    kind = array.dtype.kind
    if kind in "UO" and all(isinstance(value, str | bytes) for value in array.flat):
        return strings(array)
    if kind == "S":
        return strings(array.astype(object))
    if kind not in _DTYPES or array.ndim == 0:
        raise ExportError(f"queries: input {name!r} holds {array.dtype} {array.shape}; expected strings or numbers [n]")
    return array if array.dtype == np.int32 else array.astype(_DTYPES[kind])
