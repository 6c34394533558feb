"""Names and values of a servable's inputs and outputs, as a client sees them; needs no TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dpsr.indexing.errors import ExportError

FILTER_PREFIX = "filter_"
MODE_INPUT = "mode"
"""The input that chooses among the searchers of a servable."""
MODES = ("dense", "lexical", "hybrid")
"""Its values in a hybrid servable: each searcher alone, and both; a servable of words alone takes ``lexical``."""
LEXICAL_MODE = MODES[1]
MEMORY_MODE = "memory"
"""Its value that asks for the clicks of the same query too."""
DENSE, LEXICAL, MEMORY = 1, 2, 4
"""Bits of the output ``source``: the searchers that found an item."""
SOURCES = {DENSE: "dense", LEXICAL: "lexical", MEMORY: "memory"}
RETRIEVING = ("serving_default", "personalized", "filtered")
"""The signatures that answer with items."""
_RESERVED = ("query", "history", MODE_INPUT)


def modes_of(mode: str, *, memory: bool) -> tuple[str, ...]:
    """The values of ``mode`` that a servable of ``index.mode`` takes; none where it finds items by vectors alone."""
    if mode == "dense" and not memory:
        return ()
    modes = MODES if mode == "hybrid" else (mode,)
    return (*modes, MEMORY_MODE) if memory else modes


def tensor_name(column: str) -> str:
    """A column's name with ``_`` in place of all but ASCII letters, digits and ``_``, as tensors are named."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", column)


def filter_input(column: str) -> str:
    """The input that filters by a column; for a range, ``column`` begins with ``min_`` or ``max_``."""
    return FILTER_PREFIX + tensor_name(column)


def profile_inputs(columns: Iterable[str]) -> dict[str, str]:
    """Names the inputs of profile columns; see ``tensor_name``.

    Returns:
        column -> input.

    Raises:
        ExportError: two inputs would have one name.
    """
    names: dict[str, str] = {}
    for column in columns:
        name = tensor_name(column)
        name = name if name[0].isalpha() else f"arg_{name}"
        if name in (*_RESERVED, *names.values()) or name.startswith(FILTER_PREFIX):
            raise ExportError(
                f"profile column {column!r} would be input {name!r} of the servable, which another input has already; "
                "rename the column"
            )
        names[column] = name
    return names


def item_key(item: bytes | int) -> str | int:
    """An element of the output ``item_id`` as the dataset has it."""
    return item.decode() if isinstance(item, bytes) else int(item)
