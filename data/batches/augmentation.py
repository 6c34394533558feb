"""Synthetic queries sampled from the items' texts, and typos.

String operations inside the graph lead from texts to token ids; the result is a function of the seed alone.
"""

from __future__ import annotations

import tensorflow as tf

from dpsr.data.batches.features import TextFeatures
from dpsr.data.batches.text_reader import TextReader
from dpsr.data.batches.texts import Texts
from dpsr.data.dataset.tables import Dataset
from dpsr.data.dataset.texts import spaced_texts

_LETTER = r"[\p{L}\p{N}]"
_EDITS = 4


def random_words(texts: tf.Tensor, seed: tf.Tensor, least: int, most: int) -> tf.Tensor:
    """A random subset of the words of every text, in their order.

    Args:
        texts: string [B], words with spaces between them.
        seed: int64 [2].
        least: fewest words of a result; a text with fewer words keeps all of them.
        most: most words; their number is uniform between the two.

    Returns:
        string [B].
    """
    words = tf.strings.split(texts)
    draws = tf.random.stateless_uniform(tf.shape(words.values), _stream(seed, 0))
    # Ranks within rows: draws are in [0, 1), so one sort by row + draw sorts every row.
    starts = tf.gather(words.row_splits, words.value_rowids())
    order = tf.argsort(tf.cast(words.value_rowids(), tf.float64) + tf.cast(draws, tf.float64), stable=True)
    ranks = tf.cast(tf.math.invert_permutation(order), tf.int64) - starts
    sizes = tf.random.stateless_uniform(tf.shape(texts), _stream(seed, 1), least, most + 1, tf.int64)
    kept = words.with_values(ranks < tf.gather(sizes, words.value_rowids()))
    return tf.strings.reduce_join(tf.ragged.boolean_mask(words, kept), axis=-1, separator=" ")


