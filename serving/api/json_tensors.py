"""Predict requests and answers in TensorFlow Serving's JSON: by rows (``instances``) or by columns (``inputs``).

Rows and elements are counted before the values are walked, so that a body beyond the limits costs its parsing alone.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, NamedTuple

import grpc
import numpy as np
from tensorflow_serving.apis import predict_pb2

from dpsr.serving.engine.loaded_model import DEFAULT_SIGNATURE, Call, LoadedModel, Outputs
from dpsr.serving.engine.validation import UNLIMITED, Argument, Limits, Signature, check_elements, check_rows
from dpsr.serving.errors import ServingError
from dpsr.serving.tensors import DT_STRING, encode, numpy_type, type_name

_SHOWN = 200
"""Characters of a request's value that an error quotes."""
_MAX_RANK = 32
_MAX_WHOLE = {np.float32: 2**24 - 1, np.float64: 2**53 - 1}
"""Largest integer up to which a float type represents every integer."""
_MAX_FLOAT = {np.float32: float(np.finfo(np.float32).max), np.float64: float(np.finfo(np.float64).max)}
_NAMES = {type(None): "Null", dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}


class _Leaves(NamedTuple):
    """Values of a nested list in order, and its shape."""

    values: list[Any]
    shape: tuple[int, ...]


def prepare(model: LoadedModel, body: bytes, limits: Limits = UNLIMITED) -> Call:
    """Decodes and validates a JSON request; the answer will be JSON of the same format.

    Args:
        model: the model that the request names.
        body: the JSON text.
        limits: sizes that are refused.

    Raises:
        ServingError: the body is not JSON, does not fit the signature, or exceeds a limit.
    """
    tree = _parse(body)
    key = tree.get("signature_name", "")
    if not isinstance(key, str):
        raise _invalid(
            f"JSON Value: {_show(tree)} not formatted correctly. 'signature_name' key must be a string value."
        )
    signature = model.signatures.get(key or DEFAULT_SIGNATURE)
    if signature is None:
        raise _invalid(f'Serving signature name: "{key or DEFAULT_SIGNATURE}" not found in signature def')
    by_rows = "instances" in tree
    if by_rows and "inputs" in tree:
        raise _invalid(
            f"JSON Value: {_show(tree)} Not formatted correctly expecting only one of 'inputs' or 'instances' keys to "
            "exist "
        )
    if not by_rows and "inputs" not in tree:
        raise _invalid("Missing 'inputs' or 'instances' key")
    read, value = (_from_instances, tree["instances"]) if by_rows else (_from_inputs, tree["inputs"])
    leaves = read(signature, value, limits)
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = signature.name
    types = {argument.alias: argument.dtype for argument in signature.inputs}
    for alias, (values, shape) in leaves.items():
        encode(_as_array(values, types[alias]).reshape(shape), request.inputs[alias])
    return model.prepare(request, rows_as_json if by_rows else columns_as_json, limits)


def rows_as_json(_: Call, outputs: Outputs) -> bytes:
    """``{"predictions": [...]}``, one entry per row; a single output drops its name.

    Raises:
        ServingError: an output has no rows, or the outputs differ in their number of rows.
    """
    sizes = {alias: len(array) if array.ndim else None for alias, array in outputs.items()}
    expected = next(iter(sizes.values()))
    for alias, size in sizes.items():
        if size is None:
            raise _invalid(f"Tensor name: {alias} has no shape information ")
        if size != expected:
            raise _invalid(f"Tensor name: {alias} has inconsistent batch size: {size} expecting: {expected}")
    columns = {alias: _plain(alias, array) for alias, array in outputs.items()}
    if len(columns) == 1:
        return _dump({"predictions": next(iter(columns.values()))})
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return _dump({"predictions": rows})


def columns_as_json(_: Call, outputs: Outputs) -> bytes:
    """``{"outputs": {alias: [...]}}``; a single output drops its name."""
    columns = {alias: _plain(alias, array) for alias, array in outputs.items()}
    return _dump({"outputs": next(iter(columns.values())) if len(columns) == 1 else columns})


