"""The searchers of a servable, as ``index`` configures them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from dpsr.config import Config, IndexConfig
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
from dpsr.indexing.valid_clicks import ValidClicks, valid_clicks
from dpsr.model.interface import Model


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
    dense = DenseSearcher(index, model.query_heads, filters)
    clicks = valid_clicks(dataset, catalogue, seed=config.training.seed)
    searchers = Searchers(dense, dense)
    if wanted.mode == "hybrid":
        postings = build_lexical(catalogue, dataset.schema.text, wanted.lexical, directory)
        lexical = LexicalSearcher(postings, directory / TERMS_FILE, filters, k=dense.k)
        fusion = _fusion(wanted, dataset, model, clicks, dense, lexical)
        searchers = Searchers(HybridSearcher(dense, lexical, fusion.plan, default=fusion.mode), dense, lexical, fusion)
    if wanted.memory is None:
        return searchers
    prior = searchers.searcher
    tuned = choose_memory_plan(config, dataset, model, catalogue, prior)
    memory = ClickMemory(build_memory(config, dataset, catalogue, tuned.plan, log))
    return replace(
        searchers, searcher=MemorySearcher(memory, prior, filters, tuned.plan, default=tuned.helps), memory=tuned
    )


def _fusion(
    wanted: IndexConfig,
    dataset: Dataset,
    model: Model,
    clicks: ValidClicks,
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
        clicks.texts,
        clicks.rows,
        kind=wanted.fusion,
        weight=wanted.dense_weight,
    )
