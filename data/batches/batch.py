"""The batch of one training step: examples of the log or of the catalogue, joined with the tables inside the graph.

Everything random is a function of (seed, epoch, step), never of state: an interrupted run continues with exactly the
batches that it has not seen, and any worker of a cluster makes the batch of any step (``data.batches.steps``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import tensorflow as tf

from dpsr.data.batches.augmentation import QueryTexts
from dpsr.data.batches.blocks import FIELDS
from dpsr.data.batches.features import FeatureTables, ItemFeatures, QueryFeatures, TextFeatures, concatenated
from dpsr.data.batches.judged import JudgedExamples


class WrongPairs(NamedTuple):
    """Pairs of a step that people judged as wrong, W of them."""

    query_rows: tf.Tensor
    """int32 [W]; what the query tower reads of them follows the queries of the B examples."""
    item_rows: tf.Tensor
    """int32 [W]."""
    items: ItemFeatures
    """W rows."""
    no_rivals: tf.Tensor
    """bool [W, B + R], items of the step that are wrong for the query too, or stand there once more."""


class Batch(NamedTuple):
    """One training step: B examples and R random negatives that all of them share."""

    queries: QueryFeatures
    """B rows, and W more where there are wrong pairs."""
    items: ItemFeatures
    """B positives, then R random negatives."""
    query_rows: tf.Tensor
    """int32 [B]; -1 - item row for a synthetic query, sampled from the item's text."""
    item_rows: tf.Tensor
    """int32 [B + R]."""
    weights: tf.Tensor | None = None
    """float32 [B], factors of the examples' losses; None for 1."""
    wrong: WrongPairs | None = None
    """None where nobody judged a pair as wrong."""


class SyntheticQueries(Protocol):
    """Gives synthetic queries: ``ItemTexts`` anew in every step, ``QueryPool`` those that were sampled once."""

    def queries(self, item_rows: tf.Tensor, seed: tf.Tensor) -> TextFeatures:
        """What encoders read of a query of every item, int32 [N]; the same for the same seed, int64 [2]."""


@dataclass(frozen=True)
class BatchMaker:
    """Makes the batch of a step of its records or items; the same arguments always give the same batch."""

    tables: FeatureTables
    batch_size: int
    """B, examples of a step."""
    random_negatives: int
    """R, items drawn uniformly (with replacement) from the catalogue at each step."""
    num_items: int
    """Size of the catalogue."""
    query_texts: QueryTexts | None = None
    """Puts a typo into a share of the logged queries."""
    item_texts: SyntheticQueries | None = None
    """Samples synthetic queries from the items' texts."""
    mixed_rows: int = 0
    """The last ``mixed_rows`` of the B examples of a step of the log are random items with a synthetic query each."""
    judged: JudgedExamples | None = None
    """Labelled pairs: right ones follow the records of a step of the log, wrong ones are negatives of their queries."""

    @property
    def batch_records(self) -> int:
        """Records of a step of the log."""
        judged = 0 if self.judged is None else self.judged.right_rows
        return self.batch_size - self.mixed_rows - judged

    def of_records(self, records: tf.Tensor, seed: tf.Tensor, weights: tf.Tensor | None = None) -> Batch:
        """The batch of a step of the log.

        Args:
            records: int32 [batch_records, 5], the fields of INTERACTION.
            seed: int64 [2], another one for every step.
            weights: float32 [batch_records], factors of their losses, the mixed ones having 1; None for 1.
        """
        records = tf.ensure_shape(records, [self.batch_records, FIELDS])
        if self.judged is not None:
            records, weights = self._with_judged(self.judged, records, seed, weights)
        queries, query_rows, positives = self.tables.queries(records), records[:, 0], records[:, 2]
        if self.query_texts:
            queries = queries.with_text(self.query_texts.with_typos(queries.text, query_rows, seed))
        if self.mixed_rows:
            drawn = tf.random.stateless_uniform(
                [self.mixed_rows], _mixed_seed(seed), maxval=self.num_items, dtype=tf.int32
            )
            queries = concatenated(queries, self._synthetic_queries(drawn, seed))
            query_rows = tf.concat([query_rows, -1 - drawn], axis=0)
            positives = tf.concat([positives, drawn], axis=0)
        batch = self._with_negatives(queries, query_rows, positives, seed)
        if self.judged is not None and self.judged.wrong_rows:
            batch = self._with_wrong(self.judged, batch, seed)
        if weights is None:
            return batch
        return batch._replace(weights=tf.concat([weights, tf.ones([self.mixed_rows])], axis=0))

    def of_items(self, item_rows: tf.Tensor, seed: tf.Tensor) -> Batch:
        """The batch of a step of catalogue pre-training: every item is the positive of a synthetic query.

        Args:
            item_rows: int32 [B].
            seed: int64 [2], another one for every step.
        """
        item_rows = tf.ensure_shape(item_rows, [self.batch_size])
        return self._with_negatives(self._synthetic_queries(item_rows, seed), -1 - item_rows, item_rows, seed)

    def _with_judged(
        self, judged: JudgedExamples, records: tf.Tensor, seed: tf.Tensor, weights: tf.Tensor | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Records and their weights with judged pairs that are right; records that are wrong have weight 0."""
        counts = tf.cast(~judged.are_wrong(records[:, 0], records[:, 2]), tf.float32)
        weights = counts if weights is None else counts * weights
        if not judged.right_rows:
            return records, weights
        drawn, of_drawn = judged.draw_right(seed)
        return tf.concat([records, drawn], axis=0), tf.concat([weights, of_drawn], axis=0)

    def _with_wrong(self, judged: JudgedExamples, batch: Batch, seed: tf.Tensor) -> Batch:
        records = judged.draw_wrong(seed)
        query_rows, item_rows = records[:, 0], records[:, 2]
        distinct, place = tf.unique(batch.item_rows)
        first = tf.math.unsorted_segment_min(tf.range(tf.size(place)), place, tf.size(distinct))
        again = tf.gather(first, place) < tf.range(tf.size(place))
        no_rivals = again | judged.are_wrong(query_rows[:, tf.newaxis], batch.item_rows[tf.newaxis])
        wrong = WrongPairs(query_rows, item_rows, self.tables.items(item_rows), no_rivals)
        return batch._replace(queries=concatenated(batch.queries, self.tables.queries(records)), wrong=wrong)

    def _with_negatives(
        self, queries: QueryFeatures, query_rows: tf.Tensor, positives: tf.Tensor, seed: tf.Tensor
    ) -> Batch:
        shape = [self.random_negatives]
        negatives = tf.random.stateless_uniform(shape, seed, maxval=self.num_items, dtype=tf.int32)
        item_rows = tf.concat([positives, negatives], axis=0)
        return Batch(queries, self.tables.items(item_rows), query_rows, item_rows)

    def _synthetic_queries(self, item_rows: tf.Tensor, seed: tf.Tensor) -> QueryFeatures:
        if self.item_texts is None:
            raise ValueError("synthetic queries are sampled from item_texts, which is None")
        unknown_user = tf.fill(tf.shape(item_rows), -1)
        text = self.item_texts.queries(item_rows, seed)
        return self.tables.with_user_context(text, unknown_user, tf.zeros_like(item_rows))


def _mixed_seed(step_seed: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(step_seed, 1)
