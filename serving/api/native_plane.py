"""The native data plane: C++ takes a prediction from the socket to the session and back.

``dpsr.serving.engine._transport`` owns the gRPC port, and knows no TensorFlow; the engine in
``dpsr.serving.engine._session`` finds the model, validates, runs and writes the answer. It takes requests of the plain
form alone: one that is invalid or unusual, and every other method, goes on to the Python server on a socket of the
file system, which so has all error texts.
"""

from __future__ import annotations

import importlib
import os
import secrets
import threading
from collections.abc import Iterable, Mapping
from tempfile import gettempdir
from types import ModuleType
from typing import TYPE_CHECKING

import grpc
import numpy as np

from dpsr.config import ServingConfig
from dpsr.serving import refusals
from dpsr.serving.api.descriptions import signature_metadata
from dpsr.serving.engine.batching import MAX_BATCH_ROWS
from dpsr.serving.engine.loaded_model import LoadedModel
from dpsr.serving.engine.loader import native
from dpsr.serving.engine.validation import Argument
from dpsr.serving.errors import ServableError, ServingError, status_code
from dpsr.serving.logs import RequestLine
from dpsr.serving.manager.data_plane import ServingVersions
from dpsr.serving.metrics import (
    REQUEST_BOUNDS,
    ROW_BOUNDS,
    SECOND_BOUNDS,
    Counts,
    NativeFigures,
    RequestLabels,
)
from dpsr.serving.scratch import ScratchFolder

if TYPE_CHECKING:
    from dpsr.serving.engine import _session, _transport
    from dpsr.serving.tls import PemTexts

_FOLDER_PREFIX = "dpsr-plane-"
_LONGEST_PARENT = 70
"""Bytes; the path of a socket has at most 107, and 33 of them are below the parent."""


def find_transport(config: ServingConfig) -> tuple[ModuleType | None, str]:
    """The module of the transport, unless Python answers all requests.

    Returns:
        The module or None, and the reason of the choice.

    Raises:
        ServableError: ``serving.data_plane`` is ``native``, and this build has none.
    """
    if config.data_plane == "python":
        return None, 'serving.data_plane = "python"'
    try:
        return importlib.import_module("dpsr.serving.engine._transport"), "gRPC in C++"
    except ImportError as error:
        reason = f"this build has no native transport ({error}); make deps-native, then build again"
        if config.data_plane == "native":
            raise ServableError(
                grpc.StatusCode.FAILED_PRECONDITION, f'serving.data_plane = "native", but {reason}'
            ) from None
        return None, reason


