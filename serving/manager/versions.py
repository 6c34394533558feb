"""Versions of one model: those of its policy are served, without a gap when they change.

A new version is loaded and warmed up beside those that serve. New requests go to it then; an old version is freed after
its last answer, or after ``drain_seconds`` if a call hangs. A version that cannot be loaded is reported in its status
and tried again when its files change, or after a pause. If the serving version is deleted, the next lower one serves.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from dpsr.serving.engine.loaded_model import LoadedModel
from dpsr.serving.engine.warmup import warm_up
from dpsr.serving.errors import ServableError, ServingError
from dpsr.serving.manager.data_plane import PYTHON_ONLY, DataPlane, ServingVersions
from dpsr.serving.manager.model_config import MAX_VERSION, ServedModel, VersionPolicy
from dpsr.serving.metrics import ModelFigures

POLL_SECONDS = 1.0
RETRY_SECONDS = 10.0
MAX_RETRY_SECONDS = 600.0
LOADING_NICENESS = 5
"""Added to the niceness of a thread that loads beside others that answer: a third of a core where they want all."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VersionState:
    """The state of one version, as ``GetModelStatus`` reports it."""

    state: int
    """A ``ModelVersionStatus.State``."""
    error: ServingError | None = None


@dataclass(frozen=True)
class _Failure:
    """A version that could not be loaded; its next attempt is at ``retry_at``, or when its files change."""

    fingerprint: int
    attempts: int
    retry_at: float


