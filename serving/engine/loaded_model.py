"""A loaded version of a model: its signatures, the validation of a request, runs of one request or of a batch.

Each version has a session of its own, as in TensorFlow Serving: kernels with state (vocabularies, searchers) are not
shared with other loaded versions, an ``output_filter`` prunes the graph, and closing the session frees the memory.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2, predict_pb2

from dpsr.serving import refusals
from dpsr.serving.engine.loader import INIT_SIGNATURE, load_session, native, refuse_links_outside, reported
from dpsr.serving.engine.validation import UNLIMITED, Limits, Signature, check_inputs, select_outputs
from dpsr.serving.errors import ServableError, ServingError
from dpsr.serving.metrics import RequestLabels

if TYPE_CHECKING:
    from dpsr.serving.engine import _session

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True, eq=False)
class Call:
    """One validated request."""

    model: LoadedModel
    signature: Signature
    inputs: tuple[np.ndarray, ...]
    """In the order of ``signature.inputs``."""
    outputs: tuple[str, ...]
    """Aliases of the wanted outputs."""
    rows: int
    """Size of the batch dimension that all inputs share; 0 where they share none."""
    group: tuple | None
    """Equal for calls that may share a run; None for a call that runs alone."""
    render: Render
    """Writes the answer, in the thread of the run."""

    @property
    def labels(self) -> RequestLabels:
        """Labels of the call's metrics."""
        return RequestLabels(self.model.name, str(self.model.version), self.signature.name)


class Outputs(Mapping[str, np.ndarray]):
    """Outputs of one call by alias, as arrays that are made at access; strings are object arrays of ``bytes``."""

    __slots__ = ("_aliases", "_rows", "message", "of_run")

    def __init__(
        self,
        aliases: tuple[str, ...],
        of_run: _session.Outputs,
        rows: slice | None = None,
        message: bytes | None = None,
    ) -> None:
        """Takes the share of one call in a run.

        Args:
            aliases: names of the outputs.
            of_run: outputs of the run.
            rows: rows of the call; None for all.
            message: serialised ``PredictResponse`` of the call, for callers of gRPC.
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
        """Number of outputs."""
        return len(self._aliases)


def predict_response(_: Call, outputs: Outputs) -> bytes:
    """The serialised ``PredictResponse``."""
    assert outputs.message is not None
    return outputs.message


Render = Callable[[Call, Outputs], bytes]
"""Turns the outputs of a call into its answer; raises ``ServingError`` for outputs that the protocol cannot carry."""


@dataclass(eq=False)
class LoadedModel:
    """One version of a model, ready to run; ``load`` makes it, ``close`` frees it. Thread-safe."""

    name: str
    version: int
    path: Path
    signatures: dict[str, Signature]
    signature_map: get_model_metadata_pb2.SignatureDefMap
    session: _session.Session
    functions: dict[tuple[str, tuple[str, ...]], _session.Function]
    """By signature and output aliases."""
    items: int | None = None
    """Items in the index, where the manifest has the number."""
    independent_rows: set[str] = field(default_factory=set)
    """Signatures whose output rows depend on their own input row alone; only their requests share runs."""
    _closed: bool = False

    @classmethod
    def load(cls, name: str, version: int, path: Path, *, inside: Path | None = None) -> LoadedModel:
        """Loads a SavedModel.

        Args:
            name: name of the model.
            version: number of the version.
            path: directory of the SavedModel.
            inside: directory that all its files have to lie in; by default ``path``.

        Raises:
            ServableError: the directory holds no SavedModel, the graph needs an op that no loaded library has, or a
                file lies outside of ``inside``.
        """
        refuse_links_outside(path, inside or path)
        session, meta_graph = load_session(path)
        signatures = {
            key: Signature.from_definition(key, definition)
            for key, definition in meta_graph.signature_def.items()
            if key != INIT_SIGNATURE
        }
        signature_map = get_model_metadata_pb2.SignatureDefMap(signature_def=meta_graph.signature_def)
        model = cls(name, version, path, signatures, signature_map, session, {}, _index_items(path))
        try:
            for signature in signatures.values():
                model._function(signature, tuple(signature.outputs))
        except IndexError as error:
            model.close()
            raise ServableError(
                grpc.StatusCode.INVALID_ARGUMENT, f"{path}: a signature does not fit the graph: {error}"
            ) from error
        return model

    def prepare(
        self,
        request: predict_pb2.PredictRequest,
        render: Render = predict_response,
        limits: Limits = UNLIMITED,
    ) -> Call:
        """Validates a request against its signature, in TensorFlow Serving's order and with its texts.

        Args:
            request: the request.
            render: writes the answer.
            limits: sizes that are refused.

        Raises:
            ServingError: the request does not fit the signature, or exceeds a limit.
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
            in_background: whether the run has low priority.

        Raises:
            ServingError: the graph refused the values, with the failing op's code and text.
        """
        (outputs,) = self._run([call], in_background=in_background)
        return outputs

    def run_together(self, calls: Sequence[Call]) -> list[Outputs | ServingError]:
        """Runs calls of one group as one batch; the calls of a failed batch run again one by one.

        Returns:
            The outputs or the error of each call.
        """
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
            outputs = self._function(first.signature, first.outputs).run(
                [call.inputs for call in calls], rows, spec, in_background=in_background
            )
        except native().SessionError as error:
            if self._closed:
                raise refusals.unloaded(self.name, self.version) from None
            raise reported(error) from None
        messages = outputs.messages if spec else [None] * len(calls)
        if len(calls) == 1:
            return [Outputs(first.outputs, outputs, message=messages[0])]
        if not outputs.by_row:
            self.independent_rows.discard(first.signature.name)
            raise ServingError(grpc.StatusCode.INTERNAL, "an output does not have one row per row of the inputs")
        ends = itertools.accumulate(rows)
        return [
            Outputs(first.outputs, outputs, slice(end - count, end), message)
            for end, count, message in zip(ends, rows, messages, strict=True)
        ]

    def _function(self, signature: Signature, outputs: tuple[str, ...]) -> _session.Function:
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
        """Compares the answers of two calls of a signature that run alone with those of a shared run.

        Returns:
            None for equal answers, else the reason why the signature's requests cannot share runs.
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
            # An output of another length, tokens for example, may have as many elements as rows by chance, but hardly
            # so both alone and together.
            for call, together, alone in zip((first, second), joined, single, strict=True):
                if len(alone[alias]) != call.rows:
                    return f"output {alias} does not have one row per row of the inputs"
                if not _same(together[alias], alone[alias]):
                    return f"output {alias} of a row depends on the other rows"
        return None

    def close(self) -> None:
        """Frees the memory; a run in progress is cancelled, and the memory lives until its last run ends."""
        self._closed = True
        self.session.close()


def _index_items(version: Path) -> int | None:
    """Items in the index of a version, by its manifest."""
    try:
        return int(json.loads((version / "assets.extra" / "manifest.json").read_text(encoding="utf-8"))["items"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _same(left: np.ndarray, right: np.ndarray) -> bool:
    if left.shape != right.shape:
        return False
    if left.dtype.kind == "f":  # a matrix product may round differently for another number of rows
        return bool(np.allclose(left, right, rtol=1e-4, atol=1e-5, equal_nan=True))
    return bool(np.array_equal(left, right))
