"""The version that a server answers with: its files, and the trained towers that it was made of."""

from __future__ import annotations

import threading
from typing import NamedTuple

from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset
from dpsr.errors import DpsrError
from dpsr.indexing.errors import ExportError
from dpsr.indexing.fingerprints import model_fingerprint
from dpsr.model.trained import load_model
from dpsr.model.two_tower import TwoTower
from dpsr.page.explain.published import PublishedVersion


class Served(NamedTuple):
    """What is known of a version on this machine."""

    published: PublishedVersion | None
    model: TwoTower | None
    """The towers; None where they are not those of the version, or cannot be loaded."""
    notes: tuple[str, ...]
    """Why something is missing."""


class ServedVersions:
    """Opens versions of a run, and keeps the last one that was asked for, and its towers; thread-safe."""

    def __init__(self, config: Config, dataset: Dataset) -> None:
        """Opens nothing yet.

        Args:
            config: the run, whose checkpoints and published versions are read.
            dataset: what it was trained on.
        """
        self._config, self._dataset = config, dataset
        self._lock = threading.Lock()
        self._last: tuple[int, Served] | None = None
        self._model: tuple[str, TwoTower] | None = None

    def open(self, version: int) -> Served:
        """A version by its number."""
        with self._lock:
            if self._last is None or self._last[0] != version:
                self._last = version, self._opened(version)
            return self._last[1]

    def _opened(self, version: int) -> Served:
        directory = self._config.model_base_path / str(version)
        try:
            published = PublishedVersion(directory)
        except ExportError as error:
            return Served(None, None, (f"Scores by token and term, and near items, need the files served: {error}",))
        if not published.has_vectors:
            return Served(published, None, ("This version finds items by their words alone, without a model.",))
        wanted = published.model_fingerprint
        if wanted is None:
            note = (
                "The towers of this version were trained elsewhere, or an older release published them: what a token "
                "adds to their scores is not known."
            )
            return Served(published, None, (note,))
        try:
            return Served(published, self._towers(wanted), ())
        except DpsrError as error:
            return Served(published, None, (f"What a token adds to the dense score is not known: {error}",))

    def _towers(self, fingerprint: str) -> TwoTower:
        """The trained towers of the run; they have to be those of the fingerprint."""
        if self._model is None or self._model[0] != fingerprint:
            model = load_model(self._config, self._dataset)
            if not isinstance(model, TwoTower):
                raise ExportError(f"{self._config.checkpoint_dir}: holds a model of type {type(model).__name__}")
            self._model = model_fingerprint(model), model
        found, model = self._model
        if found != fingerprint:
            raise ExportError(
                f"{self._config.checkpoint_dir} holds other weights than the version on the server, since the run was "
                "trained again; publish what is there by `dpsr export`, or ask for a version that was made of it"
            )
        return model
