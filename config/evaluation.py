"""Section ``evaluation``: what is measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dpsr.config.data import SourceConfig
from dpsr.config.section import PathName, Section


class LabelsConfig(SourceConfig):
    """Judged pairs, a Parquet file: ``query``, ``item_id`` and ``label``, the higher the better."""

    positive_from: float = 1.0
    """Pairs with at least this label are relevant."""
    graded: bool = True
    """nDCG takes a relevant pair's label, a whole number, as its gain; else every relevant pair counts 1."""


class EvaluationConfig(Section):
    """Which examples are scored, and against how many candidates (paper, section 5.1)."""

    max_examples: Annotated[int, Field(ge=1)] = 10_000
    candidates: Annotated[int, Field(ge=2)] = 1024
    """Top-k is measured among this many items: the clicked one and random others."""
    slice_by: list[str] = []
    """Profile columns of the user, or categorical columns of the clicked item (as a language), to measure apart by."""
    senses: PathName | None = None
    """A Parquet file of what queries may mean: ``query``, and the values of one categorical item column."""
    dssm: bool = False
    """Trains DSSM, with skipped items as negatives, on the same log, and compares with it."""
    labels: LabelsConfig | None = None
    """Judged pairs that are measured too: AUC, and ranked lists with gains."""
