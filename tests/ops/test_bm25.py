"""BM25 against scoring and sorting all documents in NumPy, against bm25s, and itself in other batches."""

from __future__ import annotations

import logging
from pathlib import Path

import bm25s
import numpy as np
import pytest
import tensorflow as tf

from dpsr.ops_cc.bm25 import Bm25Error, Bm25Field, Bm25Index, build_bm25, score_bm25, search_bm25

logging.getLogger("bm25s").setLevel(logging.WARNING)
TERMS = 200


def draw_documents(count: int, longest: int, seed: int) -> list[np.ndarray]:
    """Terms by a skewed law; some documents are empty."""
    random = np.random.default_rng(seed)
    return [(TERMS * random.random(length) ** 3).astype(np.int32) for length in random.integers(0, longest + 1, count)]


def field_of(documents: list[np.ndarray], weight: float = 1.0) -> Bm25Field:
    offsets = np.concatenate([[0], np.cumsum([len(document) for document in documents])])
    return Bm25Field(offsets.astype(np.int64), np.concatenate([*documents, []]).astype(np.int32), weight)


def score_all(
    fields: list[tuple[list[np.ndarray], float]],
    query: np.ndarray,
    weights: np.ndarray,
    *,
    k1: float = 1.2,
    b: float = 0.75,
    priors: np.ndarray | None = None,
) -> np.ndarray:
    """float64 [N]."""
    count = len(fields[0][0])
    occurrences = sum(weight * counted(documents) for documents, weight in fields)
    lengths = occurrences.sum(axis=1)
    norms = k1 * (1 - b + b * lengths / lengths.mean())
    scores, found = np.zeros(count), np.zeros(count, bool)
    for term, weight in zip(query, weights, strict=True):
        if term < 0 or weight == 0:
            continue
        frequency = occurrences[:, term]
        has = frequency > 0
        saturated = np.divide(frequency, frequency + norms, out=np.zeros(count), where=has)
        scores += weight * np.log1p((count - has.sum() + 0.5) / (has.sum() + 0.5)) * saturated
        found |= has
    return np.where(found, scores + (0 if priors is None else priors), 0)


def counted(documents: list[np.ndarray]) -> np.ndarray:
    """float64 [N, TERMS], how often documents have terms."""
    counts = np.zeros((len(documents), TERMS))
    rows = np.repeat(np.arange(len(documents)), [len(document) for document in documents])
    np.add.at(counts, (rows, np.concatenate(documents)), 1)
    return counts


def check(rows: np.ndarray, scores: np.ndarray, expected: np.ndarray, passes: np.ndarray | None = None) -> None:
    """Rows are the best by these scores, up to what float32 does not tell apart; ties by row."""
    allowed = np.where(passes, expected, 0) if passes is not None else expected
    best = np.sort(allowed[allowed > 0])[::-1][: len(rows)]
    found = rows[: len(best)]
    assert (rows[len(best) :] == -1).all()
    assert len(set(found)) == len(found)
    np.testing.assert_allclose(scores[: len(best)], best, rtol=1e-5)
    np.testing.assert_allclose(allowed[found], best, rtol=1e-5)
    for first, second in zip(range(len(best)), range(1, len(best)), strict=False):
        assert scores[first] > scores[second] or (scores[first] == scores[second] and rows[first] < rows[second])


def ragged(queries: list[np.ndarray]) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_lengths(np.concatenate(queries).astype(np.int32), [len(each) for each in queries])


QUERIES = [
    np.array(each, np.int32)
    for each in ([3], [], [0, 17, 60], [199, 150], [5, 5, 1], [-1, 40], [-1], list(range(12)), list(range(0, 200, 3)))
]
DOCUMENTS = draw_documents(1500, 12, seed=1)
INDEX = build_bm25([field_of(DOCUMENTS)], TERMS)


@pytest.mark.parametrize("k", [1, 10, 2000])
def test_finds_what_sorting_all_documents_finds(k: int) -> None:
    rows, scores = search_bm25(INDEX, ragged(QUERIES), k)
    for number, query in enumerate(QUERIES):
        check(rows[number].numpy(), scores[number].numpy(), score_all([(DOCUMENTS, 1)], query, np.ones(len(query))))


def test_scores_are_those_of_bm25s() -> None:
    texts = [[str(term) for term in document] for document in DOCUMENTS]
    peer = bm25s.BM25(k1=1.2, b=0.75, method="lucene")
    peer.index(texts, show_progress=False)
    rows = np.broadcast_to(np.arange(len(texts), dtype=np.int32), [len(QUERIES), len(texts)])
    scores = score_bm25(INDEX, ragged(QUERIES), tf.constant(rows))
    for number, query in enumerate(QUERIES):
        known = [str(term) for term in query if str(term) in peer.vocab_dict]
        if known:
            np.testing.assert_allclose(scores[number], peer.get_scores(known), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("k1", "b"), [(0.3, 0.6), (0.0, 0.5), (2.0, 0.0), (1.2, 1.0)])
