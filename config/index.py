"""Section ``index``: the searchers inside the servable."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dpsr.config.section import Section


class IndexConfig(Section):
    """The nearest-neighbour index inside the servable."""

    k: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Items returned for a query."""
    exact_below: Annotated[int, Field(ge=0)] = 20_000
    """Catalogues of fewer items are searched exactly."""
    min_recall: Annotated[float, Field(ge=0.0, le=1.0)] = 0.95
    """Least recall@k of a searcher against exact search; an export below it publishes nothing."""
    keep_versions: Annotated[int, Field(ge=0)] = 5
    """Versions kept when one is published, the newest included; 0 keeps all."""
    filter_range: list[str] = []
    """Numeric item columns that a request may restrict to a range; categorical ones can always be filtered by."""
    filter_candidates: Annotated[int, Field(ge=1)] = 20_000
    """Nearest items of each head among which a filter finds the matching ones."""
    precision: Literal["float32", "int8"] = "float32"
    """Of the vectors inside an approximate index; ``int8`` takes a quarter of the memory, its score error is 0.01."""
    text_encoder_precision: Literal["float32", "int8"] = "float32"
    """Of the matrices of a transformer that reads the query: ``int8`` multiplies them several times as fast. What it
    costs is measured at export and kept in the manifest. Items are always embedded in float32."""
