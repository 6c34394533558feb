"""Sequences of subwords: special tokens around texts, longer texts cut, against plain Python."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from dpsr.data.batches.sequences import SequenceLengths, gathered_sequences, sequences
from dpsr.data.dataset.schema import Schema, SubwordsSchema

SPECIAL = SubwordsSchema(num_ids=100, fingerprint="f", pad=0, unk=1, cls=2, sep=3, mask=4)


@pytest.mark.parametrize("length", [2, 3, 7, 50])
def test_special_tokens_stand_around_what_is_kept(length: int) -> None:
    random = np.random.default_rng(length)
    texts = [random.integers(5, 100, size).tolist() for size in (0, 1, 5, 12, 0, 3)]
    found = tf.function(lambda rows: sequences(rows, SPECIAL, length))(tf.ragged.constant(texts, tf.int32))
    assert found.to_list() == [[2, *text[: length - 2], 3] for text in texts]
    assert found.dtype == tf.int32


def test_sequences_of_places() -> None:
    values = tf.range(10, 30)
    starts, ends = tf.constant([4, 0, 20, 4], tf.int64), tf.constant([9, 2, 20, 9], tf.int64)
    found = gathered_sequences(values, starts, ends, SPECIAL, 6)
    assert found.to_list() == [[2, 14, 15, 16, 17, 3], [2, 10, 11, 3], [2, 3], [2, 14, 15, 16, 17, 3]]


@pytest.mark.parametrize(("start", "end"), [(-1, 2), (3, 2), (0, 21)])
def test_places_outside_the_values_are_named(start: int, end: int) -> None:
    bounds = tf.constant([0, start], tf.int64), tf.constant([1, end], tf.int64)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"part 1 lies from {start} to {end} of 20 values"):
        gathered_sequences(tf.range(10, 30), *bounds, SPECIAL, 6)


def test_no_text_at_all() -> None:
    empty = tf.RaggedTensor.from_row_splits(tf.zeros([0], tf.int32), tf.zeros([3], tf.int64))
    assert sequences(empty, SPECIAL, 5).to_list() == [[2, 3], [2, 3]]
    assert sequences(empty[:0], SPECIAL, 5).to_list() == []


def test_a_pair_shares_its_first_token() -> None:
    assert SequenceLengths(query=8, item=16).pair == len("C" + "q" * 6 + "S" + "p" * 14 + "S")


def test_a_schema_keeps_its_subwords() -> None:
    schema = Schema(("title",), {}, {}, 1, 1, 1, 10, "string", "t")
    assert Schema.from_json(schema.to_json()) == schema
    assert "subwords" not in schema.to_json()
    of_both = Schema(("title",), {}, {}, 1, 1, 1, 10, "string", "t", subwords=SPECIAL)
    assert Schema.from_json(of_both.to_json()) == of_both
