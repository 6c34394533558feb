"""The searchers of a servable, as ``index`` configures them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dpsr.config import Config
from dpsr.data.dataset.schema import SKIP
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.corpus import embed_queries
from dpsr.indexing.dense.searcher import DenseSearcher
from dpsr.indexing.dense.segments import VectorIndex
from dpsr.indexing.filters import Filters
from dpsr.indexing.fusion_tuning import UNTUNED, TunedFusion, tune_fusion
from dpsr.indexing.hybrid import HybridSearcher
from dpsr.indexing.lexical.build import TERMS_FILE, build_lexical
from dpsr.indexing.lexical.searcher import LexicalSearcher
from dpsr.indexing.parity import ParityExamples
from dpsr.indexing.searcher import Searcher
from dpsr.model.interface import Model

_TUNING_CLICKS = 2000


@dataclass(frozen=True)
class Searchers:
    """What finds items in a servable, and how it was chosen."""

    searcher: Searcher
    """The one that answers."""
    dense: DenseSearcher
    lexical: LexicalSearcher | None = None
    fusion: TunedFusion | None = None
    """How the lists of both are joined; None with one searcher."""

    def with_expected_lists(self, examples: ParityExamples) -> ParityExamples:
        """The examples with the lists of the lexical searcher and of both together; as they are with one searcher."""
        if not isinstance(self.searcher, HybridSearcher):
            return examples
        terms, heads = self.searcher.lexical.terms(tf.constant(examples.queries)), tf.constant(examples.anonymous_heads)
        return replace(
            examples,
            lexical_rows=self.searcher.lexical.search_terms(terms).rows.numpy(),
            hybrid_rows=self.searcher.search_heads_and_terms(heads, terms).rows.numpy(),
        )

    def describe(self, recall: dict[str, float]) -> dict[str, Any]:
        """Entries of the manifest; ``recall`` is that of the dense searcher, by signature."""
        found: dict[str, Any] = {"searchers": {"dense": {**self.dense.describe(), "recall": recall}}}
        if self.lexical is not None:
            found["searchers"]["lexical"] = self.lexical.describe()
        if self.fusion is not None:
            found["fusion"] = self.fusion.describe()
        return found


def build_searchers(
    config: Config,
    dataset: Dataset,
    model: Model,
    catalogue: ItemRows,
    index: VectorIndex,
    filters: Filters,
    directory: Path,
    *,
    fusion: TunedFusion | None = None,
) -> Searchers:
    """Builds the searchers of ``index.mode`` and chooses how their lists are joined.

    Args:
        config: the run.
        dataset: what the model was trained on; the clicks of its valid split choose the fusion.
        model: its query tower, as it will be served.
        catalogue: the items, by the rows of the index.
        index: over their vectors.
        filters: over their columns.
        directory: existing, for the files that the servable will copy.
        fusion: how the lists are joined, where that was chosen before.

    Raises:
        ExportError: ``index.lexical`` names a column that is none.
    """
    wanted = config.index
    dense = DenseSearcher(index, model.query_heads, filters, filter_candidates=wanted.filter_candidates)
    if wanted.mode == "dense":
        return Searchers(dense, dense)
    postings = build_lexical(catalogue, dataset.schema.text, wanted.lexical, directory)
    lexical = LexicalSearcher(postings, directory / TERMS_FILE, filters, k=dense.k)
    if fusion is None:
        fusion = _fusion(config, dataset, model, catalogue, dense, lexical)
    return Searchers(HybridSearcher(dense, lexical, fusion.plan, default=fusion.mode), dense, lexical, fusion)


def _fusion(
    config: Config,
    dataset: Dataset,
    model: Model,
    catalogue: ItemRows,
    dense: DenseSearcher,
    lexical: LexicalSearcher,
) -> TunedFusion:
    """The configured fusion, or what the latest clicks that the model was not trained on choose."""
    records = _clicks(dataset, config.training.seed)
    rows = _rows_of(dataset.item_ids[records["item"]], catalogue)
    records, rows = records[rows >= 0], rows[rows >= 0]
    if not len(records):
        return TunedFusion(UNTUNED.replaced(config.index.fusion, config.index.dense_weight), 0, {})
    return tune_fusion(
        dense,
        lexical,
        embed_queries(model, dataset, anonymous(records)),
        dataset.query_texts().take(records["query"]).to_pylist(),
        rows,
        kind=config.index.fusion,
        weight=config.index.dense_weight,
    )


def anonymous(records: np.ndarray) -> np.ndarray:
    """The queries of some records as of users of whom nothing is known, INTERACTION [n]."""
    unknown = records.copy()
    unknown["user"], unknown["history_end"] = -1, 0
    return unknown


def _clicks(dataset: Dataset, seed: int) -> np.ndarray:
    """Clicks of the valid split, INTERACTION [n]; none without a log, as the queries then are words of items."""
    count = dataset.num_interactions("valid") if dataset.num_interactions("train") else 0
    chosen = np.random.default_rng(seed).choice(count, min(count, _TUNING_CLICKS), replace=False)
    records = dataset.interactions_at("valid", np.sort(chosen))
    return records[records["event"] != SKIP]


def _rows_of(item_ids: np.ndarray, catalogue: ItemRows) -> np.ndarray:
    """The catalogue's row of each item, int32 [n]; -1 for one that it does not have."""
    wanted = set(item_ids.tolist())
    row_of = {item: row for row, item in enumerate(catalogue.item_ids) if item in wanted}
    return np.array([row_of.get(item, -1) for item in item_ids.tolist()], np.int32)
