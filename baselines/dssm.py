"""DSSM (Huang et al., CIKM 2013), the paper's dense baseline: letter trigrams, an MLP, a softmax over skipped items.

One network embeds queries and items alike. Unlike the model's, its negatives are the items that were shown for a query
and passed over, as the paper has it (section 5.2); they say which of the shown items is best, and little of all others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import tensorflow as tf
import tf_keras
from tqdm import tqdm

from dpsr.baselines.baselines import Words
from dpsr.baselines.examples import Examples
from dpsr.baselines.hybrids import mean_reciprocal_rank
from dpsr.baselines.retrievers import CatalogueRetriever
from dpsr.data.dataset.schema import SKIP
from dpsr.data.dataset.tables import Bags, Dataset
from dpsr.model.embeddings import EmbeddingTable

WIDTHS = (300, 300, 128)
"""Of the layers, the vector last, as Huang et al. have them."""
NEGATIVES = 4
"""Of every click, as Huang et al. have it."""
_SMOOTHING = 10.0  # gamma of the softmax
_BATCH = 512
_TABLE_LEARNING_RATE, _LEARNING_RATE, _ACCUMULATOR = 0.3, 0.05, 0.01
_MOST_ROUNDS, _PATIENCE = 20, 3
_ROUND, _MOST_CLICKS = 200_000, 2_000_000  # clicks between two looks at the valid split; clicks of the whole training
_SETTINGS = (
    2,  # raise it when the code below comes to mean something else
    *(WIDTHS, NEGATIVES, _SMOOTHING, _BATCH, _TABLE_LEARNING_RATE, _LEARNING_RATE, _ACCUMULATOR),
    *(_MOST_ROUNDS, _PATIENCE, _ROUND, _MOST_CLICKS),
)


class LetterTrigrams:
    """Texts as bags of the letter trigrams of their words, ``#`` at both ends; unknown trigrams are left out."""

    def __init__(self, trigrams: Sequence[str], words: Words) -> None:
        """Takes the trigrams by their ids, and what splits a text into words."""
        self.trigrams = list(trigrams)
        self._words = words
        self._ids = {trigram: row for row, trigram in enumerate(self.trigrams)}
        self._of_word: dict[str, list[int]] = {}

    @classmethod
    def of_texts(cls, texts: Iterable[str], words: Words) -> LetterTrigrams:
        """Knows the trigrams of some texts."""
        known = {word for text in texts for word in words(text)}
        return cls(sorted({trigram for word in known for trigram in letter_trigrams(word)}), words)

    def bags(self, texts: Iterable[str]) -> Bags:
        """The trigrams of every text, as often as they occur."""
        rows = [[row for word in self._words(text) for row in self._rows(word)] for text in texts]
        splits = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=splits[1:])
        return Bags(np.array([row for bag in rows for row in bag], dtype=np.int32), splits)

    def _rows(self, word: str) -> list[int]:
        if word not in self._of_word:
            found = [self._ids.get(trigram, -1) for trigram in letter_trigrams(word)]
            self._of_word[word] = [row for row in found if row >= 0]
        return self._of_word[word]


def letter_trigrams(word: str) -> list[str]:
    """The trigrams of a word between two ``#``: ``cat`` has #ca, cat and at#."""
    marked = f"#{word}#"
    return [marked[start : start + 3] for start in range(len(marked) - 2)]