def one_edit(texts: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Every text after one random edit: a letter or digit is deleted, inserted, replaced or swapped with the next one.

    New letters are drawn from those of all the texts. A text of fewer than two letters stays as it is; every other one
    changes.

    Args:
        texts: string [B], UTF-8.
        seed: int64 [2].

    Returns:
        string [B].
    """
    characters = tf.strings.unicode_split(texts, "UTF-8")
    flat, row = characters.values, characters.value_rowids()
    is_letter = tf.strings.regex_full_match(flat, _LETTER)
    letters = tf.boolean_mask(flat, is_letter)
    counts = tf.math.segment_sum(tf.cast(is_letter, tf.int32), row)
    counts = tf.pad(counts, [[0, tf.size(texts) - tf.size(counts)]])

    chosen = tf.cast(_uniform_below(counts, _stream(seed, 0)), tf.int64)
    number = tf.cumsum(tf.cast(is_letter, tf.int64), exclusive=True)  # of a letter among those of all texts
    first = tf.cast(tf.cumsum(counts, exclusive=True), tf.int64)
    is_edited = is_letter & (number == tf.gather(first + chosen, row)) & tf.gather(counts >= 2, row)

    size = tf.size(flat)
    nexts = tf.gather(flat, tf.minimum(tf.range(size) + 1, size - 1))
    has_next = tf.concat([row[1:] == row[:-1], [False]], 0)[:size] & (nexts != flat)
    edit = tf.gather(tf.random.stateless_uniform(tf.shape(texts), _stream(seed, 1), 0, _EDITS, tf.int32), row)
    drawn = tf.gather(
        letters, tf.gather(_uniform_below(tf.fill(tf.shape(texts), tf.size(letters)), _stream(seed, 2)), row)
    )
    # An edit without effect becomes another one.
    edit = tf.where((edit == 3) & ~has_next, 0, edit)
    edit = tf.where((edit == 2) & (drawn == flat), 1, edit)
    edited = tf.where(edit == 1, drawn + flat, tf.where(edit == 2, drawn, tf.where(edit == 3, nexts + flat, "")))
    moved_away = tf.concat([[False], is_edited & (edit == 3)], 0)[:size]
    flat = tf.where(is_edited, edited, tf.where(moved_away, "", flat))
    return tf.strings.reduce_join(characters.with_values(flat), axis=-1)


class QueryTexts:
    """The texts of the logged queries; a share of them gets a typo."""

    def __init__(self, dataset: Dataset, typo_share: float, *, query_length: int | None = None) -> None:
        """Makes the texts readable by graphs.

        Args:
            dataset: an opened dataset.
            typo_share: share of the rows of a step that get one random edit.
            query_length: the most subwords of a query; None leaves subwords out.
        """
        self._texts = Texts(dataset.query_texts())
        self._typo_share = typo_share
        self._read = TextReader(dataset, query_length)

    def with_typos(self, text: TextFeatures, query_rows: tf.Tensor, seed: tf.Tensor) -> TextFeatures:
        """What encoders read of queries, of a random share after one edit of the text.

        Args:
            text: B queries, with subwords where these texts have them.
            query_rows: int32 [B].
            seed: int64 [2].

        Returns:
            B queries.
        """
        edited = tf.random.stateless_uniform(tf.shape(query_rows), _stream(seed, 10)) < self._typo_share
        texts = one_edit(self._texts.take(tf.boolean_mask(query_rows, edited)), _stream(seed, 11))
        place = tf.shape(query_rows)[0] + tf.cumsum(tf.cast(edited, tf.int32), exclusive=True)
        place = tf.where(edited, place, tf.range(tf.shape(query_rows)[0]))

        def chosen(first: tf.RaggedTensor | None, second: tf.RaggedTensor | None) -> tf.RaggedTensor | None:
            return None if first is None else tf.gather(tf.concat([first, second], axis=0), place)

        return TextFeatures(*map(chosen, text, self._read(texts)))


class ItemTexts:
    """The texts of the items, from which synthetic queries are sampled.

    Van Gysel et al., Learning Latent Vector Spaces for Product Search, CIKM 2016, learn from the catalogue in this way.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        columns: list[str] | None,
        words: tuple[int, int],
        typo_share: float,
        query_length: int | None = None,
    ) -> None:
        """Makes the texts readable by graphs.

        Args:
            dataset: an opened dataset.
            columns: text columns that words come from; all of them if None.
            words: fewest and most words of a query.
            typo_share: share of the queries that get one random edit.
            query_length: the most subwords of a query; None leaves subwords out.
        """
        texts = spaced_texts(dataset.item_table(), columns or dataset.schema.text)
        self._texts = Texts(texts)
        self._words = words
        self._typo_share = typo_share
        self._read = TextReader(dataset, query_length)

    def queries(self, item_rows: tf.Tensor, seed: tf.Tensor) -> TextFeatures:
        """What encoders read of one synthetic query for every item, another one for every seed.

        Args:
            item_rows: int32 [N].
            seed: int64 [2].

        Returns:
            N queries.
        """
        return self._read(self.query_texts(item_rows, seed))

    def query_texts(self, item_rows: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The texts behind ``queries``, string [N]."""
        texts = random_words(self._texts.take(item_rows), _stream(seed, 20), *self._words)
        if not self._typo_share:
            return texts
        edited = tf.random.stateless_uniform(tf.shape(texts), _stream(seed, 21)) < self._typo_share
        return tf.tensor_scatter_nd_update(
            texts, tf.where(edited), one_edit(tf.boolean_mask(texts, edited), _stream(seed, 22))
        )


def _stream(seed: tf.Tensor, number: int) -> tf.Tensor:
    """An independent seed for every use of a step's seed."""
    return tf.random.experimental.stateless_fold_in(seed, number)


def _uniform_below(limits: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A uniform integer in 0 <= x < limit for every limit, int32 [n]; 0 where the limit is 0."""
    draws = tf.random.stateless_uniform(tf.shape(limits), seed, dtype=tf.float64)
    drawn = tf.cast(draws * tf.cast(limits, tf.float64), tf.int32)
    return tf.maximum(tf.minimum(drawn, limits - 1), 0)
