"""A loaded SavedModel: its signatures, the validation of a request, and runs of one request or of a few together.

A version runs in a session of its own, as in TensorFlow Serving: kernels with state (vocabularies, searchers) are not
shared with another version that is loaded at the same time, an ``output_filter`` prunes the graph, and closing the
session gives the memory back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

from dpsr.serving.errors import ServableError, ServingError, status_code
from dpsr.serving.loader import INIT_SIGNATURE, first_cause, load_session, refuse_links_outside
from dpsr.serving.metrics import index_items
from dpsr.serving.tensors import encode
from dpsr.serving.validation import UNLIMITED, Limits, Signature, check_inputs, select_outputs

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True, eq=False)
class Call:
    """One validated request.

    ``group`` is equal for calls that may share a run, and None for a call that has to run alone.
    """

    servable: Servable
    signature: Signature
    inputs: tuple[np.ndarray, ...]
    """In the order of ``signature.inputs``."""
    outputs: tuple[str, ...]
    rows: int
    group: tuple | None

    render: Render
    """Writes the answer; runs in the thread of the run."""


def predict_response(call: Call, outputs: Mapping[str, np.ndarray]) -> bytes:
    """The serialised ``PredictResponse``."""
    response = predict_pb2.PredictResponse()
    spec = response.model_spec
    spec.name = call.servable.name
    spec.version.value = call.servable.version
    spec.signature_name = call.signature.name
    for alias in call.outputs:
        encode(outputs[alias], response.outputs[alias])
    return response.SerializeToString()


Render = Callable[[Call, Mapping[str, np.ndarray]], bytes]
"""What becomes of the outputs of a call."""


@dataclass(eq=False)
class Servable:
    """One version of a model, ready to run; ``load`` makes it, ``close`` frees it. Thread-safe."""

    name: str
    version: int
    path: Path
    signatures: dict[str, Signature]
    signature_map: get_model_metadata_pb2.SignatureDefMap
    session: tf.compat.v1.Session
    tensors: dict[str, tf.Tensor]
    """The inputs and outputs of all signatures, by their names in the graph."""
    items: int | None = None
    """How many items its index holds, where the manifest says."""
    independent_rows: set[str] = field(default_factory=set)
    """Signatures whose rows are known not to depend on each other: only their requests share a run."""

    @classmethod
    def load(cls, name: str, version: int, path: Path, *, inside: Path | None = None) -> Servable:
        """Loads the SavedModel in ``path``, none of whose files may lie outside of ``inside``.

        Raises:
            ServableError: it is no SavedModel, or needs an op that no loaded library has, or a file outside.
        """
        refuse_links_outside(path, inside or path)
        session, meta_graph = load_session(path)
        try:
            signatures = {
                key: Signature.from_definition(key, definition)
                for key, definition in meta_graph.signature_def.items()
                if key != INIT_SIGNATURE
            }
            tensors = {
                argument.tensor: session.graph.get_tensor_by_name(argument.tensor)
                for signature in signatures.values()
                for argument in (*signature.inputs, *signature.outputs.values())
            }
        except (KeyError, ValueError) as error:
            session.close()
            raise ServableError(
                grpc.StatusCode.INVALID_ARGUMENT, f"{path}: a signature does not fit the graph: {error}"
            ) from error
        signature_map = get_model_metadata_pb2.SignatureDefMap(signature_def=meta_graph.signature_def)
        session.graph.finalize()
        return cls(name, version, path, signatures, signature_map, session, tensors, index_items(path))

    def prepare(
        self,
        request: predict_pb2.PredictRequest,
        render: Render = predict_response,
        limits: Limits = UNLIMITED,
    ) -> Call:
        """Validates a request against its signature, in TensorFlow Serving's order and with its texts.

        Raises:
            ServingError: the request does not fit.
        """
        key = request.model_spec.signature_name or DEFAULT_SIGNATURE
        signature = self.signatures.get(key)
        if signature is None:
            raise ServingError(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{key}" not found.')
        inputs = check_inputs(signature, request.inputs, limits)
        outputs = select_outputs(signature, request.output_filter)
        return self._call(signature, inputs, outputs, render)

    def _call(
        self, signature: Signature, inputs: tuple[np.ndarray, ...], outputs: tuple[str, ...], render: Render
    ) -> Call:
        sizes = {array.shape[0] if array.ndim else None for array in inputs}
        rows = sizes.pop() if len(sizes) == 1 else None
        group = None
        if rows and signature.name in self.independent_rows:
            group = (id(self), signature.name, outputs, *(array.shape[1:] for array in inputs))
        return Call(self, signature, inputs, outputs, rows or 0, group, render)

    def run(self, call: Call) -> dict[str, np.ndarray]:
        """Runs one call.

        Raises:
            ServingError: the graph refused the values, with the failing op's code and text.
        """
        fetches = [self.tensors[call.signature.outputs[alias].tensor] for alias in call.outputs]
        feeds = {
            self.tensors[argument.tensor]: array
            for argument, array in zip(call.signature.inputs, call.inputs, strict=True)
        }
        try:
            values = self.session.run(fetches, feeds)
        except tf.errors.OpError as error:
            raise ServingError(status_code(error.error_code), first_cause(error)) from None
        except UnicodeDecodeError as error:
            # TensorFlow's binding cannot make an exception of a text that repeats bytes of the request, and loses its
            # code; an op that names a value of the request refuses that value.
            text = bytes(error.object).decode("utf-8", errors="backslashreplace")
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, text) from None
        return {alias: np.asarray(value) for alias, value in zip(call.outputs, values, strict=True)}

    def run_together(self, calls: Sequence[Call]) -> list[dict[str, np.ndarray] | ServingError]:
        """Runs calls of one group as one batch; a failing batch is run call by call, so that only its cause fails."""
        if len(calls) > 1:
            try:
                return list(self._run_joined(calls))
            except ServingError:
                pass
        return [self._run_isolated(call) for call in calls]

    def _run_isolated(self, call: Call) -> dict[str, np.ndarray] | ServingError:
        try:
            return self.run(call)
        except ServingError as error:
            return error

    def _run_joined(self, calls: Sequence[Call]) -> list[dict[str, np.ndarray]]:
        first = calls[0]
        inputs = tuple(np.concatenate(arrays) for arrays in zip(*(call.inputs for call in calls), strict=True))
        rows = sum(call.rows for call in calls)
        outputs = self.run(replace(first, inputs=inputs, rows=rows, group=None))
        ends = np.cumsum([call.rows for call in calls])
        for alias, array in outputs.items():
            if array.ndim == 0 or len(array) != ends[-1]:
                self.independent_rows.discard(first.signature.name)
                raise ServingError(grpc.StatusCode.INTERNAL, f"output {alias} has not one row per row of the inputs")
        return [
            {alias: array[end - call.rows : end] for alias, array in outputs.items()}
            for call, end in zip(calls, ends, strict=True)
        ]

    def rows_are_independent(self, first: Call, second: Call) -> str | None:
        """Tries whether two calls of a signature have the same answers alone and in one run.

        Returns:
            None when they do, else the reason why not.
        """
        signature = first.signature
        for argument in (*signature.inputs, *signature.outputs.values()):
            if not argument.shape or argument.shape[0] is not None:
                return f"{argument.alias} has no batch dimension"
        if [array.shape[1:] for array in first.inputs] != [array.shape[1:] for array in second.inputs]:
            second = first
        if not first.rows or not second.rows:
            return "the inputs differ in their number of rows"
        try:
            joined = self._run_joined([first, second])
            single = [self.run(first), self.run(second)]
        except ServingError as error:
            return error.message
        for alias in first.outputs:
            # A list, of tokens say, may end up as long as there are rows once; hardly alone and together.
            for call, together, alone in zip((first, second), joined, single, strict=True):
                if len(alone[alias]) != call.rows:
                    return f"output {alias} has not one row per row of the inputs"
                if not _same(together[alias], alone[alias]):
                    return f"output {alias} of a row depends on the other rows"
        return None

    def close(self) -> None:
        """Frees the model; runs that are under way end with an error."""
        self.session.close()
        self.tensors.clear()


def _same(left: np.ndarray, right: np.ndarray) -> bool:
    if left.shape != right.shape:
        return False
    if left.dtype.kind == "f":  # a matrix product may round differently for another number of rows
        return bool(np.allclose(left, right, rtol=1e-4, atol=1e-5, equal_nan=True))
    return bool(np.array_equal(left, right))
