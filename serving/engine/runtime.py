"""A loaded SavedModel: its signatures, the validation of a request, and runs of one request or of a few together.

A version runs in a session of its own, as in TensorFlow Serving: kernels with state (vocabularies, searchers) are not
shared with another version that is loaded at the same time, an ``output_filter`` prunes the graph, and closing the
session gives the memory back.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2, predict_pb2

from dpsr.serving import _session as native
from dpsr.serving.engine.loader import INIT_SIGNATURE, load_session, refuse_links_outside, reported
from dpsr.serving.engine.validation import UNLIMITED, Limits, Signature, check_inputs, select_outputs
from dpsr.serving.errors import ServableError, ServingError
from dpsr.serving.metrics import index_items

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


class Outputs(Mapping[str, np.ndarray]):
    """The outputs of one call: arrays by alias, made when they are asked for; strings are objects of ``bytes``."""

    __slots__ = ("_aliases", "_rows", "message", "of_run")

    def __init__(
        self, aliases: tuple[str, ...], of_run: native.Outputs, rows: slice | None = None, message: bytes | None = None
    ) -> None:
        """Keeps what a run gave.

        Args:
            aliases: names of the outputs.
            of_run: outputs of the run.
            rows: those of the call; None for all.
            message: the serialised ``PredictResponse`` of the call, where it was wanted.
        """
        self._aliases = aliases
        self.of_run = of_run
        self._rows = rows
        self.message = message

    def __getitem__(self, alias: str) -> np.ndarray:
        """The rows of an output."""
        array = self.of_run[alias]
        return array if self._rows is None else array[self._rows]

    def __contains__(self, alias: object) -> bool:
        """Whether there is such an output."""
        return alias in self._aliases

    def __iter__(self) -> Iterator[str]:
        """The aliases."""
        return iter(self._aliases)

    def __len__(self) -> int:
        """How many outputs there are."""
        return len(self._aliases)


def predict_response(_: Call, outputs: Outputs) -> bytes:
    """The serialised ``PredictResponse``."""
    assert outputs.message is not None
    return outputs.message


Render = Callable[[Call, Outputs], bytes]
"""What becomes of the outputs of a call."""


@dataclass(eq=False)
class Servable:
    """One version of a model, ready to run; ``load`` makes it, ``close`` frees it. Thread-safe."""

    name: str
    version: int
    path: Path
    signatures: dict[str, Signature]
    signature_map: get_model_metadata_pb2.SignatureDefMap
    session: native.Session
    functions: dict[tuple[str, tuple[str, ...]], native.Function]
    """What runs a signature for some of its outputs."""
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
        signatures = {
            key: Signature.from_definition(key, definition)
            for key, definition in meta_graph.signature_def.items()
            if key != INIT_SIGNATURE
        }
        signature_map = get_model_metadata_pb2.SignatureDefMap(signature_def=meta_graph.signature_def)
        servable = cls(name, version, path, signatures, signature_map, session, {}, index_items(path))
        try:
            for signature in signatures.values():
                servable._function(signature, tuple(signature.outputs))
        except IndexError as error:
            servable.close()
            raise ServableError(
                grpc.StatusCode.INVALID_ARGUMENT, f"{path}: a signature does not fit the graph: {error}"
            ) from error
        return servable

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

    def run(self, call: Call, *, in_background: bool = False) -> Outputs:
        """Runs one call.

        Args:
            call: what to run.
            in_background: whether the run gives way to all others.

        Raises:
            ServingError: the graph refused the values, with the failing op's code and text.
        """
        (outputs,) = self._run([call], in_background=in_background)
        return outputs

    def run_together(self, calls: Sequence[Call]) -> list[Outputs | ServingError]:
        """Runs calls of one group as one batch; a failing batch is run call by call, so that only its cause fails."""
        if len(calls) > 1:
            with contextlib.suppress(ServingError):
                return list(self._run(calls))
        return [self._run_isolated(call) for call in calls]

    def _run_isolated(self, call: Call) -> Outputs | ServingError:
        try:
            return self.run(call)
        except ServingError as error:
            return error

    def _run(self, calls: Sequence[Call], *, in_background: bool = False) -> list[Outputs]:
        first = calls[0]
        rows = [call.rows for call in calls]
        spec = None
        if any(call.render is predict_response for call in calls):
            spec = self._model_spec(first.signature)
        try:
            together = self._function(first.signature, first.outputs).run(
                [call.inputs for call in calls], rows, spec, in_background=in_background
            )
        except native.SessionError as error:
            raise reported(error) from None
        messages = together.messages if spec else [None] * len(calls)
        if len(calls) == 1:
            return [Outputs(first.outputs, together, message=messages[0])]
        if not together.by_row:
            self.independent_rows.discard(first.signature.name)
            raise ServingError(grpc.StatusCode.INTERNAL, "an output has not one row per row of the inputs")
        ends = itertools.accumulate(rows)
        return [
            Outputs(first.outputs, together, slice(end - count, end), message)
            for end, count, message in zip(ends, rows, messages, strict=True)
        ]

    def _function(self, signature: Signature, outputs: tuple[str, ...]) -> native.Function:
        key = signature.name, outputs
        function = self.functions.get(key)
        if function is None:
            function = self.session.function(
                [(argument.tensor, argument.dtype) for argument in signature.inputs],
                [(alias, signature.outputs[alias].tensor) for alias in outputs],
            )
            self.functions[key] = function
        return function

    def _model_spec(self, signature: Signature) -> bytes:
        spec = model_pb2.ModelSpec(name=self.name, signature_name=signature.name)
        spec.version.value = self.version
        return bytes(spec.SerializeToString())

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
            joined = self._run([first, second], in_background=True)
            single = [self.run(call, in_background=True) for call in (first, second)]
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


def _same(left: np.ndarray, right: np.ndarray) -> bool:
    if left.shape != right.shape:
        return False
    if left.dtype.kind == "f":  # a matrix product may round differently for another number of rows
        return bool(np.allclose(left, right, rtol=1e-4, atol=1e-5, equal_nan=True))
    return bool(np.array_equal(left, right))
