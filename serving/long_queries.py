"""Many queries at once, of which a server refuses the whole request for one that is longer than it takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from dpsr.serving.errors import ServingError

T = TypeVar("T")

_MOST_BYTES = re.compile(r"serving\.max_query_bytes allows (\d+)")


def ask_those_that_fit(queries: Sequence[str], ask: Callable[[list[str]], Sequence[T]]) -> list[T | None]:
    """Asks queries by one request, and by a second one without those that the server refuses as too long.

    Args:
        queries: their texts.
        ask: sends a request; returns an answer for each text.

    Returns:
        An answer for each query; None for one above the server's ``serving.max_query_bytes``.

    Raises:
        ServingError: of ``ask``, for another reason.
    """
    try:
        return list(ask(list(queries)))
    except ServingError as error:
        most = _MOST_BYTES.search(error.message)
        fits = [most is None or len(query.encode()) <= int(most[1]) for query in queries]
        if all(fits):
            raise
    kept = [query for query, fit in zip(queries, fits, strict=True) if fit]
    answers: Iterator[T] = iter(ask(kept) if kept else ())
    return [next(answers) if fit else None for fit in fits]
