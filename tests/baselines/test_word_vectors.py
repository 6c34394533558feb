"""Averages of word vectors, the models that train them, and files of pre-trained ones."""

import gzip
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from gensim.models import FastText

from dpsr.baselines import glove as glove_module
from dpsr.baselines.examples import QueryExamples, anonymous_examples
from dpsr.baselines.fasttext import FastTextVectors
from dpsr.baselines.fitting.weights_file import read_weights, write_weights
from dpsr.baselines.fitting.word_vectors import WordVectors
from dpsr.baselines.glove import GloVe, GloveVectors, co_occurrences
from dpsr.baselines.vectors import unit_rows
from dpsr.baselines.word2vec import Word2VecVectors, skip_gram
from dpsr.baselines.word_averages import WordAverageRetriever
from dpsr.baselines.word_lookup import table_lookup
from dpsr.baselines.word_vector_file import read_word_vectors
from dpsr.data.dataset.schema import DatasetError

TABLE = table_lookup({"red": 0, "blue": 1, "shoe": 2}, np.array([[2, 0, 0], [0, 3, 0], [0, 0, 1]], np.float32))
SHELVES = [
    text.split()
    for text in ("soft sofa couch seat", "couch sofa cushion", "phone mobile cell charger", "mobile phone cell", "hat")
]


def asked(*texts: str) -> QueryExamples:
    return anonymous_examples(np.array(texts, dtype=object), seed=1)


def test_a_text_is_the_idf_weighted_mean_of_unit_vectors() -> None:
    titles = ["red shoe", "blue shoe shoe", "hat"]
    rare, common = math.log(4 / 2) + 1, math.log(4 / 3) + 1
    expected = np.array([[rare, 0, common], [0, rare, 2 * common], [0, 0, 0]])
    expected[:2] /= np.linalg.norm(expected[:2], axis=1, keepdims=True)
    retriever = WordAverageRetriever(titles, str.split, TABLE)
    np.testing.assert_allclose(retriever.embed(asked(*titles)), expected, rtol=1e-6)
    assert retriever.known_words == 3 / 4
    # The hat has no vector, and a query without a known word finds nothing.
    assert retriever.retrieve(asked("red", "green"), 3)[0].tolist() == [[0, 1, -1], [-1, -1, -1]]


def trained(kind: type[WordVectors], texts: Sequence[Sequence[str]], *, seed: int) -> WordVectors:
    vectors = kind(texts, seed=seed)
    vectors.fit(progress=False)
    return vectors


@pytest.mark.parametrize("kind", [Word2VecVectors, FastTextVectors, GloveVectors])
def test_the_seed_decides_the_vectors(kind: type[WordVectors]) -> None:
    words = sorted({word for text in SHELVES for word in text})
    first, again, other = (trained(kind, SHELVES, seed=seed)(words) for seed in (1, 1, 2))
    assert first.dtype == np.float32
    assert (first == again).all()
    assert (first != other).any(axis=1).all()
    assert np.linalg.norm(first, axis=1).min() > 0  # also of the hat, which has no neighbour


@pytest.mark.parametrize("kind", [Word2VecVectors, FastTextVectors, GloveVectors])
def test_stored_weights_give_the_same_vectors(kind: type[WordVectors], tmp_path: Path) -> None:
    words, first = ["sofa", "hat", "sofas", "chargr", "x"], trained(kind, SHELVES, seed=1)
    write_weights(tmp_path / "vectors.npz", "key", first.weights())
    again = kind(SHELVES, seed=1)
    assert not again(words).any()
    assert again.texts
    again.assign(read_weights(tmp_path / "vectors.npz", "key") or [])
    np.testing.assert_array_equal(again(words), first(words))
    assert not first.texts
    assert not again.texts


@pytest.mark.parametrize("kind", [Word2VecVectors, GloveVectors])
def test_words_of_the_same_neighbours_are_close(kind: type[WordVectors]) -> None:
    rng = np.random.default_rng(1)
    kinds = [["sofa", "couch", "seat", "cushion"], ["phone", "mobile", "cell", "charger"]]
    texts = [list(rng.permutation(kinds[row % 2])[:3]) for row in range(3000)]
    sofa, couch, phone = unit_rows(trained(kind, texts, seed=1)(["sofa", "couch", "phone"]))
    assert sofa @ couch > sofa @ phone + 0.05