def test_fields_weights_and_priors(k1: float, b: float) -> None:
    titles, brands = DOCUMENTS, draw_documents(len(DOCUMENTS), 2, seed=2)
    priors = np.random.default_rng(3).integers(0, 30, len(titles)).astype(np.float32) / 10
    index = build_bm25([field_of(titles), field_of(brands, 2.5)], TERMS, k1=k1, b=b, priors=priors)
    weights = [np.random.default_rng(4).choice([0.25, 1.0, 0.0], len(query)) for query in QUERIES]
    flat = np.concatenate(weights).astype(np.float32)
    rows, scores = search_bm25(index, ragged(QUERIES), 100, weights=flat)
    again = score_bm25(index, ragged(QUERIES), rows, weights=flat)
    np.testing.assert_array_equal(again, scores)
    for number, (query, each) in enumerate(zip(QUERIES, weights, strict=True)):
        expected = score_all([(titles, 1), (brands, 2.5)], query, each, k1=k1, b=b, priors=priors)
        check(rows[number].numpy(), scores[number].numpy(), expected)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.05, 0.002, 0.0])
def test_finds_allowed_rows_that_are_not_removed(share: float) -> None:
    random = np.random.default_rng(5)
    allowed, removed = random.random((len(QUERIES), len(DOCUMENTS))) < share, random.random(len(DOCUMENTS)) < 0.3
    bits = np.packbits(allowed, axis=1, bitorder="little")
    rows, scores = search_bm25(
        INDEX, ragged(QUERIES), 20, allowed=bits, removed=np.packbits(removed, bitorder="little")
    )
    shared, _ = search_bm25(INDEX, ragged(QUERIES), 20, allowed=bits[:1])
    for number, query in enumerate(QUERIES):
        expected = score_all([(DOCUMENTS, 1)], query, np.ones(len(query)))
        check(rows[number].numpy(), scores[number].numpy(), expected, allowed[number] & ~removed)
        assert allowed[0][shared[number].numpy()[shared[number] >= 0]].all()


def test_a_query_has_the_same_answer_alone_and_in_any_batch() -> None:
    rows, scores = search_bm25(INDEX, ragged(QUERIES), 50)
    for number, query in enumerate(QUERIES):
        alone = search_bm25(INDEX, ragged([query[::-1]]), 50)
        np.testing.assert_array_equal(alone[0][0], rows[number])
        np.testing.assert_array_equal(alone[1][0], scores[number])


class Served(tf.Module):
    """An index in variables, as a servable has it."""

    def __init__(self, index: Bm25Index) -> None:
        super().__init__()
        self.index = index.map(lambda array: tf.Variable(array, trainable=False))

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32, ragged_rank=1)])
    def search(self, terms: tf.RaggedTensor) -> tuple[tf.Tensor, tf.Tensor]:
        return search_bm25(self.index, terms, 30)


def test_a_saved_index_answers_as_before(tmp_path: Path) -> None:
    served = Served(INDEX)
    assert served.search.get_concrete_function().output_shapes == (tf.TensorShape([None, 30]),) * 2
    tf.saved_model.save(served, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for found, expected in zip(loaded.search(ragged(QUERIES)), search_bm25(INDEX, ragged(QUERIES), 30), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_segment_scores_by_the_statistics_of_the_whole() -> None:
    segment = build_bm25([field_of(DOCUMENTS[:500])], TERMS, whole=INDEX)
    rows = np.broadcast_to(np.arange(500, dtype=np.int32), [len(QUERIES), 500])
    np.testing.assert_array_equal(score_bm25(segment, ragged(QUERIES), rows), score_bm25(INDEX, ragged(QUERIES), rows))


@pytest.mark.parametrize("documents", [[], [np.zeros(0, np.int32)] * 3])
def test_a_catalogue_without_terms_has_no_answers(documents: list[np.ndarray]) -> None:
    index = build_bm25([field_of(documents)], TERMS)
    rows, scores = search_bm25(index, ragged(QUERIES), 5)
    assert (rows == -1).numpy().all()
    assert not scores.numpy().any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"terms": np.array([0, TERMS, 1], np.int32)}, rf"field 0 has term {TERMS} at place 1; expected 0 to 199"),
        ({"terms": np.array([0, -1, 1], np.int32)}, "field 0 has term -1"),
        ({"offsets": np.array([0, 2, 1, 3])}, "offsets that descend at document 1"),
        ({"offsets": np.array([0, 1])}, "offsets from 0 to 1; expected 0 to 3"),
        ({"weight": 0.0}, "field 0 has weight 0.0+; expected a positive one"),
    ],
)
def test_documents_that_cannot_be_indexed_are_named(change: dict, message: str) -> None:
    field = Bm25Field(np.array([0, 1, 3]), np.array([0, 1, 2], np.int32))._replace(**change)
    with pytest.raises(Bm25Error, match=message):
        build_bm25([field], TERMS)


