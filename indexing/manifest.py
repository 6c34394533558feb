"""The manifest of a published version: what it was made of, and what was measured of each searcher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tabulate import tabulate

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


def searcher_table(version: Path) -> str:
    """The searchers of a published version with what was measured of each, as a small table."""
    manifest = read_manifest(version)
    rows = [_row(manifest["items"], name, searcher) for name, searcher in manifest["searchers"].items()]
    headers = [name for name in rows[0] if any(name in row and row[name] is not None for row in rows)]
    return tabulate([[row.get(name) for name in headers] for row in rows], headers=headers, disable_numparse=True)


def _row(items: int, name: str, searcher: dict[str, Any]) -> dict[str, str | None]:
    recall = searcher.get("recall", {})
    leaves = f"{searcher['leaves_to_search']:,} of {searcher['num_leaves']:,}" if "num_leaves" in searcher else None
    return {
        "searcher": name,
        "items": f"{items:,}",
        "index": searcher["kind"],
        "leaves": leaves,
        "reorder": f"{searcher['reorder']:,}" if "reorder" in searcher else None,
        "precision": searcher["precision"],
        f"recall@{searcher['k']}": f"{recall['serving_default']:.4f}" if recall else "exact",
        "personalized": f"{recall['personalized']:.4f}" if "personalized" in recall else None,
        "ms per vector": f"{searcher['latency_ms']:.2f}" if "latency_ms" in searcher else None,
    }
