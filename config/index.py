"""Section ``index``: the searchers inside the servable."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dpsr.config.section import Section


class LexicalConfig(Section):
    """BM25 over the words of the items (Robertson and Zaragoza, 2009, section 3.4).

    In place of a default that the configuration leaves as it is stands what ``dpsr evaluate --tune`` chose.
    """

    k1: Annotated[float, Field(ge=0.0)] = 1.2
    """How much more a word counts that stands in an item twice."""
    b: Annotated[float, Field(ge=0.0, le=1.0)] = 0.75
    """How much less a word counts in a long text than in a short one."""
    bigrams: bool = False
    """Index pairs of neighbouring words too."""
    weights: dict[str, Annotated[float, Field(gt=0.0)]] = {}
    """Text column -> what a word in it counts; 1 for columns that are not named."""
    popularity: Annotated[float, Field(ge=0.0)] = 0.0
    """Adds this times log(1 + clicks of the train split) to the score of an item that has a word of the query."""


class MemoryConfig(Section):
    """Items that were clicked for the same query; what is None is chosen by the clicks of the valid split."""

    half_life: Annotated[float, Field(gt=0.0)] | None = None
    """Age at which a click counts half, and from which on it fades ever more slowly: days; where the log's times are
    integers, in their unit, and without times in rows of the log. ``inf`` counts all clicks alike."""
    weight: Annotated[float, Field(gt=0.0)] | None = None
    """Clicks that the list of the other searchers counts as."""
    temperature: Annotated[float, Field(gt=0.0)] | None = None
    """Of the softmax over the scores of that list: the lower, the more of them the first items get."""


class IndexConfig(Section):
    """The searchers inside the servable."""

    mode: Literal["dense", "lexical", "hybrid"] = "dense"
    """``dense``: items by their vectors; ``lexical``: by words, without a model; ``hybrid``: both, in one list."""
    lexical: LexicalConfig = LexicalConfig()
    """Of the modes ``lexical`` and ``hybrid``."""
    fusion: Literal["weighted_sum", "reciprocal_ranks"] | None = None
    """How the two lists of the mode ``hybrid`` become one; None chooses by the clicks of the valid split."""
    dense_weight: Annotated[float, Field(gt=0.0)] | Literal["auto"] | None = None
    """Weight of the dense list in ``fusion``; None chooses by the clicks of the valid split, ``auto`` learns one for
    each query from them where that is better beyond noise. Where a choice is left and the chosen fusion is not ahead of
    one searcher alone, that searcher answers by default, and the manifest says so."""
    memory: MemoryConfig | None = None
    """Adds what was clicked for the same query, whatever the mode; left out where None."""
    k: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """Items returned for a query."""
    exact_below: Annotated[int, Field(ge=0)] = 20_000
    """Catalogues of fewer items are searched exactly."""
    min_recall: Annotated[float, Field(ge=0.0, le=1.0)] = 0.95
    """Least recall@k of a searcher against exact search; an export below it publishes nothing."""
    keep_versions: Annotated[int, Field(ge=0)] = 5
    """Versions kept when one is published, the newest included; 0 keeps all."""
    merge_above: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    """Share of fresh items, or of removed rows of the base segment, above which ``dpsr export --since`` builds the
    index anew."""
    filter_range: list[str] = []
    """Numeric item columns that a request may restrict to a range; categorical ones can always be filtered by."""
    precision: Literal["float32", "int8"] = "float32"
    """Of the vectors inside an approximate index; ``int8`` takes a quarter of the memory, its score error is 0.01."""
    text_encoder_precision: Literal["float32", "int8"] = "float32"
    """Of the matrices of a transformer that reads the query: ``int8`` multiplies them several times as fast. What it
    costs is measured at export and kept in the manifest. Items are always embedded in float32."""

    @model_validator(mode="after")
    def _ranks_have_one_weight(self) -> IndexConfig:
        if self.dense_weight == "auto" and self.fusion == "reciprocal_ranks":
            raise ValueError(
                "dense_weight = 'auto' learns a weight of scores, and fusion = 'reciprocal_ranks' reads none; set "
                "fusion = 'weighted_sum', leave it out, or give dense_weight a number"
            )
        return self
