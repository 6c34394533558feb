"""The searchers of a servable, as ``index`` configures them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from dpsr.config import Config, IndexConfig
from dpsr.data.dataset.schema import SKIP
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import Catalogue
from dpsr.indexing.corpus import embed_queries
from dpsr.indexing.dense.ann import Index
from dpsr.indexing.dense.searcher import DenseSearcher
from dpsr.indexing.filters import Filters
from dpsr.indexing.fusion_tuning import UNTUNED, TunedFusion, tune_fusion
from dpsr.indexing.hybrid import HybridSearcher
from dpsr.indexing.lexical.build import TERMS_FILE, build_lexical
from dpsr.indexing.lexical.searcher import LexicalSearcher
from dpsr.indexing.parity import ParityExamples
from dpsr.indexing.searcher import Searcher
from dpsr.model.interface import Model

TUNING_CLICKS = 2000


@dataclass(frozen=True)
class Searchers:
    """What finds items in a servable, and how it was chosen."""

    searcher: Searcher
    """The one that answers."""
    dense: DenseSearcher
    lexical: LexicalSearcher | None = None
    fusion: TunedFusion | None = None
    """How the lists of both are joined; None with one searcher."""

    def with_expected_lists(self, examples: ParityExamples, texts: str) -> ParityExamples:
        """The examples with the lists of the lexical searcher and of both together; as they are with one searcher.

        Args:
            examples: of the searchers' items.
            texts: name of the input that holds the query texts.
        """
        if not isinstance(self.searcher, HybridSearcher):
            return examples
        terms = self.searcher.lexical.terms(tf.constant(examples.inputs[texts]))
        heads = tf.constant(examples.heads)
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


def join_searchers(
    index: IndexConfig,
    dense: DenseSearcher,
    filters: Filters,
    items: pa.Table,
    columns: tuple[str, ...],
    directory: Path,
    choose_fusion: Callable[[DenseSearcher, LexicalSearcher], TunedFusion],
) -> Searchers:
    """Builds what ``index.mode`` asks for beside the dense searcher.

    Args:
        index: the mode, and what concerns words.
        dense: finds the items by their vectors.
        filters: its filters.
        items: a row for each.
        columns: the text columns.
        directory: existing, for the files that the servable will copy.
        choose_fusion: called in the mode ``hybrid``: how the lists of both are joined.

    Raises:
        ExportError: see ``build_lexical``.
    """
    if index.mode == "dense":
        return Searchers(dense, dense)
    postings = build_lexical(items, columns, index.lexical, directory)
    lexical = LexicalSearcher(postings, directory / TERMS_FILE, filters, k=dense.k)
    fusion = choose_fusion(dense, lexical)
    return Searchers(HybridSearcher(dense, lexical, fusion.plan, default=fusion.mode), dense, lexical, fusion)


def build_searchers(
    config: Config,
    dataset: Dataset,
    model: Model,
    catalogue: Catalogue,
    index: Index,
    filters: Filters,
    directory: Path,
) -> Searchers:
    """Builds the searchers of ``index.mode`` and chooses how their lists are joined.

    Args:
        config: the run.
        dataset: what the model was trained on; the clicks of its valid split choose the fusion.
        model: its query tower, as it will be served.
        catalogue: the items.
        index: over their vectors.
        filters: over their columns.
        directory: existing, for the files that the servable will copy.

    Raises:
        ExportError: ``index.lexical`` names a column that is none.
    """
    wanted = config.index
    dense = DenseSearcher(index, model.query_heads, filters, filter_candidates=wanted.filter_candidates)
    choose_fusion = partial(_fusion, config, dataset, model, catalogue)
    return join_searchers(wanted, dense, filters, catalogue.table, dataset.schema.text, directory, choose_fusion)


def _fusion(
    config: Config,
    dataset: Dataset,
    model: Model,
    catalogue: Catalogue,
    dense: DenseSearcher,
    lexical: LexicalSearcher,
) -> TunedFusion:
    """The configured fusion, or what the latest clicks that the model was not trained on choose."""
    records = _clicks(dataset, config.training.seed)
    rows = rows_of(dataset.item_ids[records["item"]], catalogue.item_ids)
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
    chosen = np.random.default_rng(seed).choice(count, min(count, TUNING_CLICKS), replace=False)
    records = dataset.interactions_at("valid", np.sort(chosen))
    return records[records["event"] != SKIP]


def rows_of(wanted: np.ndarray, item_ids: np.ndarray) -> np.ndarray:
    """The row of each of some items among ``item_ids``, int32 [n]; -1 for one that is not among them."""
    found = set(wanted.tolist())
    row_of = {item: row for row, item in enumerate(item_ids) if item in found}
    return np.array([row_of.get(item, -1) for item in wanted.tolist()], np.int32)