def _parse(body: bytes) -> dict[str, Any]:
    if not body:
        raise _invalid("JSON Parse error: The document is empty")
    try:
        tree = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _invalid(f"JSON Parse error: {error}") from None
    if not isinstance(tree, dict):
        raise _invalid(f"JSON Value: {_show(tree)} Is not object")
    return tree


def _from_instances(signature: Signature, instances: Any, limits: Limits) -> dict[str, _Leaves]:
    if not isinstance(instances, list):
        raise _invalid(f"JSON Value: {_show(instances)} Excepting 'instances' to be an list/array")
    if not instances:
        raise _invalid("JSON Value: [] No values in 'instances' array")
    check_rows("'instances'", len(instances), limits)
    arguments = {argument.alias: argument for argument in signature.inputs}
    named = _is_object(instances[0])
    if not named and len(arguments) != 1:
        raise _invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    joined: dict[str, _Leaves] = {}
    for number, instance in enumerate(instances):
        if _is_object(instance) != named:
            expected, found = ("object", "list") if named else ("value/list", "object")
            raise _invalid(f"Expecting {expected} but got {found} at item {number} of input list")
        for alias, value in instance.items() if named else ((next(iter(arguments)), instance),):
            where = f"Failed to process element: {number}{f' key: {alias}' if named else ''} of 'instances' list."
            if alias not in arguments:
                raise _invalid(
                    f"{where} Error: INVALID_ARGUMENT: JSON object: does not have named input: {alias[:_SHOWN]}"
                )
            try:
                leaves = _leaves(value, arguments[alias], limits, rows=len(instances))
            except ServingError as error:
                raise _invalid(f"{where} Error: INVALID_ARGUMENT: {error.message}") from None
            so_far = joined.setdefault(alias, _Leaves([], leaves.shape))
            if so_far.shape != leaves.shape:
                shapes = [str(list(shape)).replace(" ", "") for shape in (so_far.shape, leaves.shape)]
                raise _invalid(f"{where} Error: INVALID_ARGUMENT: Expecting shape {shapes[0]} but got: {shapes[1]}")
            so_far.values.extend(leaves.values)
        if named and set(instance) != set(arguments):
            raise _invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: {_show(instance)} keys must be "
                f"equal to: {','.join(sorted(arguments))}"
            )
    return {alias: _Leaves(values, (len(instances), *shape)) for alias, (values, shape) in joined.items()}


def _from_inputs(signature: Signature, inputs: Any, limits: Limits) -> dict[str, _Leaves]:
    if not _is_object(inputs):
        if len(signature.inputs) != 1:
            raise _invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        (argument,) = signature.inputs
        return {argument.alias: _leaves(inputs, argument, limits)}
    leaves = {}
    for argument in sorted(signature.inputs, key=lambda argument: argument.alias):
        alias = argument.alias
        if alias in inputs:
            leaves[alias] = _leaves(inputs[alias], argument, limits)
        elif alias not in signature.defaults:
            raise _invalid(f"Missing named input: {alias} in 'inputs' object.")
    return leaves


def _leaves(value: Any, argument: Argument, limits: Limits, rows: int | None = None) -> _Leaves:
    """Checks the number of elements, that lists of one level are equally long, and every value against the type.

    Args:
        value: a value or nested lists of values.
        argument: the input that they belong to.
        limits: numbers of rows and elements that are refused.
        rows: number of rows of which ``value`` is one; None where the outermost lists of ``value`` are the rows.
    """
    shape = _claimed_shape(value)
    if rows is None and shape:
        check_rows(f"input {argument.alias}", shape[0], limits)
    check_elements(argument, shape if rows is None else (rows, *shape), limits)
    values: list[Any] = []
    _collect(value, 0, shape, argument.dtype, values)
    return _Leaves(values, shape)


