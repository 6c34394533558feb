"""Data files of a servable that later versions share: hard links instead of copies.

The variables that a version takes over stand in files of their own, whose bytes are the same in both versions. Removing
either version leaves the other as it is.
"""

from __future__ import annotations

import filecmp
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

_log = logging.getLogger(__name__)

_OF_ONE_FILE = (r"(^|/)_state/", r"^_query_tower_variables/", r"^_history_ids/")
"""Keys of the variables that have a data file of their own; the first one that is found in a key decides."""
_NOT_SHARED = "/_fresh/"


class ByOrigin(tf.train.experimental.ShardingCallback):
    """Puts the base segment of an index, the query tower and the ids of histories into files of their own."""

    @property
    def description(self) -> str:
        """For TensorFlow's metrics."""
        return "One file for each part of a servable that later versions share."

    def __call__(self, shardable_tensors: Sequence[tf.train.experimental.ShardableTensor]) -> Sequence[dict]:
        """Distributes the variables; see ``tf.train.experimental.ShardingCallback``."""
        files: dict[str, dict] = {}
        for tensor in shardable_tensors:
            tensors = files.setdefault(_part(tensor.checkpoint_key), {})
            tensors.setdefault(tensor.checkpoint_key, {})[tensor.slice_spec] = tensor.tensor
        return [files[part] for part in sorted(files)]


def link_shared(servable: Path, earlier: Path) -> int:
    """Replaces data files of a servable by hard links to those of an earlier version with the same bytes.

    Where the file system has no hard links, or both are not on one file system, the files stay as they are.

    Args:
        servable: SavedModel that is not published yet.
        earlier: version.

    Returns:
        The bytes of the files that are shared now.
    """
    shared = 0
    by_size = {path.stat().st_size: path for path in sorted((earlier / "variables").glob("*.data-*"))}
    for path in sorted((servable / "variables").glob("*.data-*")):
        size = path.stat().st_size
        same, link = by_size.get(size), path.with_name(f"{path.name}.link")
        if same is None:
            continue
        try:
            if filecmp.cmp(path, same, shallow=False):
                os.link(same, link)
                os.replace(link, path)
                shared += size
        except OSError as error:  # another export may have removed the version
            _log.info("%s stays a copy of %s: %s", path, same, error)
    return shared


def _part(key: str) -> str:
    if _NOT_SHARED in key:
        return ""
    return next((pattern for pattern in _OF_ONE_FILE if re.search(pattern, key)), "")
