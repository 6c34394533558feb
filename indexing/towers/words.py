"""The words of queries beside a query model of another make, and the pairs that weigh them against its vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dpsr.config import IndexConfig
from dpsr.indexing.dense.searcher import DenseSearcher
from dpsr.indexing.errors import ExportError
from dpsr.indexing.fusion import FusionPlan
from dpsr.indexing.fusion_candidates import Candidates
from dpsr.indexing.fusion_tuning import TunedFusion, tune_fusion
from dpsr.indexing.lexical.searcher import LexicalSearcher
from dpsr.indexing.towers.query_model import QueryModel
from dpsr.indexing.valid_clicks import TUNING_CLICKS, rows_of

UNTUNED = FusionPlan("reciprocal_ranks", 1.0)
"""Where no pair can choose: by ranks, as inner products of vectors of any length have no scale in common with BM25."""


@dataclass(frozen=True)
class Words:
    """The input that holds the words of a query, and the pairs of queries and items."""

    text_input: str
    examples: Mapping[str, np.ndarray] = field(default_factory=dict)
    """The n queries of the pairs, by input."""
    clicked: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    """int32 [n], the rows of their items."""

    @classmethod
    def of(cls, text_input: str | None, clicked: Any, examples: Mapping[str, np.ndarray], ids: np.ndarray) -> Words:
        """Checks what an export is told of words.

        Args:
            text_input: the input; None for the only one.
            clicked: the id of the item of each example [n], or None.
            examples: of ``example_inputs``.
            ids: of the items, object (str) or int64 [items].

        Raises:
            ExportError: the input is not there or holds no strings, or no clicked item is among the items.
        """
        name = next(iter(examples)) if text_input is None and len(examples) == 1 else text_input
        if name is None or name not in examples or examples[name].dtype != object or examples[name].ndim != 1:
            found = ", ".join(f"{key} {values.dtype} {list(values.shape)}" for key, values in examples.items())
            raise ExportError(
                f"text_input = {text_input!r}: expected the input of strings [n] that holds the words of a query "
                f"(found in queries: {found}, where object stands for strings)"
            )
        if clicked is None:
            return cls(name)
        known, rows = _pairs(clicked, len(examples[name]), ids)
        return cls(name, {key: values[known] for key, values in examples.items()}, rows)

    def choose_fusion(
        self, config: IndexConfig, model: QueryModel, dense: DenseSearcher, lexical: LexicalSearcher
    ) -> TunedFusion:
        """How the lists are joined: as configured, and where that leaves a choice, as the pairs choose."""
        if not len(self.clicked):
            return TunedFusion(UNTUNED.replaced(config.fusion, config.dense_weight), 0, {})
        texts = [text.decode(errors="replace") for text in self.examples[self.text_input]]
        heads = model.embed(self.examples)
        candidates = Candidates.found(dense, lexical, heads, texts)
        return tune_fusion(candidates, texts, self.clicked, kind=config.fusion, weight=config.dense_weight)


def check_no_words(text: Sequence[str], text_input: str | None, clicked: Any) -> None:
    """Raises ExportError where an argument of words is given beside no text columns."""
    for name, value in (("text_input", text_input), ("clicked", clicked)):
        if not text and value is not None:
            raise ExportError(f"{name} is of a search by words; name the text columns of the items in `text`")


def _pairs(clicked: Any, queries: int, item_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Queries whose clicked item is among the items, and its rows; at most ``TUNING_CLICKS``."""
    ids = [item.decode() if isinstance(item, bytes) else item for item in np.asarray(clicked).tolist()]
    if len(ids) != queries:
        raise ExportError(f"clicked: found {len(ids):,} ids for {queries:,} queries; expected one for each")
    rows = rows_of(np.array(ids, object), item_ids)
    known = np.flatnonzero(rows >= 0)
    if not len(known):
        raise ExportError(f"clicked: no id is one of the items (found: {ids[0]!r}, ...; items: {item_ids[0]!r}, ...)")
    if len(known) > TUNING_CLICKS:
        known = np.sort(np.random.default_rng(1).choice(known, TUNING_CLICKS, replace=False))
    return known, rows[known]
