"""The manifest of a published version: what it was made of, and what was measured of each searcher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dpsr.indexing.errors import ExportError

MANIFEST_FILE = "assets.extra/manifest.json"
"""Relative to the version directory."""


def write_manifest(version: Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest of a version; ``searchers`` maps a searcher's name to its parameters and ``recall``."""
    (version / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def read_manifest(version: Path) -> dict[str, Any]:
    """Reads the manifest of a version.

    Manifests without ``searchers`` have ``index`` and ``recall`` instead, those of the dense searcher.

    Raises:
        ExportError: the file is missing or is not a manifest.
    """
    path = version / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: not the manifest of a version ({error}); publish one with `dpsr export`") from None
    if "searchers" not in manifest:
        manifest["searchers"] = {"dense": {**manifest.pop("index"), "recall": manifest.pop("recall")}}
    return manifest