def _claimed_shape(value: Any) -> tuple[int, ...]:
    """Shape of nested lists by the first list of each level."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    if len(shape) > _MAX_RANK:
        raise _invalid(f"the lists are nested {len(shape)} deep; at most {_MAX_RANK} levels are possible")
    return tuple(shape)


def _collect(value: Any, level: int, shape: tuple[int, ...], dtype: int, values: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise _invalid(
                f"JSON Value: {_show(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: "
                f"{len(shape)}"
            )
        values.append(_leaf(value, dtype))
        return
    if level >= len(shape):
        raise _invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise _invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    row = _plain_row(value, dtype) if level == len(shape) - 1 else None
    if row is not None:
        values.extend(row)
        return
    for element in value:
        _collect(element, level + 1, shape, dtype, values)


def _plain_row(elements: list[Any], dtype: int) -> list[Any] | None:
    """Values of a list of texts alone or of integers alone, converted as a whole; None for all other lists."""
    types = set(map(type, elements))
    if dtype == DT_STRING and types == {str}:
        try:
            return [text.encode("utf-8") for text in elements]
        except UnicodeEncodeError:
            return None
    kind = numpy_type(dtype)
    if kind is not None and issubclass(kind, np.integer) and types == {int}:
        plain = _fits(min(elements), np.dtype(kind)) and _fits(max(elements), np.dtype(kind))
        return elements if plain else None
    return None


def _leaf(value: Any, dtype: int) -> Any:
    if dtype == DT_STRING:
        return _string(value)
    kind = numpy_type(dtype)
    if kind is None:
        message = f"Conversion of JSON Value: {_show(value)} to type: {type_name(dtype)}"
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, message)
    if isinstance(value, bool) is not (kind is np.bool_) or not isinstance(value, int | float):
        raise _wrong_type(value, dtype)
    if kind in _MAX_WHOLE:
        largest = _MAX_WHOLE[kind] if isinstance(value, int) else _MAX_FLOAT[kind]
        if abs(value) > largest and abs(value) != float("inf"):
            name = "float" if kind is np.float32 else "double"
            raise _invalid(f"Cannot convert JSON value: {_show(value)} to {name} without loss of precision.")
    elif kind is not np.bool_ and not (isinstance(value, int) and _fits(value, np.dtype(kind))):
        raise _wrong_type(value, dtype)
    return value


def _fits(value: int, kind: np.dtype) -> bool:
    bits = 8 * kind.itemsize
    return 0 <= value < 1 << bits if kind.kind == "u" else -(1 << bits - 1) <= value < 1 << bits - 1


def _string(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError:
            raise _invalid(f"JSON Value: {_show(value)} is not Unicode text") from None
    if not isinstance(value, dict):
        raise _wrong_type(value, DT_STRING)
    if _is_object(value):
        raise _invalid(f"JSON Value: {_show(value)} not formatted correctly for base64 data")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("Unable to base64 decode") from None


def _is_object(value: Any) -> bool:
    """Whether a value is an object of named members, and not bytes in base64."""
    return isinstance(value, dict) and not (value.keys() == {"b64"} and isinstance(value["b64"], str))


def _as_array(values: list[Any], dtype: int) -> np.ndarray:
    if dtype == DT_STRING:
        array = np.empty(len(values), object)
        array[:] = values
        return array
    return np.array(values, numpy_type(dtype))


def _plain(alias: str, array: np.ndarray) -> Any:
    """Nested lists for ``json``: float32 with its own digits; in base64, bytes that are not UTF-8 or are named so."""
    if array.dtype.kind in "OS":
        text = [_text(value, alias.endswith("_bytes")) for value in array.ravel().tolist()]
        nested = np.empty(len(text), object)
        nested[:] = text
        return nested.reshape(array.shape).tolist()
    if array.dtype == np.float32:
        array = array.astype(str).astype(np.float64)
    return array.tolist()


def _text(value: bytes, as_bytes: bool) -> Any:
    if not as_bytes:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(value).decode("ascii")}


def _dump(tree: Any) -> bytes:
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _show(value: Any) -> str:
    """The start of a value's JSON; only this much of it is written."""
    text = ""
    try:
        for chunk in json.JSONEncoder().iterencode(value):
            text += chunk
            if len(text) > _SHOWN:
                break
    except (ValueError, RecursionError):
        return "..."
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _wrong_type(value: Any, dtype: int) -> ServingError:
    kind = str(value) if isinstance(value, bool) else _NAMES[type(value)]
    return _invalid(f"JSON Value: {_show(value)} Type: {kind} is not of expected type: {type_name(dtype)}")


def _invalid(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)