class NativePlane:
    """Answers predictions beside the Python server. Thread-safe."""

    def __init__(
        self, transport: ModuleType, config: ServingConfig, in_flight: _session.InFlight, parallel_runs: int
    ) -> None:
        """Prepares it; ``start`` opens the port.

        Args:
            transport: the module of ``find_transport``.
            config: address and limits.
            in_flight: counts the predictions of all data planes.
            parallel_runs: runs of models at a time.
        """
        self._module = transport
        self._config = config
        self._parallel_runs = parallel_runs
        refused = {
            "too_many": refusals.too_many(config.max_in_flight),
            "stopping": refusals.stopping(),
            "late": refusals.late(),
            "left": refusals.left(),
        }
        self._engine = native().Engine(
            in_flight=in_flight,
            parallel_runs=parallel_runs,
            shared_run_rows=MAX_BATCH_ROWS,
            batch_rows=config.max_batch_rows,
            query_bytes=config.max_query_bytes,
            logged=config.log_requests,
            id_prefix=secrets.token_hex(4),
            refusals={name: _status(error) for name, error in refused.items()},
            second_bounds=SECOND_BOUNDS,
            row_bounds=ROW_BOUNDS,
            request_bounds=REQUEST_BOUNDS,
        )
        self._servables: dict[LoadedModel, _session.Servable] = {}
        self._changing = threading.Lock()
        self._folder: ScratchFolder | None = None
        self._backend = ""
        self._transport: _transport.Transport | None = None

    def make_backend_address(self) -> str:
        """Address at which the Python server has to listen, before ``start``.

        Raises:
            ServableError: there is no temporary directory to write in.
        """
        try:
            self._folder = ScratchFolder(
                _FOLDER_PREFIX, None if len(os.fsencode(gettempdir())) <= _LONGEST_PARENT else "/tmp"
            )
        except OSError as error:
            raise ServableError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the native data plane has no directory for its socket: {error}; name a writable one by TMPDIR, or "
                'set serving.data_plane = "python"',
            ) from None
        self._backend = f"unix:{self._folder.path}/backend.sock"
        return self._backend

    def start(self, address: str, files: PemTexts | None) -> int:
        """Opens the port.

        Args:
            address: host and port; port 0 takes a free one.
            files: of TLS; None without it.

        Returns:
            The port; 0 if it cannot be had.
        """
        config = self._config
        self._transport = self._module.Transport(
            self._engine.service(),
            address=address,
            backend=self._backend,
            threads=self._parallel_runs + 1,  # one that takes requests while all others run models
            max_message_bytes=config.max_message_bytes,
            reuse_port=config.workers > 1,
            key=files.key if files else None,
            certificate=files.certificate if files else None,
            client_ca=files.client_ca if files else None,
        )
        return int(self._transport.port)

    def publish(self, models: Mapping[str, ServingVersions]) -> None:
        """Replaces all models."""
        with self._changing:
            loaded = {model for serving in models.values() for model in serving.versions.values()}
            for model in loaded - self._servables.keys():
                self._servables[model] = self._servable(model)
            self._engine.set_models(
                {
                    name: (
                        {version: self._servables[model] for version, model in serving.versions.items()},
                        dict(serving.labels),
                    )
                    for name, serving in models.items()
                }
            )

    def retire(self, model: LoadedModel, seconds: float) -> int:
        """Lets no further call of a version begin, and waits for those in progress; returns how many are left."""
        with self._changing:
            servable = self._servables.pop(model, None)
        return servable.retire(seconds) if servable else 0

    def report(self, statuses: Mapping[str, int]) -> None:
        """Sets the health of services: name -> ``ServingStatus``."""
        self._engine.set_health(dict(statuses))

    def refuse(self) -> None:
        """Refuses new predictions."""
        self._engine.stop()

    def close(self, grace: float) -> None:
        """Closes the port; calls have ``grace`` seconds to end."""
        if self._transport is not None:
            self._transport.shutdown(grace)
        if self._folder is not None:
            self._folder.remove()

    def take_figures(self) -> Iterable[NativeFigures]:
        """What was counted since the last time."""
        for labels, codes, seconds, rows, requests, results, short in self._engine.take_figures():
            named = {status_code(code).name: count for code, count in codes.items()}
            yield NativeFigures(
                RequestLabels(*labels), named, Counts(*seconds), Counts(*rows), Counts(*requests), results, short
            )

    def take_lines(self) -> tuple[list[RequestLine], int]:
        """Lines of the log since the last time, and how many were lost because too many came."""
        notes, lost = self._engine.take_notes()
        lines = [
            RequestLine(time, request_id, "grpc", peer, seconds, status_code(code), RequestLabels(*labels), rows, text)
            for time, request_id, peer, seconds, labels, rows, code, text in notes
        ]
        return lines, lost

    def _servable(self, model: LoadedModel) -> _session.Servable:
        signatures = [
            (
                signature.name,
                [_input(argument, signature.defaults.get(argument.alias)) for argument in signature.inputs],
                [(argument.alias, argument.tensor) for argument in signature.outputs.values()],
                signature.name in model.independent_rows,
            )
            for signature in model.signatures.values()
        ]
        metadata = signature_metadata(model).SerializeToString()
        unloaded = _status(refusals.unloaded(model.name, model.version))
        return self._engine.servable(model.session, model.name, model.version, metadata, unloaded, signatures)


def _input(argument: Argument, default: np.ndarray | None) -> tuple[str, str, int, list[int] | None, np.ndarray | None]:
    shape = None if argument.shape is None else [-1 if size is None else size for size in argument.shape]
    return argument.alias, argument.tensor, argument.dtype, shape, default


def _status(error: ServingError) -> tuple[int, bytes]:
    return int(error.code.value[0]), error.message.encode()