def test_parameters_out_of_range_are_named() -> None:
    field = field_of(DOCUMENTS[:3])
    with pytest.raises(Bm25Error, match="k1 is -1"):
        build_bm25([field], TERMS, k1=-1)
    with pytest.raises(Bm25Error, match="b is 2"):
        build_bm25([field], TERMS, b=2)
    with pytest.raises(Bm25Error, match=r"priors has shape \[2\]; expected \[3\]"):
        build_bm25([field], TERMS, priors=[1, 2])
    with pytest.raises(Bm25Error, match="the prior of document 1 is -2"):
        build_bm25([field], TERMS, priors=[1, -2, 3])
    with pytest.raises(Bm25Error, match="no field"):
        build_bm25([], TERMS)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("range_starts", np.zeros(0, np.int32), "range_starts are empty"),
        ("places", INDEX.places[:-1], "places has shape"),
        ("range_starts", INDEX.range_starts[::-1].copy(), "the index is damaged: range_starts"),
        ("range_starts", np.where(np.arange(len(INDEX.range_starts)) == 1, 1 << 20, INDEX.range_starts), "range 0 has"),
        ("postings", INDEX.postings[:-1], "the index is damaged: the end of the lists' postings"),
        ("entries", np.tile(np.array([0, 255], np.uint16), (len(INDEX.entries), 1)), "a list ends within a range"),
        ("list_starts", INDEX.list_starts[:-1], "list_starts has shape"),
        ("term_lists", INDEX.term_lists + 1, r"term_lists\[0\] is 1; expected 0"),
    ],
)
def test_a_damaged_index_is_named(name: str, array: np.ndarray, message: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        search_bm25(INDEX._replace(**{name: array}), ragged(QUERIES), 10)


def test_bad_queries_are_named() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="query 1: term 0 is 200; expected an id below 200"):
        search_bm25(INDEX, ragged([np.array([1]), np.array([TERMS])]), 10)
    with pytest.raises(tf.errors.InvalidArgumentError, match="k is 0"):
        search_bm25(INDEX, ragged(QUERIES), 0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"allowed has shape \[3,188\]; expected \[9,188\]"):
        search_bm25(INDEX, ragged(QUERIES), 10, allowed=np.zeros([3, 188], np.uint8))
    with pytest.raises(tf.errors.InvalidArgumentError, match="the weight of term 0 is -1"):
        search_bm25(INDEX, ragged([np.array([1])]), 10, weights=tf.constant([-1.0]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="row 1 is 1500; expected one below 1500"):
        score_bm25(INDEX, ragged([np.array([1])]), tf.constant([[0, 1500]]))


def test_placed_documents_have_the_same_scores_in_other_rows() -> None:
    """Rows without a document fill several ranges, change no statistic, and are found by nothing."""
    rng = np.random.default_rng(6)
    priors = rng.integers(0, 30, len(DOCUMENTS)).astype(np.float32) / 10
    for given in (None, priors):
        index = build_bm25([field_of(DOCUMENTS)], TERMS, priors=given)
        rows = np.sort(rng.choice(40_000, len(DOCUMENTS), replace=False)).astype(np.int32)
        placed = index.placed(rows, 40_000)
        found, scores = search_bm25(index, ragged(QUERIES), 2000)
        found_placed, scores_placed = search_bm25(placed, ragged(QUERIES), 2000)
        np.testing.assert_array_equal(scores_placed, scores)
        np.testing.assert_array_equal(found_placed, np.where(found >= 0, rows[np.maximum(found, 0)], -1))
        np.testing.assert_array_equal(score_bm25(placed, ragged(QUERIES), found_placed), scores)
        free = np.setdiff1d(np.arange(40_000, dtype=np.int32), rows)
        of_free = score_bm25(placed, ragged(QUERIES), np.broadcast_to(free, [len(QUERIES), len(free)]))
        assert not of_free.numpy().any()
        allowed = np.zeros(40_000, bool)
        allowed[rows[::3]] = True
        some, _ = search_bm25(
            placed, ragged(QUERIES), 2000, allowed=np.packbits(allowed[np.newaxis], axis=1, bitorder="little")
        )
        for mine, every in zip(some.numpy(), found_placed.numpy(), strict=True):
            assert mine[mine >= 0].tolist() == [row for row in every if row >= 0 and allowed[row]]
    all_of_them = INDEX.placed(np.arange(len(DOCUMENTS), dtype=np.int32), len(DOCUMENTS))
    for mine, theirs in zip(all_of_them, INDEX, strict=True):
        np.testing.assert_array_equal(mine, theirs)