class ModelVersions:
    """Loads, swaps and frees the versions below a directory. Thread-safe."""

    def __init__(
        self,
        name: str,
        base_path: Path,
        *,
        drain_seconds: float = 30.0,
        changed: Callable[[], None] = lambda: None,
        plane: DataPlane = PYTHON_ONLY,
    ) -> None:
        """Names a model; ``prepare`` and ``adopt`` load it.

        Args:
            name: the model's name.
            base_path: the directory whose integer-named entries are versions.
            drain_seconds: time that the calls of a retired version have to end before they are cancelled.
            changed: called after every change of the versions that serve, and of the labels.
            plane: what answers calls beside ``use``.
        """
        self.name = name
        self.base_path = base_path
        self._drain_seconds = drain_seconds
        self._notify = changed
        self._plane = plane
        self.updating = threading.RLock()
        """Held while versions are loaded and freed; its holder can rely on the set of loaded versions."""
        self._changed = threading.Condition()
        self._policy = VersionPolicy()
        self._labels: dict[str, int] = {}
        self._loaded: dict[int, LoadedModel] = {}
        self._calls: dict[LoadedModel, int] = {}
        """Calls in progress, of retired versions too."""
        self._states: dict[int, VersionState] = {}
        self._broken: dict[int, _Failure] = {}
        self._stopping = threading.Event()
        self._poller: threading.Thread | None = None

    @contextmanager
    def use(self, version: int | None = None) -> Iterator[LoadedModel]:
        """A serving version, which is not freed before the end of the block, or ``drain_seconds`` after it is retired.

        Args:
            version: its number; by default the highest that serves.

        Raises:
            ServingError: NOT_FOUND; no version serves, or not this one.
        """
        with self._changed:
            newest = max(self._loaded, default=None)
            loaded = self._loaded.get(newest if version is None else version) if newest is not None else None
            if loaded is None:
                raise servable_not_found(self.name, version)
            self._calls[loaded] = self._calls.get(loaded, 0) + 1
        try:
            yield loaded
        finally:
            with self._changed:
                self._calls[loaded] -= 1
                if not self._calls[loaded]:
                    del self._calls[loaded]
                    self._changed.notify_all()

    def version_of(self, label: str) -> int | None:
        """Version of a label; None for an unknown label."""
        return self._labels.get(label)

    def states(self) -> dict[int, VersionState]:
        """State of every version seen since the start, newest first."""
        with self._changed:
            return dict(sorted(self._states.items(), reverse=True))

    def serving(self) -> ServingVersions:
        """The versions that serve, and their labels."""
        with self._changed:
            return ServingVersions(dict(self._loaded), dict(self._labels))

    def loaded(self) -> list[int]:
        """Versions that serve, newest first."""
        with self._changed:
            return sorted(self._loaded, reverse=True)

    def figures(self) -> ModelFigures:
        """Versions that serve, and the size of the newest one's index."""
        with self._changed:
            versions = sorted(self._loaded, reverse=True)
            return ModelFigures(self.name, versions, self._loaded[versions[0]].items if versions else None)

    def prepare(self, served: ServedModel) -> None:
        """Loads the versions of a new configuration beside those that serve; ``adopt`` switches, ``update`` undoes.

        Raises:
            ServableError: the configuration cannot be served; the message has the reason for each version.
        """
        with self.updating:
            try:
                ready = self._load_wanted(served.policy)
            except OSError as error:
                raise _failed(f"cannot read the versions of {self.name}: {error}") from None
            missing = sorted((served.policy.versions or frozenset()) - ready)
            if missing or not ready:
                raise self._nothing_to_serve(missing)
            for label, version in served.labels.items():
                if version not in ready:
                    raise _failed(
                        f"Request to assign label {label} to version {version} of model {self.name}, which is not "
                        f"currently available for inference (available: {sorted(ready)})"
                    )

    def adopt(self, served: ServedModel) -> None:
        """Switches to a configuration that ``prepare`` accepted."""
        with self.updating:
            with self._changed:
                self._policy = served.policy
                self._labels = dict(served.labels)
            self._notify()
            self.update()

    def load_first(self, served: ServedModel | None = None) -> LoadedModel:
        """Loads a model for the first time; returns its newest version.

        Raises:
            ServableError: as ``prepare``.
        """
        served = served or ServedModel(self.name, self.base_path)
        with self.updating:
            self.prepare(served)
            self.adopt(served)
            return self._loaded[max(self._loaded)]

    def update(self) -> LoadedModel | None:
        """Loads and retires versions after a change of the directory; returns the newest version that serves."""
        with self.updating:
            wanted = self._load_wanted(self._policy)
            for version in self.loaded() if wanted else ():
                if version not in wanted:
                    self._retire(version, self._drain_seconds)
            return self._loaded[max(self._loaded)] if self._loaded else None

    def start_polling(self) -> None:
        """Calls ``update`` every second, in a thread."""
        self._poller = threading.Thread(target=self._poll, name=f"versions of {self.name}", daemon=True)
        self._poller.start()

    def close(self, *, drain: bool = True) -> None:
        """Stops polling and frees all versions.

        Args:
            drain: whether calls in progress have ``drain_seconds`` to end; else they are cancelled.
        """
        self._stopping.set()
        if self._poller is not None:
            self._poller.join()
        with self.updating:
            for version in self.loaded():
                self._retire(version, self._drain_seconds if drain else 0.0)

    def _poll(self) -> None:
        lower_priority()
        while not self._stopping.wait(POLL_SECONDS):
            try:
                self.update()
            except OSError as error:
                _log.warning("%s cannot be read: %s; the loaded versions keep serving", self.base_path, error)

    def _load_wanted(self, policy: VersionPolicy) -> set[int]:
        """Loads the versions of a policy that are not loaded yet; returns those that are loaded afterwards."""
        found = versions_below(self.base_path)
        wanted: set[int] = set()
        for version in policy.candidates(found):
            if len(wanted) >= policy.limit:
                break
            if version in self._loaded or self._try_load(version, found[version]):
                wanted.add(version)
        return wanted

    def _try_load(self, version: int, path: Path) -> bool:
        fingerprint, start = _fingerprint(path), time.monotonic()
        before = self._broken.get(version)
        if before and before.fingerprint == fingerprint and start < before.retry_at:
            return False
        self._set_state(version, VersionState(ModelVersionStatus.LOADING))
        model = None
        try:
            model = LoadedModel.load(self.name, version, path, inside=self.base_path)
            records = warm_up(model)
        except Exception as error:  # a broken version, however broken, must not stop the one that serves
            if model is not None:
                model.close()
            self._report(version, path, error, fingerprint, before)
            return False
        self._broken.pop(version, None)
        with self._changed:
            self._loaded[version] = model
            self._states[version] = VersionState(ModelVersionStatus.AVAILABLE)
        self._notify()
        seconds = time.monotonic() - start
        _log.info(
            "version %d of %s: loaded and warmed with %d requests in %.1f s", version, self.name, records, seconds
        )
        return True

    def _report(self, version: int, path: Path, error: Exception, fingerprint: int, before: _Failure | None) -> None:
        attempts = before.attempts + 1 if before and before.fingerprint == fingerprint else 1
        pause = min(RETRY_SECONDS * 2 ** (attempts - 1), MAX_RETRY_SECONDS)
        self._broken[version] = _Failure(fingerprint, attempts, time.monotonic() + pause)
        failure = (
            error
            if isinstance(error, ServingError)
            else ServableError(grpc.StatusCode.UNKNOWN, f"{path}: {type(error).__name__}: {error}")
        )
        self._set_state(version, VersionState(ModelVersionStatus.END, failure))
        _log.error(
            "version %d of %s cannot be served: %s; next attempt in %.0f s, or when its files change",
            version,
            self.name,
            failure.message,
            pause,
        )

    def _retire(self, version: int, drain_seconds: float) -> None:
        """Takes a version out of service, and frees it after its last call or after ``drain_seconds``."""
        with self._changed:
            retired = self._loaded.pop(version)
            self._states[version] = VersionState(ModelVersionStatus.UNLOADING)
        self._notify()
        end = time.monotonic() + drain_seconds
        hanging = self._plane.retire(retired, drain_seconds)
        with self._changed:
            self._changed.wait_for(lambda: retired not in self._calls, max(0.0, end - time.monotonic()))
            hanging += self._calls.get(retired, 0)
        if hanging and drain_seconds:
            _log.warning(
                "version %d of %s: %d calls are still running %g s after its retirement (serving.drain_seconds); they "
                "are cancelled, and the memory is freed when the last of them ends",
                version,
                self.name,
                hanging,
                drain_seconds,
            )
        retired.close()
        self._set_state(version, VersionState(ModelVersionStatus.END))
        _log.info("version %d of %s: unloaded", version, self.name)

    def _set_state(self, version: int, state: VersionState) -> None:
        with self._changed:
            self._states[version] = state

    def _nothing_to_serve(self, missing: list[int]) -> ServableError:
        failures: Mapping[int, ServingError] = {
            version: state.error
            for version, state in self.states().items()
            if state.error and (not missing or version in missing)
        }
        reasons = [str(error) for error in failures.values()]
        reasons += [
            f"{self.base_path / str(version)}: no such version" for version in missing if version not in failures
        ]
        if reasons:
            return _failed("\n".join(reasons))
        return ServableError(
            grpc.StatusCode.NOT_FOUND,
            f"{self.base_path}: no version to serve; expected a directory with an integer name that holds "
            f"saved_model.pb, as `dpsr export` writes it",
        )


