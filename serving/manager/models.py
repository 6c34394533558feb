"""All models of a server, and the change from one configuration to another, which happens as a whole or not at all."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc

from dpsr.serving.engine.loaded_model import LoadedModel
from dpsr.serving.errors import ServableError, ServingError
from dpsr.serving.manager.data_plane import PYTHON_ONLY, DataPlane
from dpsr.serving.manager.model_config import ServedModel, read_model_config
from dpsr.serving.manager.versions import ModelVersions, VersionState, lower_priority, servable_not_found
from dpsr.serving.metrics import ModelFigures

_log = logging.getLogger(__name__)


class Models:
    """Finds loaded models by name, version and label. Thread-safe."""

    def __init__(
        self, models: Sequence[ServedModel], *, drain_seconds: float = 30.0, plane: DataPlane = PYTHON_ONLY
    ) -> None:
        """Names the models; ``load_first`` loads them.

        Args:
            models: the configuration to start with.
            drain_seconds: time that the calls of a retired version have to end before they are cancelled.
            plane: what answers calls beside ``use``.
        """
        self._plane = plane
        self._publishing = threading.Lock()
        self._configured = list(models)
        self._drain_seconds = drain_seconds
        self._roots = _parents(models)
        """Where models of a client's configuration may lie: beside those that the operator has named."""
        self._models = {served.name: self._new(served) for served in models}
        self._refused: dict[str, dict[int, VersionState]] = {}
        """States of the new models of the last configuration, if it was refused."""
        self._reloading = threading.Lock()
        self._polling = False
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None

    @contextmanager
    def use(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[LoadedModel]:
        """The version that a request names, which is not freed before the end of the block (``ModelVersions.use``).

        Args:
            name: name of the model.
            version: number of the version; by default the highest that serves.
            label: label of a version, in place of its number.

        Raises:
            ServingError: no such version serves; code and text are TensorFlow Serving's.
        """
        if not name:
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        if label is not None:
            version = self.version_of(name, label)
        model = self._models.get(name)
        if model is None:
            raise servable_not_found(name, version)
        with model.use(version) as loaded:
            yield loaded

    def version_of(self, name: str, label: str) -> int:
        """Version of a label.

        Raises:
            ServingError: INVALID_ARGUMENT; the model has no such label.
        """
        version = self._models[name].version_of(label) if name in self._models else None
        if version is None:
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}")
        return version

    def states(self, name: str, version: int | None = None) -> dict[int, VersionState]:
        """State of every version of a model, newest first, or of one version.

        Raises:
            ServingError: NOT_FOUND; the model or the version was never seen.
        """
        model = self._models.get(name)
        states = model.states() if model else self._refused.get(name, {})
        if version is not None:
            if version not in states:
                raise ServingError(grpc.StatusCode.NOT_FOUND, f"Could not find version {version} of model {name}")
            return {version: states[version]}
        if not states:
            raise ServingError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}")
        return states

    def figures(self) -> list[ModelFigures]:
        """Versions that serve and size of the index of every model, by name."""
        return [model.figures() for _, model in sorted(self._models.items())]

    def load_first(self) -> None:
        """Loads every model.

        Raises:
            ServableError: a model cannot be served.
        """
        for served in self._configured:
            self._models[served.name].load_first(served)

    def reload_for_client(self, models: Sequence[ServedModel]) -> None:
        """``reload`` of a configuration that a client has sent.

        Raises:
            ServableError: as ``reload``; or a model lies outside of the parent directories of the models that the
                operator has configured.
        """
        for served in models:
            if not any(served.base_path.resolve().is_relative_to(root) for root in self._roots):
                raise ServableError(
                    grpc.StatusCode.PERMISSION_DENIED,
                    f"model {served.name}: {served.base_path} is outside of the directories of the operator's "
                    f"configuration ({', '.join(map(str, self._roots)) or 'which has no model'})",
                )
        self.reload(models)

    def reload(self, models: Sequence[ServedModel]) -> None:
        """Replaces the configuration: all of the new one is loaded before anything of the old one is freed.

        Raises:
            ServableError: a model of it cannot be served; the old configuration stays in force, and ``states`` tells
                why a new model was refused.
        """
        with self._reloading, ExitStack() as held:
            for model in self._models.values():
                held.enter_context(model.updating)
            target = {served.name: self._same_or_new(served) for served in models}
            try:
                for served in models:
                    target[served.name].prepare(served)
            except ServableError:
                fresh = [model for model in target.values() if self._models.get(model.name) is not model]
                self._refused = {model.name: model.states() for model in fresh if model.states()}
                self._undo(target)
                raise
            self._refused = {}
            gone = [model for model in self._models.values() if target.get(model.name) is not model]
            fresh = [model for model in target.values() if self._models.get(model.name) is not model]
            self._models = target
            self._publish()
            for served in models:
                target[served.name].adopt(served)
        if self._polling:
            for model in fresh:
                model.start_polling()
        for model in gone:
            model.close()

    def start_polling(self, config_file: Path | None = None, seconds: float = 0) -> None:
        """Starts to follow the directories of versions, and the model config file if ``seconds`` is above 0.

        Args:
            config_file: a text ``ModelServerConfig``.
            seconds: interval at which the file is read.
        """
        self._polling = True
        for model in self._models.values():
            model.start_polling()
        if config_file is not None and seconds > 0:
            arguments = (config_file, seconds)
            self._watcher = threading.Thread(target=self._watch, args=arguments, name="model config", daemon=True)
            self._watcher.start()

    def close(self) -> None:
        """Stops polling and frees all models; calls in progress are cancelled."""
        self._stopping.set()
        if self._watcher is not None:
            self._watcher.join()
        with self._reloading:
            for model in self._models.values():
                model.close(drain=False)

    def _same_or_new(self, served: ServedModel) -> ModelVersions:
        model = self._models.get(served.name)
        if model is not None and model.base_path == served.base_path:
            return model
        return self._new(served)

    def _new(self, served: ServedModel) -> ModelVersions:
        return ModelVersions(
            served.name,
            served.base_path,
            drain_seconds=self._drain_seconds,
            changed=self._publish,
            plane=self._plane,
        )

    def _publish(self) -> None:
        """Tells the data plane which versions serve now; a model that is not configured yet is not among them."""
        with self._publishing:
            self._plane.publish({name: model.serving() for name, model in self._models.items()})

    def _undo(self, target: dict[str, ModelVersions]) -> None:
        for model in target.values():
            if self._models.get(model.name) is model:
                model.update()
            else:
                model.close()

    def _watch(self, file: Path, seconds: float) -> None:
        lower_priority()
        current, complaint = self._configured, ""
        while not self._stopping.wait(seconds):
            try:
                models = read_model_config(file)
                if models != current:
                    self.reload(models)
                    current, self._roots = models, _parents(models)
                    _log.info("%s: read again; models: %s", file, ", ".join(served.name for served in models) or "none")
                complaint = ""
            except (ServableError, OSError) as error:
                if str(error) != complaint:
                    _log.error("%s: not applied, the configuration before stays in force: %s", file, error)
                complaint = str(error)


def _parents(models: Sequence[ServedModel]) -> list[Path]:
    return sorted({served.base_path.resolve().parent for served in models})
