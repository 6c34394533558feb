"""Batches of the language-model stages: masked items, masked spans of a query and its product, and pairs to classify.

Muhamed et al., Web-scale Semantic Product Search with Large Language Models, PAKDD 2023, sections 3.1 and 3.2. The
products' text columns stand behind their names.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.data.batches.arrays import graph_array
from dpsr.data.batches.blocks import FIELDS
from dpsr.data.batches.masking import MaskedBatch, as_continues, masked, random_spans, random_tokens, starts_of_words
from dpsr.data.batches.pieces import FieldPieces, Sequences, by_sequence, mark, put_together, query_pieces, side_by_side
from dpsr.data.batches.sequences import MARKS, SequenceLengths, rows_of_bags
from dpsr.data.batches.steps import CatalogueBatches, LogBatches
from dpsr.data.dataset.pairs import skipped_items
from dpsr.data.dataset.schema import DatasetError, split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.tokenizer_cc.subwords import SubwordTokenizer

HELD_OUT = 2048
"""Most examples on which a stage is validated."""
_HELD_OUT_SHARE = 20
_HELD_OUT_SEED = 0
_MASK_SHARE = 0.15
_CLS, _SEP = 0, 1


class PairBatch(NamedTuple):
    """One step of the classification of pairs."""

    tokens: tf.RaggedTensor
    """int32 [B, None], ``[CLS] query [SEP] product [SEP]``."""
    labels: tf.Tensor
    """float32 [B], 1 for a clicked pair, 0 for a query and another item."""


class _Items:
    """Makes batches of items with masks."""

    def __init__(self, dataset: Dataset, length: int, batch_size: int, mask_share: float, whole_words: bool) -> None:
        self.batch_size = batch_size
        self._special = dataset.subwords_schema
        self._fields = FieldPieces(dataset)
        self._text_length = length - MARKS
        self._share = mask_share
        self._continues = None
        if whole_words:
            self._continues = graph_array(as_continues(SubwordTokenizer.load(dataset.subwords_path).continues_word))

    def of_items(self, item_rows: tf.Tensor, seed: tf.Tensor) -> MaskedBatch:
        """Items [B] with all their fields behind their names; the names stay as they are."""
        fields, rows = self._fields, tf.size(item_rows)
        pieces = side_by_side([mark(_CLS, rows), fields.of_items(item_rows, self._text_length), mark(_SEP, rows)])
        arrays = [0, *fields.arrays, 0]
        tokens, (_, texts) = put_together([fields.marks, fields.values], arrays, pieces)
        starts = None
        if self._continues is not None:
            starts = starts_of_words(tf.gather(tokens.values, texts.values), texts.value_rowids(), self._continues)
        choice = random_tokens(by_sequence(texts, arrays.count(1)), self._share, _fold(seed, 30), word_starts=starts)
        return masked(tokens, choice, self._special, _fold(seed, 31))


class _Pairs:
    """Makes ``[CLS] query [SEP] product [SEP]``, the product's fields in random order."""

    def __init__(self, dataset: Dataset, lengths: SequenceLengths) -> None:
        self._fields = FieldPieces(dataset)
        self._lengths = lengths
        queries = dataset.query_subwords
        self._queries = graph_array(queries.values), graph_array(queries.row_splits)

    @property
    def most_tokens(self) -> int:
        """Most subwords of one side."""
        return max(self._lengths) - MARKS

    def of(self, query_rows: tf.Tensor, item_rows: tf.Tensor, seed: tf.Tensor) -> Sequences:
        """The pairs [B]; places of the special tokens and names, of the products and of the queries, by pair."""
        fields, rows, (queries, splits) = self._fields, tf.size(item_rows), self._queries
        of_queries = query_pieces(splits, query_rows, self._lengths.query - MARKS)
        of_items = fields.of_items(item_rows, self._lengths.item - MARKS, seed=_fold(seed, 40))
        ends = mark(_SEP, rows)
        pieces = side_by_side([mark(_CLS, rows), of_queries, ends, of_items, ends])
        arrays = [0, 2, 0, *fields.arrays, 0]
        tokens, places = put_together([fields.marks, fields.values, queries], arrays, pieces)
        return Sequences(tokens, tuple(by_sequence(part, arrays.count(array)) for array, part in enumerate(places)))


