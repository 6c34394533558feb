"""LSE: n-grams, the loss and its gradient, and what it learns from texts alone."""

import numpy as np
import pytest
import tensorflow as tf

from dpsr.baselines.examples import QueryExamples, anonymous_examples
from dpsr.baselines.lse import LatentSemanticEntities, LSERetriever, contrastive_loss, ngrams
from dpsr.data.dataset.tables import Bags


def asked(*texts: str) -> QueryExamples:
    return anonymous_examples(np.array(texts, dtype=object), seed=1)


def bags(*rows: list[int]) -> Bags:
    return Bags(np.array([each for row in rows for each in row], np.int32), np.cumsum([0, *map(len, rows)]))


def test_ngrams_are_the_windows_of_each_text() -> None:
    texts = [[1, 2, 3, 4, 5], [], [6], [7, 8, 9], [1, 1]]
    found, rows = ngrams(bags(*texts), 3)
    expected = [
        (row, text[start : start + 3])
        for row, text in enumerate(texts)
        if text
        for start in range(max(len(text) - 2, 1))
    ]
    assert rows.tolist() == [row for row, _ in expected]
    assert [found[place].tolist() for place in range(len(found))] == [ngram for _, ngram in expected]
    assert (found.values.dtype, rows.dtype) == (np.int32, np.int32)


def test_the_loss_equals_its_formula_and_pulls_an_ngram_to_its_item() -> None:
    rng = np.random.default_rng(1)
    projected, own, others = (rng.normal(size=shape) for shape in ((5, 3), (5, 3), (5, 4, 3)))

    def log_sigmoid(values: np.ndarray) -> np.ndarray:
        return -np.log1p(np.exp(-values))

    positive = log_sigmoid((projected * own).sum(axis=1))
    negative = log_sigmoid(-(projected[:, None] * others).sum(axis=2)).sum(axis=1)
    inputs = [tf.constant(each, tf.float32) for each in (projected, own, others)]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        loss = contrastive_loss(*inputs)
    assert float(loss) == pytest.approx(-(positive + negative).mean(), rel=1e-5)
    _, of_own, of_others = (gradient.numpy() for gradient in tape.gradient(loss, inputs))
    # A step against the gradient turns its item towards the n-gram, and drawn items away from it.
    assert ((of_own * projected).sum(axis=1) < 0).all()
    assert ((of_others * projected[:, None]).sum(axis=2) > 0).all()


def test_the_loss_falls_and_the_seed_decides_it() -> None:
    words = np.random.default_rng(1).integers(0, 10, (20, 4)).tolist()
    runs = []
    for seed in (1, 1, 2):
        model = LatentSemanticEntities(10, 20, seed=seed)
        runs.append((model.fit(*ngrams(bags(*words)), epochs=60, seed=seed), model.items.embeddings.numpy()))
    (losses, first), (_, again), (_, other) = runs
    assert losses[-1] < 0.5 * losses[0]
    assert (first == again).all()
    assert (first != other).any()


def test_a_text_finds_its_own_item() -> None:
    rng = np.random.default_rng(1)
    texts = [" ".join(f"w{word}" for word in rng.choice(50, 5, replace=False)) for _ in range(200)] + [""]
    halves = [" ".join(text.split()[:3]) for text in texts[:200]]
    model = LSERetriever(texts, str.split, seed=1)
    model.fit(progress=False)
    items, _ = model.retrieve(asked(*halves, "unheard"), 201)
    assert (items[:200, 0] == np.arange(200)).mean() > 0.8
    # The last item has no word, and no item has the last word.
    assert (items[:200, 200] == -1).all()
    assert (items[200] == -1).all()
    again = LSERetriever(texts, str.split, seed=2)
    again.assign(model.weights())
    np.testing.assert_array_equal(again.retrieve(asked(*halves), 10)[0], model.retrieve(asked(*halves), 10)[0])