def lower_priority() -> None:
    """Gives way to threads that answer requests: those of this thread's loads come second where cores are short."""
    if sys.platform == "linux":  # elsewhere a priority is that of the whole process
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, min(os.getpriority(os.PRIO_PROCESS, thread) + LOADING_NICENESS, 19))


def servable_not_found(name: str, version: int | None) -> ServingError:
    """TensorFlow Serving's error for a model or a version that does not serve."""
    request = f"Latest({name})" if version is None else f"Specific({name}, {version})"
    return ServingError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {request}")


def _failed(message: str) -> ServableError:
    return ServableError(grpc.StatusCode.FAILED_PRECONDITION, message)


def versions_below(base_path: Path) -> dict[int, Path]:
    """Directories of a model's versions, by number."""
    if not base_path.is_dir():
        return {}
    numbered = {int(entry.name): entry for entry in base_path.iterdir() if entry.name.isdecimal() and entry.is_dir()}
    return {version: path for version, path in numbered.items() if version <= MAX_VERSION}


def _fingerprint(path: Path) -> int:
    """Hash of names, times and sizes of a version's files: differs for a version published again under its number."""
    files = [path, *path.glob("saved_model.pb"), *path.glob("variables/*"), *path.glob("assets*/*")]
    return hash(tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in sorted(files)))