class _Spans:
    """Makes batches of clicked pairs with masked spans."""

    def __init__(self, dataset: Dataset, lengths: SequenceLengths, batch_size: int, mask_share: float) -> None:
        self.batch_size = self.batch_records = batch_size
        self._special = dataset.subwords_schema
        self._pairs = _Pairs(dataset, lengths)
        self._share = mask_share

    def of_records(self, records: tf.Tensor, seed: tf.Tensor) -> MaskedBatch:
        """Spans of the query, or of the product, of each record: what is left of it and the other side tell them."""
        tokens, (_, products, queries) = self._pairs.of(records[:, 0], records[:, 2], seed)
        rows = tf.shape(records)[0]
        of_query = tf.random.stateless_uniform([rows], _fold(seed, 41)) < 0.5
        # A side without text leaves the other one.
        of_query = (of_query & (queries.row_lengths() > 0)) | (products.row_lengths() == 0)
        sides = tf.concat([products, queries], axis=0)
        side = tf.gather(sides, tf.range(rows) + tf.where(of_query, rows, 0))
        choice = random_spans(side, self._share, _fold(seed, 42), self._pairs.most_tokens)
        return masked(tokens, choice, self._special, _fold(seed, 43))


class _Classified:
    """Makes batches of clicked pairs and of as many other pairs of the same queries."""

    def __init__(self, dataset: Dataset, lengths: SequenceLengths, batch_size: int, skipped: Any) -> None:
        self.batch_size, self.batch_records = batch_size, batch_size // 2
        self._pairs = _Pairs(dataset, lengths)
        self._num_items = dataset.schema.num_items
        self._skipped = skipped

    def of_records(self, records: tf.Tensor, seed: tf.Tensor) -> PairBatch:
        """The records' pairs, then the same queries with other items."""
        query_rows, item_rows = records[:, 0], records[:, 2]
        others = tf.random.stateless_uniform(
            tf.shape(item_rows), _fold(seed, 44), maxval=self._num_items, dtype=tf.int32
        )
        if self._skipped is not None:
            values, splits = map(tf.convert_to_tensor, self._skipped)
            starts, ends = tf.gather(splits, query_rows), tf.gather(splits, query_rows + 1)
            draws = tf.random.stateless_uniform(tf.shape(starts), _fold(seed, 45), dtype=tf.float64)
            place = starts + tf.cast(draws * tf.cast(ends - starts, tf.float64), tf.int64)
            has = tf.boolean_mask(tf.range(tf.size(starts)), ends > starts)
            others = tf.tensor_scatter_nd_update(others, has[:, tf.newaxis], tf.gather(values, tf.gather(place, has)))
        tokens = self._pairs.of(
            tf.concat([query_rows, query_rows], axis=0), tf.concat([item_rows, others], axis=0), seed
        ).tokens
        labels = tf.repeat(tf.constant([1.0, 0.0]), tf.shape(item_rows)[0])
        return PairBatch(tokens, labels)


