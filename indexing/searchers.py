"""The searchers of a servable, as ``index`` configures them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
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
from dpsr.indexing.memory.build import build_memory, choose_memory_plan
from dpsr.indexing.memory.searcher import ClickMemory, MemorySearcher
from dpsr.indexing.memory.tuning import TunedMemory
from dpsr.indexing.parity import ParityExamples
from dpsr.indexing.searcher import ScoringSearcher
from dpsr.model.interface import Model

_TUNING_CLICKS = 2000


@dataclass(frozen=True)
class Searchers:
    """What finds items in a servable, and how it was chosen."""

    searcher: ScoringSearcher | MemorySearcher
    """The one that answers."""
    dense: DenseSearcher
    lexical: LexicalSearcher | None = None
    fusion: TunedFusion | None = None
    """How the lists of both are joined; None with one searcher."""
    memory: TunedMemory | None = None
    """How the clicks of a query are joined to that list; None without a memory."""

    def with_expected_lists(self, examples: ParityExamples) -> ParityExamples:
        """The examples with the lists that every searcher but the dense one has for them."""
        searcher, texts = self.searcher, tf.constant(examples.queries)
        if isinstance(searcher, MemorySearcher):
            examples = replace(examples, remembered_rows=searcher.memory.recall(texts).rows.numpy())
            searcher = searcher.prior
        if isinstance(searcher, HybridSearcher):
            terms, heads = searcher.lexical.terms(texts), tf.constant(examples.anonymous_heads)
            examples = replace(
                examples,
                lexical_rows=searcher.lexical.search_terms(terms).rows.numpy(),
                hybrid_rows=searcher.search_heads_and_terms(heads, terms).rows.numpy(),
            )
        return examples

    def describe(self, recall: dict[str, float]) -> dict[str, Any]:
        """Entries of the manifest; ``recall`` is that of the dense searcher, by signature."""
        found: dict[str, Any] = {"searchers": {"dense": {**self.dense.describe(), "recall": recall}}}
        if self.lexical is not None:
            found["searchers"]["lexical"] = self.lexical.describe()
        if self.fusion is not None:
            found["fusion"] = self.fusion.describe()
        if self.memory is not None and isinstance(self.searcher, MemorySearcher):
            found["memory"] = {**self.searcher.describe(), **self.memory.describe()}
        return found


def build_searchers(
    config: Config,
    dataset: Dataset,
    model: Model,
    catalogue: Catalogue,
    index: Index,
    filters: Filters,
    directory: Path,
    *,
    log: str | None = None,
) -> Searchers:
    """Builds the searchers of ``index.mode`` and chooses how their lists are joined.

    Args:
        config: the run.
        dataset: what the model was trained on; the clicks of its valid split choose how lists are joined.
        model: its query tower, as it will be served.
        catalogue: the items.
        index: over their vectors.
        filters: over their columns.
        directory: existing, for the files that the servable will copy.
        log: the clicks of ``index.memory``, file or glob; None for the run's own log.

    Raises:
        ExportError: ``index.lexical`` names a column that is none, or the log holds nothing to remember.
        DatasetError: the log cannot be read.
    """
    wanted = config.index
    dense = DenseSearcher(index, model.query_heads, filters, filter_candidates=wanted.filter_candidates)
    clicks = _clicks(dataset, catalogue, config.training.seed)
    searchers = Searchers(dense, dense)
    if wanted.mode == "hybrid":
        postings = build_lexical(catalogue, dataset.schema.text, wanted.lexical, directory)
        lexical = LexicalSearcher(postings, directory / TERMS_FILE, filters, k=dense.k)
        fusion = _fusion(wanted, dataset, model, clicks, dense, lexical)
        searchers = Searchers(HybridSearcher(dense, lexical, fusion.plan, default=fusion.mode), dense, lexical, fusion)
    if wanted.memory is None:
        return searchers
    prior = searchers.searcher
    tuned = choose_memory_plan(config, dataset, model, catalogue, prior, clicks.records, clicks.rows)
    memory = ClickMemory(build_memory(config, dataset, catalogue, tuned.plan, log))
    return replace(
        searchers, searcher=MemorySearcher(memory, prior, filters, tuned.plan, default=tuned.helps), memory=tuned
    )


class _ClicksOfValid(NamedTuple):
    """The latest clicks that the model was not trained on, n of them."""

    records: np.ndarray
    """INTERACTION [n], by users of whom nothing is known."""
    rows: np.ndarray
    """int32 [n], the clicked items as rows of the catalogue."""


def _fusion(
    wanted: IndexConfig,
    dataset: Dataset,
    model: Model,
    clicks: _ClicksOfValid,
    dense: DenseSearcher,
    lexical: LexicalSearcher,
) -> TunedFusion:
    """The configured fusion, or what the clicks choose."""
    if not len(clicks.rows):
        return TunedFusion(UNTUNED.replaced(wanted.fusion, wanted.dense_weight), 0, {})
    return tune_fusion(
        dense,
        lexical,
        embed_queries(model, dataset, clicks.records),
        dataset.query_texts().take(clicks.records["query"]).to_pylist(),
        clicks.rows,
        kind=wanted.fusion,
        weight=wanted.dense_weight,
    )


def anonymous(records: np.ndarray) -> np.ndarray:
    """The queries of some records as of users of whom nothing is known, INTERACTION [n]."""
    unknown = records.copy()
    unknown["user"], unknown["history_end"] = -1, 0
    return unknown


def _clicks(dataset: Dataset, catalogue: Catalogue, seed: int) -> _ClicksOfValid:
    """Clicks of the valid split; none without a log, as the queries then are words of items."""
    count = dataset.num_interactions("valid") if dataset.num_interactions("train") else 0
    chosen = np.random.default_rng(seed).choice(count, min(count, _TUNING_CLICKS), replace=False)
    records = dataset.interactions_at("valid", np.sort(chosen))
    records = anonymous(records[records["event"] != SKIP])
    rows = _rows_of(dataset.item_ids[records["item"]], catalogue)
    return _ClicksOfValid(records[rows >= 0], rows[rows >= 0])


def _rows_of(item_ids: np.ndarray, catalogue: Catalogue) -> np.ndarray:
    """The catalogue's row of each item, int32 [n]; -1 for one that it does not have."""
    wanted = set(item_ids.tolist())
    row_of = {item: row for row, item in enumerate(catalogue.item_ids) if item in wanted}
    return np.array([row_of.get(item, -1) for item in item_ids.tolist()], np.int32)
