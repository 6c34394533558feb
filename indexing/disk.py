"""Whether what an export will write fits on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from dpsr.config import IndexConfig
from dpsr.data.dataset.schema import Schema
from dpsr.indexing.catalogue import Catalogue
from dpsr.indexing.errors import ExportError
from dpsr.model.interface import Model

_ID_OVERHEAD = 8
"""Bytes of a string besides its characters."""
_FIXED = 16 << 20
"""Graph, examples, warm-up requests, manifest."""
_MARGIN = 1.1


def export_bytes(config: IndexConfig, schema: Schema, model: Model, catalogue: Catalogue) -> int:
    """An upper estimate of what an export writes, in bytes.

    The vectors are there three times until the export is done: as they are embedded, in the index, and for the check.
    """
    items, dimension = len(catalogue), model.config.dimension
    vectors = 4 * items * dimension
    exact = items < config.exact_below
    codes = 0 if exact else items * (-(-dimension // 2) + 8)
    weights = sum(4 * int(np.prod(variable.shape)) for variable in model.variables)
    columns = 4 * items * (len(schema.categorical) + len(config.filter_range))
    ids = 8 * items
    if schema.item_id_type == "string":
        ids = sum(len(item.encode()) + _ID_OVERHEAD for item in catalogue.item_ids)
    # The ids are in the servable, in the table of histories, and in the examples.
    return int(_MARGIN * (3 * vectors + codes + weights + columns + 3 * ids)) + _FIXED


def require_free(directory: Path, needed: int) -> None:
    """Checks the free space of a directory's file system; the directory is made.

    Raises:
        ExportError: there is less than is needed; says both.
    """
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise ExportError(
            f"{directory}: the export needs about {_megabytes(needed)}, but only {_megabytes(free)} are free; make "
            "room (index.keep_versions decides how many old versions stay), or set another work_dir"
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