class MaskedItemBatches(CatalogueBatches):
    """Batches of masked items: every item that has text and is not held out, once an epoch."""

    def __init__(
        self,
        dataset: Dataset,
        lengths: SequenceLengths,
        *,
        batch_size: int,
        mask_share: float = _MASK_SHARE,
        whole_words: bool = False,
    ) -> None:
        """Prepares to make batches of items.

        Args:
            dataset: has subwords.
            lengths: the most subwords of a sequence, names of fields included.
            batch_size: items of a step.
            mask_share: of the subwords of an item's texts.
            whole_words: masks words instead of subwords.

        Raises:
            DatasetError: the dataset has no subwords, or no item has text.
        """
        self._items = _Items(dataset, lengths.item, batch_size, mask_share, whole_words)
        starts = rows_of_bags(dataset.item_subwords, len(dataset.schema.text))
        rows = np.flatnonzero(np.diff(starts)).astype(np.int32)
        order = np.argsort(np.random.default_rng(_HELD_OUT_SEED).random(dataset.schema.num_items)[rows], kind="stable")
        size = min(HELD_OUT, len(rows) // _HELD_OUT_SHARE)
        self.held_out_rows = np.sort(rows[order[:size]])
        """int32, the items that are not trained on: one of 20, at most ``HELD_OUT``."""
        super().__init__(self._items, np.sort(rows[order[size:]]))

    @cached_property
    def held_out(self) -> list[MaskedBatch]:
        """The held-out items with masks that are always the same; at most ``batch_size`` a batch."""
        return _fixed(self._items.of_items, self.held_out_rows, self.batch_size)


class InteractionBatches(LogBatches):
    """Batches of clicked pairs with masked spans: every record of the train split once an epoch."""

    def __init__(
        self, dataset: Dataset, lengths: SequenceLengths, *, batch_size: int, mask_share: float = _MASK_SHARE
    ) -> None:
        """Prepares to make batches of clicks.

        Args:
            dataset: has subwords and a log.
            lengths: the most subwords of either side, special tokens of a sequence of its own included.
            batch_size: pairs of a step.
            mask_share: of the subwords of the side that is masked.

        Raises:
            DatasetError: the dataset has no subwords, or no log.
        """
        self._spans = _Spans(dataset, lengths, batch_size, mask_share)
        self._dataset = dataset
        super().__init__(self._spans, _train_file(dataset))

    @cached_property
    def held_out(self) -> list[MaskedBatch]:
        """Pairs of the valid split with masks that are always the same."""
        return _fixed(self._spans.of_records, _valid_records(self._dataset), self.batch_size)


class InteractionPairBatches(LogBatches):
    """Batches of pairs to classify: every record of the train split, and its query with another item, once an epoch."""

    def __init__(
        self,
        dataset: Dataset,
        lengths: SequenceLengths,
        *,
        batch_size: int,
        negatives: Literal["random", "skipped"] = "random",
        folder: Path | None = None,
    ) -> None:
        """Prepares to make batches of clicks.

        Args:
            dataset: has subwords and a log.
            lengths: as of ``InteractionBatches``.
            batch_size: pairs of a step, an even number: half of them clicked.
            negatives: the other items are random ones, or items that the query was shown and that were skipped, where
                there are such.
            folder: receives the skipped items of each query, files that are used again.

        Raises:
            DatasetError: the dataset has no subwords, no log, or no skip where skipped items are asked for.
            ValueError: an odd ``batch_size``; skipped items without a ``folder``.
        """
        if batch_size % 2:
            raise ValueError(f"batch_size = {batch_size} is odd; half of the pairs of a step are clicked ones")
        skipped = None
        if negatives == "skipped":
            skipped = _skipped(dataset, folder)
        self._classified = _Classified(dataset, lengths, batch_size, skipped)
        self._dataset = dataset
        super().__init__(self._classified, _train_file(dataset))

    @cached_property
    def held_out(self) -> list[PairBatch]:
        """Pairs of the valid split, and other ones that are always the same."""
        return _fixed(self._classified.of_records, _valid_records(self._dataset), self._classified.batch_records)


def _train_file(dataset: Dataset) -> Path:
    if not dataset.num_interactions("train"):
        raise DatasetError(
            f"{dataset.directory}: the train split holds no click, from which query-product interaction is learnt; "
            "name a log at data.interactions, or leave the section [interaction] out"
        )
    return dataset.directory / split_file("train")


def _skipped(dataset: Dataset, folder: Path | None) -> tuple[Any, Any]:
    if folder is None:
        raise ValueError("the skipped items are written to folder, which is None")
    if not dataset.manifest["counts"]["skips"]:
        raise DatasetError(
            f"{dataset.directory}: holds no skip, and skipped items are asked for as negatives; give a log with skips, "
            "or take random items"
        )
    bags = skipped_items(dataset, folder)
    return graph_array(bags.values), graph_array(bags.row_splits)


def _valid_records(dataset: Dataset) -> np.ndarray:
    """At most ``HELD_OUT`` records of the valid split, evenly spread over its time, int32 [n, 5]."""
    count = dataset.num_interactions("valid")
    records = dataset.interactions_at("valid", np.linspace(0, count - 1, min(HELD_OUT, count)).astype(np.int64))
    return np.ascontiguousarray(records).view(np.int32).reshape(-1, FIELDS)


def _fixed(make: Any, examples: np.ndarray, batch_size: int) -> list[Any]:
    """The batches of some examples, each with a seed of its own that is always the same."""
    graph = tf.function(make, reduce_retracing=True)
    return [
        graph(tf.constant(examples[start : start + batch_size]), tf.constant([_HELD_OUT_SEED, start], tf.int64))
        for start in range(0, len(examples), batch_size)
    ]


def _fold(seed: tf.Tensor, number: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, number)
