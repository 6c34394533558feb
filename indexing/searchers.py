"""The searchers of a servable, as ``index`` configures them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from dpsr.config import Config, IndexConfig, LexicalConfig
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.corpus import embed_queries
from dpsr.indexing.dense.searcher import DenseSearcher
from dpsr.indexing.dense.segments import VectorIndex
from dpsr.indexing.filters import Filters
from dpsr.indexing.fusion_candidates import Candidates
from dpsr.indexing.fusion_tuning import AUTO, UNTUNED, TunedFusion, tune_by_made_queries, tune_fusion
from dpsr.indexing.hybrid import HybridSearcher
from dpsr.indexing.lexical.build import TERMS_FILE, EarlierWords, build_lexical
from dpsr.indexing.lexical.popularity import clicks_of_items
from dpsr.indexing.lexical.searcher import LexicalSearcher
from dpsr.indexing.memory.build import build_memory, choose_memory_plan
from dpsr.indexing.memory.searcher import ClickMemory, MemorySearcher
from dpsr.indexing.memory.tuning import TunedMemory
from dpsr.indexing.parity import ParityExamples
from dpsr.indexing.searcher import ScoringSearcher
from dpsr.indexing.valid_clicks import made_clicks, valid_clicks
from dpsr.model.interface import Model


@dataclass(frozen=True)
class Searchers:
    """What finds items in a servable, and how it was chosen."""

    searcher: ScoringSearcher | MemorySearcher
    """The one that answers."""
    dense: DenseSearcher | None
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
        if self.lexical is not None:
            terms = self.lexical.terms(tf.constant(examples.inputs[text_input]))
            examples = replace(examples, lexical_rows=self.lexical.search_terms(terms).rows.numpy())
            if isinstance(searcher, HybridSearcher):
                joined = searcher.search_heads_and_terms(tf.constant(examples.heads), terms)
                examples = replace(examples, hybrid_rows=joined.rows.numpy())
        return examples

    def describe(self, recall: dict[str, float], lexical: LexicalConfig) -> dict[str, Any]:
        """Entries of the manifest.

        Args:
            recall: that of the dense searcher, by signature.
            lexical: what the postings were built with.
        """
        found: dict[str, Any] = {"searchers": {}}
        if self.dense is not None:
            found["searchers"]["dense"] = {**self.dense.describe(), "recall": recall}
        if self.lexical is not None:
            found["searchers"]["lexical"] = {**self.lexical.describe(), **lexical.model_dump(mode="json")}
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
    *,
    clicks: np.ndarray | None = None,
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
        clicks: as ``build_lexical``.
        words: ``earlier`` of ``build_lexical``.

    Raises:
        ExportError: see ``build_lexical``.
    """
    if index.mode == "dense":
        return Searchers(dense, dense)
    lexical = _lexical_searcher(index, filters, items, columns, directory, clicks, words, k=dense.k)
    fusion = choose_fusion(dense, lexical)
    for line in fusion.notes():
        tqdm.write(line)
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

    clicks = clicks_of_items(dataset, catalogue) if wanted.mode != "dense" and wanted.lexical.popularity else None
    columns = dataset.schema.text
    searchers = join_searchers(
        wanted, dense, filters, catalogue, columns, directory, choose_fusion, clicks=clicks, words=chosen.words
    )
    return _with_memory(searchers, config, dataset, catalogue, filters, log, model=model, chosen=chosen.memory)


def build_lexical_searcher(
    config: Config, dataset: Dataset, items: ItemRows, filters: Filters, directory: Path, *, log: str | None = None
) -> Searchers:
    """Builds the searchers of ``index.mode = "lexical"``.

    Args:
        config: ``index`` decides; ``data.interactions`` maps the columns of the log.
        dataset: the clicks that weigh the memory.
        items: by the rows of the index.
        filters: over them.
        directory: existing, for the files that the servable will copy.
        log: a file or glob of clicks for the memory instead of the run's own.

    Raises:
        ExportError: as ``build_searchers``.
        DatasetError: the log cannot be read.
    """
    clicks = clicks_of_items(dataset, items) if config.index.lexical.popularity else None
    columns, k = dataset.schema.text, min(config.index.k, items.num_items)
    lexical = _lexical_searcher(config.index, filters, items, columns, directory, clicks, k=k)
    return _with_memory(Searchers(lexical, None, lexical), config, dataset, items, filters, log)


def _lexical_searcher(
    index: IndexConfig,
    filters: Filters,
    items: ItemRows,
    columns: tuple[str, ...],
    directory: Path,
    clicks: np.ndarray | None,
    words: EarlierWords | None = None,
    *,
    k: int,
) -> LexicalSearcher:
    postings = build_lexical(items, columns, index.lexical, directory, clicks=clicks, earlier=words)
    return LexicalSearcher(postings, directory / TERMS_FILE, filters, k=k)


def _with_memory(
    searchers: Searchers,
    config: Config,
    dataset: Dataset,
    items: ItemRows,
    filters: Filters,
    log: str | None,
    *,
    model: Model | None = None,
    chosen: TunedMemory | None = None,
) -> Searchers:
    """The searchers with the memory that ``index.memory`` asks for."""
    prior = searchers.searcher
    if config.index.memory is None or isinstance(prior, MemorySearcher):
        return searchers
    tuned = chosen or choose_memory_plan(config, dataset, model, items, prior)
    memory = ClickMemory(build_memory(config, dataset, items, tuned.plan, log))
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
    """The configured fusion, or what the clicks of the valid split choose; without a log, queries made of words."""
    wanted, seed = config.index, config.training.seed
    is_free = wanted.dense_weight is None or wanted.dense_weight == AUTO
    without_log = is_free and not dataset.has_log
    clicks = (made_clicks if without_log else valid_clicks)(dataset, catalogue, seed=seed)
    if not len(clicks.rows):
        return TunedFusion(UNTUNED.replaced(wanted.fusion, wanted.dense_weight), 0, {})
    candidates = Candidates.found(dense, lexical, embed_queries(model, dataset, clicks.records), clicks.texts)
    if without_log:
        return tune_by_made_queries(candidates, clicks.texts, clicks.rows, kind=wanted.fusion)
    return tune_fusion(candidates, clicks.texts, clicks.rows, kind=wanted.fusion, weight=wanted.dense_weight)
