"""The searchers of a servable, as ``index`` configures them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from dpsr.config import Config, IndexConfig
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.corpus import embed_queries
from dpsr.indexing.dense.searcher import DenseSearcher
from dpsr.indexing.dense.segments import VectorIndex
from dpsr.indexing.filters import Filters
from dpsr.indexing.fusion_tuning import UNTUNED, TunedFusion, tune_fusion
from dpsr.indexing.hybrid import HybridSearcher
from dpsr.indexing.lexical.build import TERMS_FILE, EarlierWords, build_lexical
from dpsr.indexing.lexical.searcher import LexicalSearcher
from dpsr.indexing.memory.build import build_memory, choose_memory_plan
from dpsr.indexing.memory.searcher import ClickMemory, MemorySearcher
from dpsr.indexing.memory.tuning import TunedMemory
from dpsr.indexing.parity import ParityExamples
from dpsr.indexing.searcher import ScoringSearcher
from dpsr.indexing.valid_clicks import valid_clicks
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

    def with_expected_lists(self, examples: ParityExamples, text_input: str) -> ParityExamples:
        """The examples with the lists that every searcher but the dense one has for them.

        Args:
            examples: of the searchers' items.
            text_input: name of the input that holds the query texts; none is read with a dense searcher alone.
        """
        searcher = self.searcher
        if isinstance(searcher, MemorySearcher):
            remembered = searcher.memory.recall(tf.constant(examples.inputs[text_input]))
            examples = replace(examples, remembered_rows=remembered.rows.numpy())
            searcher = searcher.prior
        if isinstance(searcher, HybridSearcher):
            terms = searcher.lexical.terms(tf.constant(examples.inputs[text_input]))
            examples = replace(
                examples,
                lexical_rows=searcher.lexical.search_terms(terms).rows.numpy(),
                hybrid_rows=searcher.search_heads_and_terms(tf.constant(examples.heads), terms).rows.numpy(),
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


@dataclass(frozen=True)
class Chosen:
    """What an earlier export gives: how lists are joined, and its words; None for what is to be made anew."""

    fusion: TunedFusion | None = None
    memory: TunedMemory | None = None
    words: EarlierWords | None = None
    """Its terms and postings, where the lexical index takes them over."""


def join_searchers(
    index: IndexConfig,
    dense: DenseSearcher,
    filters: Filters,
    items: ItemRows,
    columns: tuple[str, ...],
    directory: Path,
    choose_fusion: Callable[[DenseSearcher, LexicalSearcher], TunedFusion],
    words: EarlierWords | None = None,
) -> Searchers:
    """Builds what ``index.mode`` asks for beside the dense searcher.

    Args:
        index: the mode, and what concerns words.
        dense: finds the items by their vectors.
        filters: its filters.
        items: by the rows of the index.
        columns: the text columns.
        directory: existing, for the files that the servable will copy.
        choose_fusion: called in the mode ``hybrid``: how the lists of both are joined.
        words: see ``build_lexical``.

    Raises:
        ExportError: see ``build_lexical``.
    """
    if index.mode == "dense":
        return Searchers(dense, dense)
    postings = build_lexical(items, columns, index.lexical, directory, words)
    lexical = LexicalSearcher(postings, directory / TERMS_FILE, filters, k=dense.k)
    fusion = choose_fusion(dense, lexical)
    return Searchers(HybridSearcher(dense, lexical, fusion.plan, default=fusion.mode), dense, lexical, fusion)


def build_searchers(
    config: Config,
    dataset: Dataset,
    model: Model,
    catalogue: ItemRows,
    index: VectorIndex,
    filters: Filters,
    directory: Path,
    *,
    log: str | None = None,
    chosen: Chosen | None = None,
) -> Searchers:
    """Builds the searchers of ``index.mode`` and chooses how their lists are joined.

    Args:
        config: the run.
        dataset: what the model was trained on; the clicks of its valid split choose how lists are joined.
        model: its query tower, as it will be served.
        catalogue: the items, by the rows of the index.
        index: over their vectors.
        filters: over their columns.
        directory: existing, for the files that the servable will copy.
        log: the clicks of ``index.memory``, file or glob; None for the run's own log.
        chosen: how lists are joined, where that was chosen before.

    Raises:
        ExportError: ``index.lexical`` names a column that is none, or the log holds nothing to remember.
        DatasetError: the log cannot be read.
    """
    wanted = config.index
    dense = DenseSearcher(index, model.query_heads, filters)
    chosen = chosen or Chosen()

    def choose_fusion(dense: DenseSearcher, lexical: LexicalSearcher) -> TunedFusion:
        return chosen.fusion or _fusion(config, dataset, model, catalogue, dense, lexical)

    columns = dataset.schema.text
    searchers = join_searchers(wanted, dense, filters, catalogue, columns, directory, choose_fusion, chosen.words)
    if wanted.memory is None:
        return searchers
    prior = searchers.searcher
    tuned = chosen.memory or choose_memory_plan(config, dataset, model, catalogue, prior)
    memory = ClickMemory(build_memory(config, dataset, catalogue, tuned.plan, log))
    return replace(
        searchers, searcher=MemorySearcher(memory, prior, filters, tuned.plan, default=tuned.helps), memory=tuned
    )


def _fusion(
    config: Config,
    dataset: Dataset,
    model: Model,
    catalogue: ItemRows,
    dense: DenseSearcher,
    lexical: LexicalSearcher,
) -> TunedFusion:
    """The configured fusion, or what the clicks of the valid split choose."""
    wanted, clicks = config.index, valid_clicks(dataset, catalogue, seed=config.training.seed)
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
