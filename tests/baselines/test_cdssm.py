"""CDSSM: words and network against plain numpy, and the bound on words."""

import numpy as np
import pytest

from dpsr.baselines import cdssm
from dpsr.baselines.cdssm import CdssmNetwork, CdssmRetriever
from dpsr.baselines.fitting.letter_trigrams import LetterTrigrams
from dpsr.baselines.fitting.towers import ragged, splits


def test_the_network_is_the_one_of_the_article() -> None:
    network = CdssmNetwork(30, seed=3)
    rng = np.random.default_rng(3)
    network.table.embeddings.assign(rng.normal(0.0, 0.3, network.table.embeddings.shape))
    network.bias.assign(rng.normal(0.0, 0.3, network.bias.shape))
    texts = [rng.integers(0, 3, (words, 30)) for words in (1, 2, 5, 3)]  # counts of trigrams by word
    # One matrix over the concatenated counts of three words, as in equation 2.
    as_left, as_middle, as_right = np.split(network.table.embeddings.numpy(), 3, axis=1)
    matrix = np.concatenate([as_left, as_middle, as_right])
    kernel, bias = network.semantic.kernel.numpy(), network.semantic.bias.numpy()
    expected = []
    for words in texts:
        padded = np.concatenate([np.zeros((1, 30)), words, np.zeros((1, 30))])
        windows = np.stack([np.concatenate(padded[start : start + 3]) for start in range(len(words))])
        features = np.tanh(windows @ matrix + network.bias.numpy()).max(axis=0)
        vector = np.tanh(features @ kernel + bias)
        expected.append(vector / np.linalg.norm(vector))
    words = np.concatenate(texts)
    ids = np.concatenate([np.repeat(np.arange(30), counts) for counts in words])
    found = network(ragged(ids, splits([len(each) for each in texts]), splits(words.sum(axis=1)))).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_texts_are_the_trigrams_of_their_words_and_long_ones_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cdssm, "MOST_WORDS", 3)
    retriever = CdssmRetriever.__new__(CdssmRetriever)
    retriever._trigrams = LetterTrigrams(["#a#", "#b#", "bc#"], str.split)
    found = retriever.encode(["b a", "", "a x bc b b", "x"])
    assert found.to_list() == [[[1], [0]], [[]], [[0], [], [2]], [[]]]
