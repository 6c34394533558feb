"""Section ``evaluation``: what is measured, and against which baselines."""

from __future__ import annotations

from typing import Annotated

import pydantic
from pydantic import Field

from dpsr.config.data import SourceConfig
from dpsr.config.section import PathName, Section


class LabelsConfig(SourceConfig):
    """Judged pairs, a Parquet file of ``query``, ``item_id`` and ``label``; a higher label is a better match.

    A path that ends in ``.sqlite`` is that of a store of judgements, whose grades and bad cases are the labels.
    """

    books: Annotated[list[str], Field(min_length=1)] | None = None
    """Of a store: books whose judgements count; bad cases then do not. All books and all bad cases without it."""

    positive_from: float = 1.0
    """Lowest label of a relevant pair."""
    graded: bool = True
    """nDCG takes a relevant pair's label, an integer, as its gain; else every relevant pair has gain 1."""
    exact_from: float | None = None
    """Lowest label of an exact match; with ``substitute_from``, the shares of exact, substitute and other matches among
    the 100 best items are measured too."""
    substitute_from: float | None = None
    """Lowest label of a substitute match, below ``exact_from``."""

    @property
    def is_store(self) -> bool:
        """Whether the labels are those of a store of judgements."""
        return self.path.endswith(".sqlite")

    @property
    def match_thresholds(self) -> tuple[float, float] | None:
        """Lowest labels of an exact and of a substitute match."""
        if self.exact_from is None or self.substitute_from is None:
            return None
        return self.exact_from, self.substitute_from

    @pydantic.model_validator(mode="after")
    def _matches_are_ordered(self) -> LabelsConfig:
        if (self.exact_from is None) != (self.substitute_from is None):
            raise ValueError("exact_from and substitute_from tell kinds of matches together; set both, or neither")
        if self.match_thresholds is not None and self.match_thresholds[0] <= self.match_thresholds[1]:
            raise ValueError(
                f"exact_from = {self.exact_from:g} has to be above substitute_from = {self.substitute_from:g}"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _a_store_has_books(self) -> LabelsConfig:
        if self.is_store and self.columns:
            raise ValueError(f"columns name those of a Parquet file, and {self.path} is a store of judgements")
        if self.books is not None and not self.is_store:
            raise ValueError(f"books are those of a store of judgements (.sqlite), and {self.path} is none")
        return self


class EvaluationConfig(Section):
    """Examples, candidates and baselines of an evaluation (paper, section 5.1)."""

    max_examples: Annotated[int, Field(ge=1)] = 10_000
    """Clicks sampled from a larger split."""
    candidates: Annotated[int, Field(ge=2)] = 1024
    """Items that Top-k is measured among: the clicked one and random others."""
    baselines: list[str] = ["popularity", "bm25", "bm25 bigrams", "lsa", "bm25+popularity", "memory"]
    """Methods that the model is compared with (docs/evaluation.md has their names); ``FIRST>SCORER@DEPTH`` is a
    reranker, as ``bm25>dpsr@100``. BM25, the model and its hybrids with BM25 always take part."""
    word_vectors: PathName | None = None
    """Text file of pre-trained word vectors, in the format of GloVe or word2vec, gzipped if it ends in ``.gz``: the
    baseline ``glove`` reads it in place of a training, and the embeddings of models of interaction start from it."""
    checkpoint: PathName | None = None
    """Folder of a published checkpoint, as ``model.transformer.initial``, that the baseline ``cross-encoder`` starts
    from; without it a small transformer starts from nothing."""
    runs: dict[str, PathName] = {}
    """Other trained runs over the same catalogue that take part: the name of the method -> the run's ``work_dir``."""
    slice_by: list[str] = []
    """Slices by value of a column: profile columns of the user, or categorical columns of the clicked item."""
    senses: PathName | None = None
    """Parquet file of polysemous queries: ``query``, and the values of one categorical item column."""
    labels: LabelsConfig | None = None
    """Judged pairs, measured by AUC and by ranked lists with gains."""