def test_only_fasttext_has_vectors_of_unknown_words() -> None:
    for kind in (Word2VecVectors, GloveVectors):
        assert not trained(kind, SHELVES, seed=1)(["chargr"]).any()
    words = trained(FastTextVectors, SHELVES, seed=1)
    charger, misspelt, hat = unit_rows(words(["charger", "chargr", "hat"]))
    assert charger @ misspelt > 0.3 > abs(misspelt @ hat)
    oracle = skip_gram(FastText, SHELVES, seed=1, least_epochs=5, min_n=3, max_n=6, bucket=100_000).wv
    for word in ("charger", "chargr", "xy"):
        np.testing.assert_array_equal(words([word])[0], oracle[word])


def test_co_occurrences_are_counted_by_distance_within_a_text() -> None:
    texts = [["a", "b", "c", "a"], ["c"], [], ["b", "a"]]
    ids = {"a": 0, "b": 1, "c": 2}
    expected: dict[tuple[int, int], float] = defaultdict(float)
    for text in texts:
        for place, word in enumerate(text):
            for other in range(place + 1, min(place + 2, len(text) - 1) + 1):
                pair = ids[word], ids[text[other]]
                expected[pair] += 1 / (other - place)
                expected[pair[::-1]] += 1 / (other - place)
    found = co_occurrences(texts, ids, window=2)
    assert dict(zip(zip(found.row, found.col, strict=True), found.data, strict=True)) == expected
    assert expected[0, 1] == 1 + 0.5 + 1  # a b, then b . a, then b a
    assert co_occurrences([["a"], ["b"]], ids).nnz == 0


def test_the_loss_of_glove_falls_until_it_reproduces_the_logarithms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glove_module, "_BATCH", 8)
    counts = co_occurrences(SHELVES * 3, {word: row for row, word in enumerate({w for t in SHELVES for w in t})})
    model = GloVe(counts, dimension=16, seed=1)
    losses = model.fit(300)
    assert losses[0] > 10 * losses[100] > 100 * losses[-1]
    np.testing.assert_allclose(model.logarithms()[counts.row, counts.col], np.log(counts.data), atol=0.05)


@pytest.mark.parametrize("header", ["", "3 2\n"])
@pytest.mark.parametrize("name", ["vectors.txt", "vectors.txt.gz"])
def test_vectors_are_read_from_both_formats(header: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    text = f"{header}red 1 -0.5\nat home 2e-1 3 \nred 7 7\n"
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    found = read_word_vectors(path)(["at home", "red", "green"])
    np.testing.assert_allclose(found, [[0.2, 3], [1, -0.5], [0, 0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("red 1 2\nblue 1 x\n", r"vectors.txt, line 2: found 'blue 1 x', expected a word and 2 numbers"),
        ("red 1 2\nblue 1 nan\n", "line 2: found 'blue 1 nan'"),
        ("9 2\nred 1 2\nblue 1\n", "line 3: found 'blue 1'"),
        ("red 1 2\nblue 1 2 3\n", None),
        ("red 1 2\n\n", "line 2: found ''"),
        ("red\n", "line 1: found 'red', expected a word and its numbers"),
        ("", "vectors.txt: has no word vector"),
        ("3 2\n", "vectors.txt: has no word vector"),
        ("red \xff 1", "expected a word"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_the_line(text: str, message: str | None, tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(text, encoding="utf-8")
    if message is None:  # a word may hold spaces, as in GloVe's files
        assert read_word_vectors(path)(["blue 1"]).tolist() == [[2, 3]]
        return
    with pytest.raises(DatasetError, match=message):
        read_word_vectors(path)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"red 1 2\n")[:-9])
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 1 2\n")
    for name in ("missing.txt", "cut.gz", "latin.txt"):
        with pytest.raises(DatasetError, match=f"{name}: word vectors cannot be read: .*evaluation.word_vectors"):
            read_word_vectors(tmp_path / name)
