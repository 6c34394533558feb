"""Validation of a request against its signature: TensorFlow Serving's checks in its order, with its codes and texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
import numpy as np

from dpsr.serving.errors import ServingError
from dpsr.serving.tensors import DT_STRING, decode, type_name


@dataclass(frozen=True)
class Argument:
    """An input or an output of a signature."""

    alias: str
    tensor: str
    """Name of the tensor in the graph."""
    dtype: int
    """``DataType`` number."""
    shape: tuple[int | None, ...] | None
    """None for a free size; None in place of the tuple for a free rank."""

    @classmethod
    def from_info(cls, alias: str, info: Any) -> Argument:
        """Reads a ``TensorInfo``."""
        shape = None
        if not info.tensor_shape.unknown_rank:
            shape = tuple(dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim)
        return cls(alias, info.name, info.dtype, shape)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits the signature."""
        return self.shape is None or (
            len(shape) == len(self.shape)
            and all(want is None or want == size for want, size in zip(self.shape, shape, strict=True))
        )


@dataclass(frozen=True, eq=False)
class Signature:
    """A ``SignatureDef`` in the form that the checks use."""

    name: str
    inputs: tuple[Argument, ...]
    """In the order of the tensors' names, by which TensorFlow numbers the arguments in its errors."""
    outputs: dict[str, Argument]
    """By alias, in alphabetical order."""
    defaults: dict[str, np.ndarray]

    @classmethod
    def from_definition(cls, name: str, definition: Any) -> Signature:
        """Reads a ``SignatureDef``."""
        inputs = [Argument.from_info(alias, info) for alias, info in definition.inputs.items()]
        outputs = [Argument.from_info(alias, info) for alias, info in sorted(definition.outputs.items())]
        return cls(
            name,
            tuple(sorted(inputs, key=lambda argument: argument.tensor)),
            {argument.alias: argument for argument in outputs},
            {alias: decode(proto) for alias, proto in definition.defaults.items()},
        )


class Limits(NamedTuple):
    """Largest request that is accepted."""

    batch_rows: float
    """Rows of an input (``serving.max_batch_rows``)."""
    query_bytes: float
    """Bytes of one string (``serving.max_query_bytes``)."""


UNLIMITED = Limits(math.inf, math.inf)


def check_rows(subject: str, rows: int, limits: Limits) -> None:
    """Refuses more rows than ``serving.max_batch_rows``.

    Args:
        subject: start of the error's text, such as ``input query``.
        rows: number of rows.
        limits: the limits.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    if rows > limits.batch_rows:
        raise _invalid(
            f"{subject} has {rows} rows, serving.max_batch_rows allows {limits.batch_rows}; send several requests"
        )


def check_elements(argument: Argument, shape: tuple[int, ...], limits: Limits) -> None:
    """Refuses an input with more elements than any batch of its signature has, before these are looked at.

    Args:
        argument: the input.
        shape: shape that the request claims.
        limits: the limits.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    if math.prod(shape) > _max_elements(argument, limits):
        raise _wrong_shape(argument, shape)


def _max_elements(argument: Argument, limits: Limits) -> float:
    """Elements of the largest batch of a signature's input; infinite where a row has a free size."""
    sizes = (None,) if argument.shape is None else argument.shape[1:]
    return math.inf if None in sizes else limits.batch_rows * math.prod(size for size in sizes if size is not None)


def check_inputs(signature: Signature, protos: Mapping[str, Any], limits: Limits = UNLIMITED) -> tuple[np.ndarray, ...]:
    """Decodes and checks the inputs of a request.

    Args:
        signature: the expected inputs.
        protos: alias -> ``TensorProto``.
        limits: checked before an input is decoded.

    Returns:
        The arrays in the order of ``signature.inputs``.

    Raises:
        ServingError: an input is missing, unknown, undecodable, too large, or of another type or shape.
    """
    _check_count(signature, protos)
    arrays = {}
    for argument in sorted(signature.inputs, key=lambda argument: argument.alias):
        if argument.alias in protos:
            _check_size(argument, protos[argument.alias], limits)
            try:
                arrays[argument.alias] = decode(protos[argument.alias])
            except ValueError:
                raise _invalid(f"tensor parsing error: {argument.alias}") from None
        elif argument.alias in signature.defaults:
            arrays[argument.alias] = signature.defaults[argument.alias]
        else:
            raise _invalid(
                f"Signature input alias: {argument.alias}(feed name: {argument.tensor}) not found in request and no "
                f"default value provided. Inputs expected to be in the request {{{_join(protos)}}}, or default input "
                f"alias set: {_join(signature.defaults)}"
            )
    known = arrays.keys() & set(protos)
    if len(known) != len(protos):
        raise _invalid(
            f"Inputs contains invalid name. Used request inputs: {_join(known)}, request input: {_join(protos)}"
        )
    for index, argument in enumerate(signature.inputs):
        _check_type(index, argument, protos, arrays[argument.alias])
    return tuple(arrays[argument.alias] for argument in signature.inputs)


def select_outputs(signature: Signature, output_filter: Iterable[str]) -> tuple[str, ...]:
    """Aliases of the outputs to compute: those of the filter, all without one.

    Raises:
        ServingError: an alias is unknown or named twice.
    """
    chosen = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise _invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_join(signature.outputs)}}}."
            )
        if alias in chosen:
            raise _invalid(f"duplicate output tensor alias: {alias}")
        chosen.add(alias)
    return tuple(alias for alias in signature.outputs if not chosen or alias in chosen)


def _check_count(signature: Signature, protos: Mapping[str, Any]) -> None:
    sent, expected = set(protos), {argument.alias for argument in signature.inputs}
    if len(sent) > len(expected) or (len(sent) < len(expected) and not signature.defaults):
        raise _invalid(
            f"input size does not match signature: {len(sent)}!={len(expected)} len({{{_join(sent)}}}) != "
            f"len({{{_join(expected)}}}). Sent extra: {{{_join(sent - expected)}}}. Missing but required: "
            f"{{{_join(expected - sent)}}}."
        )


def _check_size(argument: Argument, proto: Any, limits: Limits) -> None:
    alias, shape = argument.alias, proto.tensor_shape.dim
    if shape:
        check_rows(f"input {alias}", shape[0].size, limits)
    if proto.dtype == DT_STRING:
        texts = proto.string_val
        if len(texts) > limits.batch_rows and len(texts) > _max_elements(argument, limits):
            raise _invalid(
                f"input {alias} holds {len(texts)} texts, more than a batch of serving.max_batch_rows = "
                f"{limits.batch_rows}; send several requests"
            )
        longest = max(map(len, (proto.tensor_content, *texts)))
        if longest > limits.query_bytes:
            raise _invalid(
                f"input {alias} holds a text of {longest} bytes, serving.max_query_bytes allows {limits.query_bytes}"
            )


def _check_type(index: int, argument: Argument, protos: Mapping[str, Any], array: np.ndarray) -> None:
    if argument.alias not in protos:
        return
    found = protos[argument.alias].dtype
    if found != argument.dtype:
        raise _invalid(f"Expects arg[{index}] to be {type_name(argument.dtype)} but {type_name(found)} is provided")
    if not argument.accepts(array.shape):
        raise _wrong_shape(argument, array.shape)


def _wrong_shape(argument: Argument, shape: tuple[int, ...]) -> ServingError:
    expected = ", ".join("?" if size is None else str(size) for size in argument.shape or ())
    return _invalid(f"input {argument.alias} has shape {list(shape)}, expected [{expected}]")


def _join(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def _invalid(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)
