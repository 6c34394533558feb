"""Masks: the share of every row, whole words, spans as a plain loop draws them, and what stands in the masks' place."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import chisquare

from dpsr.data.batches.masking import Choice, masked, random_spans, random_tokens, starts_of_words
from dpsr.data.dataset.schema import SubwordsSchema

SPECIAL = SubwordsSchema(num_ids=1000, fingerprint="f", pad=0, unk=1, cls=2, sep=3, mask=4)
SIZES = [0, 1, 3, 10, 27, 64, 0]


def candidates_of(sizes: list[int], stride: int = 2) -> tf.RaggedTensor:
    """Rows of every ``stride``-th position."""
    values = stride * tf.range(sum(sizes)) + 1
    return tf.RaggedTensor.from_row_lengths(values, sizes)


def seed_of(*numbers: int) -> tf.Tensor:
    return tf.constant(numbers, tf.int64)


def by_row(choice: Choice, candidates: tf.RaggedTensor) -> list[list[int]]:
    """Chosen positions within the candidates of each row."""
    places = choice.places.numpy()
    assert (np.diff(places) > 0).all()
    chosen = np.isin(candidates.values.numpy(), places)
    return [np.flatnonzero(row).tolist() for row in np.split(chosen, candidates.row_splits.numpy()[1:-1])]


def target(size: int, share: float) -> int:
    return max(1, round(float(np.float32(size) * np.float32(share)))) if size else 0


@pytest.mark.parametrize("share", [0.15, 0.5])
def test_a_share_of_every_row_is_chosen(share: float) -> None:
    candidates = candidates_of(SIZES)
    for draw in range(5):
        for choice in (
            random_tokens(candidates, share, seed_of(1, draw)),
            random_spans(candidates, share, seed_of(1, draw), 64),
        ):
            found = by_row(choice, candidates)
            assert [len(row) for row in found] == [target(size, share) for size in SIZES]
            assert len(choice.places) == sum(map(len, found))
            assert choice.draws.shape == choice.places.shape


def test_every_token_is_as_likely() -> None:
    candidates = candidates_of([12] * 2000)
    counts = np.zeros(12)
    for row in by_row(random_tokens(candidates, 0.25, seed_of(2, 3)), candidates):
        counts[row] += 1
    assert chisquare(counts).pvalue > 0.001


def test_words_are_chosen_whole() -> None:
    random = np.random.default_rng(3)
    sizes = [int(size) for size in random.integers(0, 40, 200)]
    candidates = candidates_of(sizes, stride=1)
    starts = random.random(sum(sizes)) < 0.5
    starts[candidates.row_splits.numpy()[:-1][np.array(sizes) > 0]] = True
    choice = random_tokens(candidates, 0.2, seed_of(4, 5), word_starts=tf.constant(starts))
    chosen = np.isin(candidates.values.numpy(), choice.places.numpy())
    word = np.cumsum(starts) - 1
    assert len({(number, flag) for number, flag in zip(word, chosen, strict=True)}) == starts.sum()
    for row, size in enumerate(sizes):
        part = slice(*candidates.row_splits.numpy()[row : row + 2])
        words = np.unique(word[part][chosen[part]])
        lengths = np.sort([(word == number).sum() for number in words])
        # Without its last word, which may be any of them, a row has less than the share.
        assert chosen[part].sum() >= target(size, 0.2) > chosen[part].sum() - lengths[-1:].sum() - (size == 0)


def test_a_word_begins_where_no_subword_goes_on() -> None:
    continues = tf.constant([0, 0, 1, 1], tf.uint8)
    found = starts_of_words(tf.constant([2, 3, 1, 2, 3, 0]), tf.constant([0, 0, 0, 0, 4, 4]), continues)
    assert found.numpy().tolist() == [True, False, True, False, True, True]
    assert starts_of_words(tf.zeros([0], tf.int32), tf.zeros([0], tf.int32), continues).numpy().tolist() == []


def spans_of_a_loop(random: np.random.Generator, size: int, share: float) -> set[int]:
    """SpanBERT's loop: spans of geometric length from uniform starts, until the share is reached."""
    lengths = np.arange(1, 11)
    weights = 0.2 * 0.8 ** (lengths - 1)
    chosen: set[int] = set()
    for length in random.choice(lengths, 1000, p=weights / weights.sum()):
        start = random.integers(size)
        for position in range(start, min(size, start + length)):
            chosen.add(position)
            if len(chosen) == target(size, share):
                return chosen
    raise AssertionError("the share is reached long before")


def run_lengths(row: list[int]) -> list[int]:
    ends = np.flatnonzero(np.diff(row) != 1) + 1
    return np.diff([0, *ends, len(row)]).tolist()


def test_spans_are_those_of_a_plain_loop() -> None:
    random, rows = np.random.default_rng(7), 2000
    for size, share in ((40, 0.2), (6, 0.5), (3, 0.15)):
        candidates = candidates_of([size] * rows)
        found = by_row(random_spans(candidates, share, seed_of(8, size), 64), candidates)
        expected = [sorted(spans_of_a_loop(random, size, share)) for _ in range(rows)]
        counts = (np.bincount(np.concatenate(sets), minlength=size) / rows for sets in (found, expected))
        np.testing.assert_allclose(*counts, atol=5 * np.sqrt(0.5 / rows))
        ours, theirs = (np.mean([length for row in sets for length in run_lengths(row)]) for sets in (found, expected))
        assert ours == pytest.approx(theirs, rel=0.05)


def test_a_span_shares_its_draw() -> None:
    candidates = candidates_of([60] * 50)
    choice = random_spans(candidates, 0.1, seed_of(9, 9), 60)
    together = np.diff(choice.places.numpy()) == 2
    equal = np.diff(choice.draws.numpy()) == 0
    assert (equal <= together).all()
    assert equal[together].mean() > 0.9  # others are two spans side by side


def test_what_stands_in_the_masks_place() -> None:
    tokens = tf.RaggedTensor.from_row_lengths(tf.repeat(tf.constant([7, 8, 9, 10]), 5000), [20000])
    choice = random_tokens(tf.RaggedTensor.from_row_lengths(tf.range(20000), [20000]), 0.9, seed_of(1, 1))
    found = masked(tokens, choice, SPECIAL, seed_of(1, 2))
    before, after = tokens.values.numpy(), found.tokens.values.numpy()
    places = found.places.numpy()
    np.testing.assert_array_equal(found.labels, before[places])
    untouched = np.setdiff1d(np.arange(20000), places)
    np.testing.assert_array_equal(after[untouched], before[untouched])
    assert np.mean(after[places] == SPECIAL.mask) == pytest.approx(0.8, abs=0.02)
    assert np.mean(after[places] == before[places]) == pytest.approx(0.1, abs=0.02)
    random = after[places][(after[places] != SPECIAL.mask) & (after[places] != before[places])]
    assert random.min() > SPECIAL.mask
    assert random.max() > 950
    assert len(np.unique(random)) > 500


def test_nothing_to_mask() -> None:
    candidates = candidates_of([0, 0])
    for choice in (random_tokens(candidates, 0.15, seed_of(1, 1)), random_spans(candidates, 0.15, seed_of(1, 1), 10)):
        found = masked(tf.ragged.constant([[2, 3], [2, 3]], tf.int32), choice, SPECIAL, seed_of(1, 2))
        assert found.tokens.to_list() == [[2, 3], [2, 3]]
        assert found.labels.shape == [0]