class SkippedNegatives:
    """Draws, for every click, items that were skipped for its query; random ones where none was."""

    def __init__(self, clicks: np.ndarray, skips: np.ndarray, num_items: int) -> None:
        """Collects what may be drawn.

        Args:
            clicks: INTERACTION [n]; a pair of query and item that was clicked is never drawn as skipped.
            skips: INTERACTION [s]; an item is drawn as often as it was skipped.
            num_items: size of the catalogue, at least 2.
        """
        self._num_items = num_items
        pairs, clicked = (
            records["query"].astype(np.int64) * num_items + records["item"] for records in (skips, clicks)
        )
        pairs = np.sort(pairs[~np.isin(pairs, clicked)])
        self._items, self._queries = pairs % num_items, pairs // num_items

    def has(self, queries: np.ndarray) -> np.ndarray:
        """Whether any item can be drawn as skipped for the queries, integers [n] -> bool [n]."""
        return np.isin(queries, self._queries)

    def draw(self, clicks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Negatives of clicks, INTERACTION [n] -> item rows int32 [n, NEGATIVES], never the clicked item."""
        shape = len(clicks), NEGATIVES
        start, end = (np.searchsorted(self._queries, clicks["query"], side) for side in ("left", "right"))
        drawn = rng.integers(0, self._num_items - 1, shape)
        drawn += drawn >= clicks["item"][:, None]
        skipped = np.flatnonzero(end > start)
        places = rng.integers(start[skipped, None], end[skipped, None], (len(skipped), NEGATIVES))
        drawn[skipped] = self._items[places]
        return drawn.astype(np.int32)


class Dssm(tf.Module):
    """Letter trigrams to a unit vector, by layers of tanh."""

    def __init__(self, trigrams: int, *, seed: int) -> None:
        """Draws the weights as Huang et al. do, their range falling with the width on both sides."""
        super().__init__()
        scale = float(np.sqrt(2.0 / (trigrams + WIDTHS[0])))
        self.table = EmbeddingTable(max(trigrams, 1), WIDTHS[0], scale=scale, seed=(seed, 0), combiner="sum")
        self.bias = tf.Variable(tf.zeros(WIDTHS[0]))
        self.layers = []
        for place, (inputs, width) in enumerate(pairwise(WIDTHS)):
            start = tf_keras.initializers.GlorotUniform(seed=seed + place)
            layer = tf_keras.layers.Dense(width, activation="tanh", kernel_initializer=start)
            layer.build([None, inputs])
            self.layers.append(layer)
        self.dense = [self.bias, *(variable for layer in self.layers for variable in layer.trainable_variables)]

    def __call__(self, bags: tf.RaggedTensor) -> tf.Tensor:
        """Embeds bags of trigrams, int32 [B, None] -> float32 [B, 128]."""
        return self.vectors(self.table.lookup(bags))

    def vectors(self, sums: tf.Tensor) -> tf.Tensor:
        """What follows the first matrix product, float32 [B, 300] -> [B, 128]."""
        hidden = tf.tanh(sums + self.bias)
        for layer in self.layers:
            hidden = layer(hidden)
        return tf.math.l2_normalize(hidden, axis=1)

    def weights(self) -> list[np.ndarray]:
        """All weights, the table first."""
        return [variable.numpy() for variable in (self.table.embeddings, *self.dense)]

    def assign(self, weights: Sequence[np.ndarray]) -> None:
        """Takes what ``weights`` gave."""
        for variable, value in zip((self.table.embeddings, *self.dense), weights, strict=True):
            variable.assign(value)


class DssmRetriever(CatalogueRetriever):
    """DSSM by exact search."""

    def __init__(self, network: Dssm, trigrams: LetterTrigrams, item_bags: Bags) -> None:
        """Embeds the catalogue, whose trigrams are given."""
        super().__init__(len(item_bags))
        self._network = network
        self._trigrams = trigrams
        pieces = [
            network(_ragged(item_bags.take(np.arange(start, min(start + _BATCH, len(item_bags)))))).numpy()
            for start in range(0, len(item_bags), _BATCH)
        ]
        self._columns = np.ascontiguousarray(np.concatenate(pieces).T)
        self.index = f"exact: {len(item_bags):,} inner products of {WIDTHS[-1]}"

    def score_all(self, examples: Examples) -> np.ndarray:
        """As ``CatalogueRetriever.score_all``."""
        vectors: np.ndarray = self._network(_ragged(self._trigrams.bags(examples.texts))).numpy()
        return vectors @ self._columns


def dssm_retriever(
    dataset: Dataset,
    item_texts: Sequence[str],
    words: Words,
    tuning: Examples | None,
    *,
    seed: int,
    cache: Path | None = None,
    progress: bool = True,
) -> tuple[DssmRetriever, str]:
    """DSSM of the train split, from a file where it was trained before on the same dataset with the same seed.

    Args:
        dataset: clicks and skips.
        item_texts: the text of every item.
        words: splits a text into words.
        tuning: clicks that choose when to stop; the last round is taken without them.
        seed: decides weights, order and negatives.
        cache: the file; none by default.
        progress: show a progress bar.

    Returns:
        The retriever, and what a reader has to know of its negatives.
    """
    key = _key(dataset, seed)
    records = dataset.interactions("train")
    clicks = np.asarray(records[records["event"] != SKIP])
    negatives = SkippedNegatives(clicks, dataset.skips(), len(item_texts))
    share = float(negatives.has(clicks["query"]).mean())
    note = (
        f"dssm: {share:.0%} of its clicks are on queries with skipped items, which were their negatives; "
        "those of the others were drawn from the whole catalogue."
        if share
        else "dssm: the log has no skipped items; its negatives were drawn from the whole catalogue."
    )
    stored = _read(cache, key) if cache is not None else None
    if stored is not None:
        trigrams = LetterTrigrams(stored[0], words)
        network = Dssm(len(trigrams.trigrams), seed=seed)
        network.assign(stored[1])
        return DssmRetriever(network, trigrams, trigrams.bags(item_texts)), note
    queries = dataset.query_texts().to_pylist()
    trigrams = LetterTrigrams.of_texts([*item_texts, *(queries[row] for row in np.unique(clicks["query"]))], words)
    network = Dssm(len(trigrams.trigrams), seed=seed)
    item_bags = trigrams.bags(item_texts)

    def quality() -> float:
        return 0.0 if tuning is None else mean_reciprocal_rank(DssmRetriever(network, trigrams, item_bags), tuning)

    training = _Training(network, trigrams.bags(queries), item_bags, clicks, negatives, seed=seed)
    training.run(quality if tuning is not None else None, progress=progress)
    if cache is not None:
        _write(cache, key, trigrams, network)
    return DssmRetriever(network, trigrams, item_bags), note


class _Training:
    """AdaGrad on the softmax over the clicked item and its negatives, until the valid split gets no better."""

    def __init__(
        self,
        network: Dssm,
        query_bags: Bags,
        item_bags: Bags,
        clicks: np.ndarray,
        negatives: SkippedNegatives,
        *,
        seed: int,
    ) -> None:
        self._network = network
        self._queries, self._items = _ragged(query_bags), _ragged(item_bags)
        self._clicks = clicks
        self._negatives = negatives
        self._rng = np.random.default_rng(seed)
        network.table.start_training(_ACCUMULATOR)
        self._optimizer = tf_keras.optimizers.Adagrad(
            _LEARNING_RATE, initial_accumulator_value=_ACCUMULATOR, jit_compile=False
        )
        self._optimizer.build(network.dense)
        rows = tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 1 + NEGATIVES], tf.int32)
        self._step = tf.function(self._one_step, input_signature=rows)

    def run(self, quality: Callable[[], float] | None, *, progress: bool) -> None:
        """Leaves the weights of the best round by ``quality``, or of the last one without it."""
        network = self._network
        size = min(len(self._clicks), _ROUND)
        rounds = max(1, min(_MOST_ROUNDS, _MOST_CLICKS // size))
        best, best_round, kept = -1.0, -1, network.weights()
        with tqdm(total=rounds * size, desc="DSSM", unit="ex", unit_scale=True, disable=not progress) as bar:
            for each in range(rounds):
                loss = self._round(size, bar)
                if quality is None:
                    continue
                found = quality()
                bar.set_postfix(loss=f"{loss:.3f}", mrr=f"{found:.3f}")
                if found > best:
                    best, best_round, kept = found, each, network.weights()
                elif each - best_round >= _PATIENCE:
                    break
        if quality is not None:
            network.assign(kept)

    def _round(self, size: int, bar: tqdm) -> float:
        rows = self._rng.permutation(len(self._clicks))[:size]
        losses = []
        for start in range(0, size, _BATCH):
            clicks = self._clicks[rows[start : start + _BATCH]]
            items = np.concatenate([clicks["item"][:, None], self._negatives.draw(clicks, self._rng)], axis=1)
            losses.append(self._step(tf.constant(clicks["query"]), tf.constant(items, tf.int32)))
            bar.update(len(clicks))
        return float(np.mean(losses))

    def _one_step(self, query_rows: tf.Tensor, item_rows: tf.Tensor) -> tf.Tensor:
        network = self._network
        bags = tf.concat(
            [tf.gather(self._queries, query_rows), tf.gather(self._items, tf.reshape(item_rows, [-1]))], axis=0
        )
        sums = network.table.lookup(bags)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([sums, *network.dense])
            vectors = network.vectors(sums)
            count = tf.size(query_rows)
            items = tf.reshape(vectors[count:], [count, 1 + NEGATIVES, WIDTHS[-1]])
            logits = _SMOOTHING * tf.einsum("bd,bnd->bn", vectors[:count], items)
            loss = tf.reduce_mean(tf.reduce_logsumexp(logits, axis=1) - logits[:, 0])
        of_sums, of_dense = tape.gradient(loss, (sums, network.dense))
        network.table.apply_gradient(bags, of_sums, _TABLE_LEARNING_RATE)
        self._optimizer.apply_gradients(zip(of_dense, network.dense, strict=True))
        return loss


def _key(dataset: Dataset, seed: int) -> str:
    """Changes with whatever would change the trained network."""
    files = {name: entry["sha256"] for name, entry in dataset.manifest["files"].items()}
    return sha256(json.dumps([files, seed, _SETTINGS], sort_keys=True).encode()).hexdigest()


def _read(path: Path, key: str) -> tuple[list[str], list[np.ndarray]] | None:
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            return stored["trigrams"].tolist(), [stored[f"weights_{row}"] for row in range(len(stored.files) - 2)]
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def _write(path: Path, key: str, trigrams: LetterTrigrams, network: Dssm) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".partial")
    weights: dict[str, Any] = {f"weights_{row}": value for row, value in enumerate(network.weights())}
    with beside.open("wb") as file:
        np.savez(file, key=np.array(key), trigrams=np.array(trigrams.trigrams, dtype=np.str_), **weights)
    beside.rename(path)


def _ragged(bags: Bags) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_splits(tf.constant(bags.values), tf.constant(bags.row_splits), validate=False)
