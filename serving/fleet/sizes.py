"""Memory that a servable takes when it is loaded, estimated from its files.

A manifest has no size of the loaded model, so that the estimate is by files, and holds for servables of any program:

| servable | data MB | graph MB | loaded MiB | estimate MiB |
|---|---|---|---|---|
| 50 vectors of 8 numbers, 7 signatures | 0.003 | 0.06 | 3 | 4 |
| 1,000 items, two towers, 6 signatures with filters | 5.6 | 0.30 | 28 | 30 |
| 20,000 items of 64 numbers, 1 signature | 6.5 | 0.06 | 15 | 18 |
| 200,000 items of 64 numbers, 1 signature | 62 | 0.06 | 127 | 134 |

Loaded: anonymous memory of the server's process per loaded and warmed-up copy. Larger ones (docs/servable.md, 600 MiB
of the process itself taken off) have 1.7 to 2.2 times their files: the variables, the searcher's own copy of vectors
and codes, buffers of runs. A graph takes more than its file, as each signature is optimised apart.
"""

from __future__ import annotations

import os
from pathlib import Path

from dpsr.serving.fleet.errors import FleetError

GRAPH_FILES = ("saved_model.pb", "saved_model.pbtxt")
_NOT_LOADED = "assets.extra"
"""Folder of the manifest, the warm-up requests and the fingerprints of items: no part of the loaded model."""
_DATA_FACTOR = 2.2
"""Bytes in memory for one of the variables and assets, and of weights inside the graph."""
_GRAPH_FACTOR, _GRAPH_MOST = 60.0, 128 << 20
"""Bytes in memory for one of the graph's nodes; a graph that is larger holds weights instead."""
_FIXED = 1 << 20
"""The session, its threads' stacks, metrics, the state of the versions."""
_ATTEMPTS = 5


def model_bytes(base_path: Path) -> int:
    """Memory of the newest version of a model, in bytes.

    Args:
        base_path: the directory whose integer-named entries are versions.

    Raises:
        FleetError: there is no version that is a SavedModel.
    """
    for _ in range(_ATTEMPTS):
        version = _newest_version(base_path)
        try:
            return _version_bytes(version)
        except FileNotFoundError:
            continue  # an export has removed the version since, and published a newer one first
    raise FleetError(f"{base_path}: its versions vanish while they are read; let exports there end, then try again")


def _newest_version(base_path: Path) -> Path:
    try:
        found = sorted(entry.name for entry in base_path.iterdir())
    except NotADirectoryError:
        raise _unusable(base_path, "it is a file") from None
    except FileNotFoundError:
        raise _unusable(base_path, "there is no such directory") from None
    except PermissionError:
        raise FleetError(f"{base_path}: may not be read; let the user of this process read it") from None
    if set(found) & set(GRAPH_FILES):
        parent = base_path.parent if base_path.name.isdigit() else "such a directory"
        raise FleetError(
            f"{base_path}: is a version itself, it has {min(set(found) & set(GRAPH_FILES))}; a base path holds "
            f"versions in folders with integer names: name {parent}"
        )
    versions = sorted((int(name) for name in found if name.isascii() and name.isdigit()), reverse=True)
    names = {int(name): name for name in found if name.isascii() and name.isdigit()}
    for number in versions:
        version = base_path / names[number]
        if any((version / name).is_file() for name in GRAPH_FILES):
            return version
    if versions:
        raise _unusable(base_path, f"version {versions[0]} has no {GRAPH_FILES[0]}")
    seen = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
    raise _unusable(base_path, f"no folder there has an integer name, found: {seen or 'nothing'}")


def _unusable(base_path: Path, finding: str) -> FleetError:
    return FleetError(
        f"{base_path}: holds no servable, {finding}; publish one with `dpsr export`, or correct base_path"
    )


def _version_bytes(version: Path) -> int:
    graph = data = 0
    for folder, folders, names in os.walk(version):
        if Path(folder) == version and _NOT_LOADED in folders:
            folders.remove(_NOT_LOADED)
        for name in names:
            size = os.stat(os.path.join(folder, name)).st_size
            if Path(folder) == version and name in GRAPH_FILES:
                graph += size
            else:
                data += size
    nodes = min((_GRAPH_FACTOR - _DATA_FACTOR) * graph, _GRAPH_MOST)
    return int(_DATA_FACTOR * (data + graph) + nodes) + _FIXED
