"""The versions of one model: the highest one on disk that works is served, without a gap when it changes.

A new version is loaded and warmed up beside the one that serves. Only then do new requests go to it; the old one is
freed when its last request is answered. A version that cannot be loaded is reported in its status, and tried again
when its files change. When the version that serves is deleted, the next lower one takes over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from dpsr.serving.errors import ServableError, ServingError
from dpsr.serving.runtime import Servable
from dpsr.serving.warmup import warm_up

POLL_SECONDS = 1.0
_MAX_VERSION = 2**63 - 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VersionState:
    """The state of one version, as ``GetModelStatus`` reports it."""

    state: int
    """A ``ModelVersionStatus.State``."""
    error: ServingError | None = None


class ModelVersions:
    """Loads, swaps and frees the versions below a directory. Thread-safe; ``update`` has one caller at a time."""

    def __init__(self, name: str, base_path: Path) -> None:
        """Names a model; ``load_first`` loads it.

        Args:
            name: the model's name.
            base_path: the directory whose integer-named entries are versions.
        """
        self.name = name
        self.base_path = base_path
        self._changed = threading.Condition()
        self._current: Servable | None = None
        self._in_use: dict[int, int] = {}
        self._states: dict[int, VersionState] = {}
        self._broken: dict[int, int] = {}
        self._stopping = threading.Event()
        self._poller: threading.Thread | None = None

    @contextmanager
    def use(self, version: int | None = None) -> Iterator[Servable]:
        """The serving version, which is not freed before the end of the block.

        Raises:
            ServingError: NOT_FOUND, when no version or another one serves.
        """
        with self._changed:
            servable = self._current
            if servable is None or version not in (None, servable.version):
                wanted = f"Latest({self.name})" if version is None else f"Specific({self.name}, {version})"
                raise ServingError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
            self._in_use[id(servable)] = self._in_use.get(id(servable), 0) + 1
        try:
            yield servable
        finally:
            with self._changed:
                self._in_use[id(servable)] -= 1
                if not self._in_use[id(servable)]:
                    del self._in_use[id(servable)]
                    self._changed.notify_all()

    def states(self) -> dict[int, VersionState]:
        """The state of every version seen so far, newest first."""
        with self._changed:
            return dict(sorted(self._states.items(), reverse=True))

    def load_first(self) -> Servable:
        """Loads the highest version that works.

        Raises:
            ServableError: there is no version, or none works; the message has the reason for each.
        """
        try:
            servable = self.update()
        except OSError as error:
            raise ServableError(grpc.StatusCode.FAILED_PRECONDITION, f"cannot read the versions: {error}") from None
        if servable is None:
            failures = [str(state.error) for state in self.states().values() if state.error]
            raise ServableError(
                grpc.StatusCode.FAILED_PRECONDITION if failures else grpc.StatusCode.NOT_FOUND,
                "\n".join(failures)
                or f"{self.base_path}: no version to serve; expected a directory with an integer name that holds "
                f"saved_model.pb, as `dpsr export` writes it",
            )
        return servable

    def update(self) -> Servable | None:
        """Brings what is served in line with the directory; the version that serves afterwards."""
        found = _versions_below(self.base_path)
        for version in sorted(found, reverse=True):
            if self._current is not None and version == self._current.version:
                break
            if self._broken.get(version) == _fingerprint(found[version]):
                continue
            servable = self._try_load(version, found[version])
            if servable is not None:
                self._swap(servable)
                break
        return self._current

    def start_polling(self) -> None:
        """Calls ``update`` every second, in a thread."""
        self._poller = threading.Thread(target=self._poll, name=f"versions of {self.name}", daemon=True)
        self._poller.start()

    def close(self) -> None:
        """Stops polling and frees the model."""
        self._stopping.set()
        if self._poller is not None:
            self._poller.join()
        with self._changed:
            last, self._current = self._current, None
        if last is not None:
            self._retire(last)

    def _poll(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            try:
                self.update()
            except OSError as error:
                _log.warning("%s cannot be read: %s; the served version stays", self.base_path, error)

    def _try_load(self, version: int, path: Path) -> Servable | None:
        self._set_state(version, VersionState(ModelVersionStatus.LOADING))
        fingerprint, start = _fingerprint(path), time.monotonic()
        servable = None
        try:
            servable = Servable.load(self.name, version, path)
            records = warm_up(servable)
        except Exception as error:  # whatever a broken version does, the one that serves goes on
            if servable is not None:
                servable.close()
            self._broken[version] = fingerprint
            failure = (
                error
                if isinstance(error, ServingError)
                else ServableError(grpc.StatusCode.UNKNOWN, f"{path}: {type(error).__name__}: {error}")
            )
            self._set_state(version, VersionState(ModelVersionStatus.END, failure))
            _log.error("version %d of %s cannot be served: %s", version, self.name, failure.message)
            return None
        seconds = time.monotonic() - start
        _log.info(
            "version %d of %s: loaded and warmed with %d requests in %.1f s", version, self.name, records, seconds
        )
        return servable

    def _swap(self, servable: Servable) -> None:
        with self._changed:
            old, self._current = self._current, servable
            self._states[servable.version] = VersionState(ModelVersionStatus.AVAILABLE)
        if old is not None:
            self._retire(old)

    def _retire(self, servable: Servable) -> None:
        self._set_state(servable.version, VersionState(ModelVersionStatus.UNLOADING))
        with self._changed:
            self._changed.wait_for(lambda: id(servable) not in self._in_use)
        servable.close()
        self._set_state(servable.version, VersionState(ModelVersionStatus.END))
        _log.info("version %d of %s: unloaded", servable.version, self.name)

    def _set_state(self, version: int, state: VersionState) -> None:
        with self._changed:
            self._states[version] = state


def _versions_below(base_path: Path) -> dict[int, Path]:
    if not base_path.is_dir():
        return {}
    numbered = {int(entry.name): entry for entry in base_path.iterdir() if entry.name.isdecimal() and entry.is_dir()}
    return {version: path for version, path in numbered.items() if version <= _MAX_VERSION}


def _fingerprint(path: Path) -> int:
    """Changes when a version is published again under the same number."""
    files = [path, *path.glob("saved_model.pb"), *path.glob("variables/*"), *path.glob("assets*/*")]
    return hash(tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in sorted(files)))
