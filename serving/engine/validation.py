"""A request against its signature: TensorFlow Serving's checks, in its order, with its codes and texts."""

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
    """None where a size, or the whole rank, is free."""

    @classmethod
    def from_info(cls, alias: str, info: Any) -> Argument:
        """Reads a ``TensorInfo``."""
        shape = None
        if not info.tensor_shape.unknown_rank:
            shape = tuple(dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim)
        return cls(alias, info.name, info.dtype, shape)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape fits."""
        return self.shape is None or (
            len(shape) == len(self.shape)
            and all(want is None or want == size for want, size in zip(self.shape, shape, strict=True))
        )


@dataclass(frozen=True, eq=False)
class Signature:
    """What a ``SignatureDef`` says, ready for checks."""

    name: str
    inputs: tuple[Argument, ...]
    """In the order of the tensors' names, in which TensorFlow numbers the arguments of a run."""
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
    """What a request may ask for at most."""

    batch_rows: float
    """Rows of an input."""
    query_bytes: float
    """Bytes of one string."""


UNLIMITED = Limits(math.inf, math.inf)


def check_inputs(signature: Signature, protos: Mapping[str, Any], limits: Limits = UNLIMITED) -> tuple[np.ndarray, ...]:
    """The arrays of a request, in the order of ``signature.inputs``.

    Args:
        signature: what is expected.
        protos: alias -> ``TensorProto``.
        limits: checked before anything is decoded.

    Raises:
        ServingError: an input is missing, unknown, undecodable, too large, or of another type or shape.
    """
    _check_count(signature, protos)
    arrays = {}
    for argument in sorted(signature.inputs, key=lambda argument: argument.alias):
        if argument.alias in protos:
            _check_size(argument.alias, protos[argument.alias], limits)
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
    """The aliases that a request asks for: all without a filter.

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


def _check_size(alias: str, proto: Any, limits: Limits) -> None:
    shape = proto.tensor_shape.dim
    if shape and shape[0].size > limits.batch_rows:
        raise _invalid(
            f"input {alias} has {shape[0].size} rows, serving.max_batch_rows allows {limits.batch_rows}; send several "
            "requests"
        )
    if proto.dtype == DT_STRING:
        longest = max(map(len, (proto.tensor_content, *proto.string_val)))
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
        wanted = ", ".join("?" if size is None else str(size) for size in argument.shape or ())
        raise _invalid(f"input {argument.alias} has shape {list(array.shape)}, expected [{wanted}]")


def _join(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def _invalid(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)
