"""Judgement lists of OpenSearch's Search Relevance Workbench: the body of ``PUT _plugins/_search_relevance/judgments``.

Ratings are written as texts, ``"3.000"``, which every release of the workbench takes. Read are also the workbench's
answers to a ``GET`` and bare arrays of ``judgmentRatings``, with ratings as texts or numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from dpsr.data.judgements.errors import JudgementError
from dpsr.data.judgements.formats.rows import Rejected, Row, shown
from dpsr.data.judgements.pooling import pooled_grades
from dpsr.data.judgements.records import Judgement

_RATINGS = "judgmentRatings"


def write(judgements: Iterable[Judgement]) -> bytes:
    """Writes pooled grades, grouped by query; the list has the name of the book, or the names of the books."""
    judgements = list(judgements)
    ratings: dict[str, list[dict[str, str]]] = {}
    for (query, item_id), grade in pooled_grades(judgements).items():
        ratings.setdefault(query, []).append({"docId": item_id, "rating": f"{grade:.3f}"})
    body = {
        "name": ", ".join(sorted({judgement.book for judgement in judgements})) or "judgements",
        "description": "Judgements exported from dpsr",
        "type": "IMPORT_JUDGMENT",
        _RATINGS: [{"query": query, "ratings": items} for query, items in ratings.items()],
    }
    return json.dumps(body, ensure_ascii=False, indent=1).encode()


def read(text: str) -> Iterator[Row | Rejected]:
    """Reads the rows of a file.

    Raises:
        JudgementError: the text is not JSON, or holds no judgement list.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise JudgementError(f"the file is not JSON: {error}; expected a judgement list of the workbench") from None
    for number, entry in enumerate(_entries(body), 1):
        place = f"query {number}"
        if not isinstance(entry, dict) or not isinstance(entry.get("ratings"), list):
            yield Rejected(place, f"expected an object with query and ratings (found {shown(entry)})")
            continue
        for position, rating in enumerate(entry["ratings"], 1):
            if isinstance(rating, dict):
                yield Row(f"{place}, rating {position}", entry.get("query"), rating.get("docId"), rating.get("rating"))
            else:
                yield Rejected(
                    f"{place}, rating {position}", f"expected an object with docId and rating (found {shown(rating)})"
                )


def _entries(body: Any) -> list[Any]:
    """The entries of a judgement list, or of the first of an answer."""
    if isinstance(body, dict) and isinstance(body.get("hits"), dict):
        found = body["hits"].get("hits")
        body = found[0] if isinstance(found, list) and found else body
    if isinstance(body, dict) and isinstance(body.get("_source"), dict):
        body = body["_source"]
    entries = body.get(_RATINGS) if isinstance(body, dict) else body
    if not isinstance(entries, list):
        raise JudgementError(
            f"the file holds no array {_RATINGS!r}; expected the judgement list as the workbench imports it"
        )
    return entries
