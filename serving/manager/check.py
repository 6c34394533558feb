"""Trial of a configuration: loads and warms up its versions and reports which of them work."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dpsr.serving.engine.loaded_model import LoadedModel
from dpsr.serving.engine.warmup import warm_up
from dpsr.serving.manager.model_config import ServedModel
from dpsr.serving.manager.versions import versions_below


class Finding(NamedTuple):
    """Result of one version, of a label, or of a model without versions."""

    works: bool
    text: str


def check(models: Sequence[ServedModel]) -> Iterator[Finding]:
    """Loads and warms up the versions of a configuration, one after the other.

    A server falls back to an older version if the newest one is broken; here a broken version is a failed finding.
    """
    for served in models:
        found = versions_below(served.base_path)
        wanted = served.policy.candidates(found)
        if served.policy.count is not None and served.policy.versions is None:
            wanted = wanted[: served.policy.count]
        missing = sorted((served.policy.versions or frozenset()) - set(wanted))
        for version in missing:
            yield Finding(False, f"{served.name} version {version}: {served.base_path / str(version)} does not exist")
        if not wanted and not missing:
            yield Finding(False, f"{served.name}: no version below {served.base_path}")
        for version in wanted:
            yield _try(served, version)
        for label, version in served.labels.items():
            if version not in wanted:
                yield Finding(False, f"{served.name} label {label}: version {version} is not among {wanted}")


def _try(served: ServedModel, version: int) -> Finding:
    name, start = f"{served.name} version {version}", time.monotonic()
    try:
        path = served.base_path / str(version)
        model = LoadedModel.load(served.name, version, path, inside=served.base_path)
        try:
            records = warm_up(model)
        finally:
            model.close()
    except Exception as error:  # any failure of a version is a finding
        return Finding(False, f"{name}: {error}")
    items = f"{model.items:,} items, " if model.items is not None else ""
    return Finding(
        True,
        f"{name}: works; {', '.join(sorted(model.signatures))}; {items}{records} warm-up requests, "
        f"{time.monotonic() - start:.1f} s",
    )
