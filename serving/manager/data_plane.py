"""What the manager of versions tells a data plane that answers requests beside Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from dpsr.serving.engine.loaded_model import LoadedModel


class ServingVersions(NamedTuple):
    """The versions of a model that serve."""

    versions: Mapping[int, LoadedModel]
    labels: Mapping[str, int]
    """Label -> version."""


class DataPlane(Protocol):
    """Answers requests for the models that it was told of."""

    def publish(self, models: Mapping[str, ServingVersions]) -> None:
        """Replaces all models: requests that arrive afterwards see these."""

    def retire(self, model: LoadedModel, seconds: float) -> int:
        """Begins no further call of a version that is not published any more, and waits for those in progress.

        Args:
            model: the version.
            seconds: longest wait.

        Returns:
            Number of calls that are still in progress.
        """


class _PythonOnly:
    """No other data plane."""

    def publish(self, models: Mapping[str, ServingVersions]) -> None: ...

    def retire(self, model: LoadedModel, seconds: float) -> int:
        return 0


PYTHON_ONLY: DataPlane = _PythonOnly()
"""Every request is answered through ``Models.use``."""
