"""What explanations read of a run: its dataset, the texts and the log in it, and the versions that were published."""

from __future__ import annotations

import json
import threading
from functools import cached_property
from pathlib import Path

from dpsr.config import Config
from dpsr.data.dataset.directory import standing
from dpsr.data.dataset.schema import ITEMS_FILE, MANIFEST_FILE
from dpsr.data.dataset.tables import Dataset
from dpsr.page.errors import PageError
from dpsr.page.explain.features import QueryReader
from dpsr.page.explain.log import QueryLog
from dpsr.page.explain.served import ServedVersions


class OpenRun:
    """A run by one of its datasets, each part read when it is first needed; thread-safe."""

    def __init__(self, config: Config) -> None:
        """Opens the dataset."""
        self.manifest = _manifest(config)
        self.dataset = Dataset.load(config.dataset_dir)
        self._config = config
        self._lock = threading.RLock()

    @property
    def versions(self) -> ServedVersions:
        """The versions that were published."""
        with self._lock:
            return self._versions

    @property
    def reader(self) -> QueryReader:
        """Of the features of a query."""
        with self._lock:
            return self._reader

    @property
    def log(self) -> QueryLog:
        """What users did."""
        with self._lock:
            return self._log

    @cached_property
    def _versions(self) -> ServedVersions:
        return ServedVersions(self._config, self.dataset)

    @cached_property
    def _reader(self) -> QueryReader:
        return QueryReader(self.dataset)

    @cached_property
    def _log(self) -> QueryLog:
        return QueryLog(self.dataset)


class LatestRun:
    """The run by the dataset that explains what is served: the first one, or one that was prepared since.

    The rows of the items stay those of the first dataset: one with other items is not read.
    """

    def __init__(self, config: Config) -> None:
        """Opens nothing yet."""
        self._config = config
        self._items = _items_of(_manifest(config))
        self._lock = threading.Lock()
        self._run: OpenRun | None = None

    def open(self) -> OpenRun:
        """The run by the dataset that was read last.

        Raises:
            PageError: nothing was read before the dataset got other items.
        """
        with self._lock:
            if self._run is None:
                if _items_of(_manifest(self._config)) != self._items:
                    raise PageError(
                        f"{self._config.dataset_dir} has other items since the page started; start `dpsr page` again"
                    )
                self._run = OpenRun(self._config)
            return self._run

    def renewed(self) -> OpenRun | None:
        """The run by a dataset that was prepared since, which ``open`` gives from now on; None without one."""
        with self._lock:
            manifest = _manifest(self._config)
            if self._run is None or self._run.manifest == manifest or _items_of(manifest) != self._items:
                return None
            self._run = OpenRun(self._config)
            return self._run


def _manifest(config: Config) -> bytes:
    return (standing(Path(config.dataset_dir)) / MANIFEST_FILE).read_bytes()


def _items_of(manifest: bytes) -> str:
    """The digest of the items' file."""
    return str(json.loads(manifest)["files"][ITEMS_FILE]["sha256"])
