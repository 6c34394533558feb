"""DSSM (Huang et al., CIKM 2013), the paper's dense baseline (section 5.2).

One network embeds queries and items: letter trigrams of words, three tanh layers, a softmax over the clicked item and
four negatives. Differs from the article in two points. Negatives are items that were shown for the query and skipped,
as the paper on DPSR has it, where Huang et al. draw them from all unclicked documents. Training is AdaGrad with early
stopping by the valid split, where they use mini-batch SGD.
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

from dpsr.baselines.analyzers import Analyzer
from dpsr.baselines.examples import QueryExamples, load_clicks
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.tuning import mean_reciprocal_rank
from dpsr.data.dataset.schema import SKIP
from dpsr.data.dataset.tables import Bags, Dataset
from dpsr.model.embeddings import EmbeddingTable

WIDTHS = (300, 300, 128)
"""Widths of the layers, the embedding last (article, section 3.4)."""
NEGATIVES = 4
"""Negatives of each click (article, section 3.3)."""
_SMOOTHING = 10.0  # gamma of the softmax
_BATCH = 512
_TABLE_LEARNING_RATE, _LEARNING_RATE, _ACCUMULATOR = 0.3, 0.05, 0.01
_MOST_ROUNDS, _PATIENCE = 20, 3
_ROUND, _MOST_CLICKS = 200_000, 2_000_000  # clicks between two measurements on the valid split; clicks of the training
_SETTINGS = (
    3,  # version of the training below; another one makes cached weights stale
    *(WIDTHS, NEGATIVES, _SMOOTHING, _BATCH, _TABLE_LEARNING_RATE, _LEARNING_RATE, _ACCUMULATOR),
    *(_MOST_ROUNDS, _PATIENCE, _ROUND, _MOST_CLICKS),
)


class LetterTrigrams:
    """Vocabulary of letter trigrams: texts -> bags of the trigrams of their words, unknown trigrams left out."""

    def __init__(self, trigrams: Sequence[str], analyzer: Analyzer) -> None:
        """Takes the trigrams in the order of their ids, and the analyzer that splits texts into words."""
        self.trigrams = list(trigrams)
        self._analyzer = analyzer
        self._ids = {trigram: row for row, trigram in enumerate(self.trigrams)}
        self._of_word: dict[str, list[int]] = {}

    @classmethod
    def of_texts(cls, texts: Iterable[str], analyzer: Analyzer) -> LetterTrigrams:
        """Collects the trigrams of some texts."""
        known = {word for text in texts for word in analyzer(text)}
        return cls(sorted({trigram for word in known for trigram in letter_trigrams(word)}), analyzer)

    def bags(self, texts: Iterable[str]) -> Bags:
        """Looks up the trigrams of every text, with repetition."""
        rows = [[row for word in self._analyzer(text) for row in self._rows(word)] for text in texts]
        splits = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=splits[1:])
        return Bags(np.array([row for bag in rows for row in bag], dtype=np.int32), splits)

    def _rows(self, word: str) -> list[int]:
        if word not in self._of_word:
            found = [self._ids.get(trigram, -1) for trigram in letter_trigrams(word)]
            self._of_word[word] = [row for row in found if row >= 0]
        return self._of_word[word]


def letter_trigrams(word: str) -> list[str]:
    """Splits a word between two ``#`` into trigrams: ``cat`` -> #ca, cat, at#."""
    marked = f"#{word}#"
    return [marked[start : start + 3] for start in range(len(marked) - 2)]


class SkippedNegatives:
    """Sampler of negatives: items skipped for the click's query, or uniform ones for a query without skips."""

    def __init__(
        self, queries: np.ndarray, skips: Iterable[np.ndarray], clicks: Iterable[np.ndarray], num_items: int
    ) -> None:
        """Collects the skipped items of the given queries; memory grows with their skips, not with the log.

        Args:
            queries: query rows that negatives are drawn for, integers [n].
            skips: INTERACTION blocks; the probability of an item is its share of the query's skips.
            clicks: INTERACTION blocks; a pair of query and item among them is never drawn as skipped.
            num_items: size of the catalogue, at least 2.
        """
        self._num_items = num_items
        asked = np.unique(queries)
        pairs = np.sort(np.concatenate([np.empty(0, np.int64), *(self._pairs(block, asked) for block in skips)]))
        clicked = np.zeros(len(pairs) + 1, dtype=np.int64)
        for block in clicks:
            keys = np.unique(self._pairs(block[block["event"] != SKIP], asked))
            np.add.at(clicked, np.searchsorted(pairs, keys, "left"), 1)
            np.add.at(clicked, np.searchsorted(pairs, keys, "right"), -1)
        pairs = pairs[np.cumsum(clicked)[:-1] == 0]
        self._items, self._queries = pairs % num_items, pairs // num_items

    def has(self, queries: np.ndarray) -> np.ndarray:
        """Returns whether queries have a skipped item to draw, integers [n] -> bool [n]."""
        return np.isin(queries, self._queries)

    def draw(self, clicks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws negatives of clicks, INTERACTION [n] -> item rows int32 [n, NEGATIVES], never the clicked item."""
        shape = len(clicks), NEGATIVES
        start, end = (np.searchsorted(self._queries, clicks["query"], side) for side in ("left", "right"))
        drawn = rng.integers(0, self._num_items - 1, shape)
        drawn += drawn >= clicks["item"][:, None]
        skipped = np.flatnonzero(end > start)
        places = rng.integers(start[skipped, None], end[skipped, None], (len(skipped), NEGATIVES))
        drawn[skipped] = self._items[places]
        return drawn.astype(np.int32)

    def _pairs(self, records: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """Keys query * items + item of the records of ``asked`` queries, int64."""
        records = records[np.isin(records["query"], asked)]
        return records["query"].astype(np.int64) * self._num_items + records["item"]


class DssmNetwork(tf.Module):
    """Bags of letter trigrams -> unit vectors, by layers of tanh."""

    def __init__(self, trigrams: int, *, seed: int) -> None:
        """Initialises the weights uniformly, scaled by fan-in and fan-out, as Huang et al. do (section 3.4)."""
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
        """Applies the network after the first matrix product, float32 [B, 300] -> [B, 128]."""
        hidden = tf.tanh(sums + self.bias)
        for layer in self.layers:
            hidden = layer(hidden)
        return tf.math.l2_normalize(hidden, axis=1)

    def weights(self) -> list[np.ndarray]:
        """Returns all weights, the table first."""
        return [variable.numpy() for variable in (self.table.embeddings, *self.dense)]

    def assign(self, weights: Sequence[np.ndarray]) -> None:
        """Sets the weights that ``weights`` returned."""
        for variable, value in zip((self.table.embeddings, *self.dense), weights, strict=True):
            variable.assign(value)


class DssmRetriever(ExhaustiveRetriever):
    """Cosine of the network's vectors of query and item."""

    def __init__(self, network: DssmNetwork, trigrams: LetterTrigrams, item_bags: Bags) -> None:
        """Embeds the catalogue, given as bags of trigrams."""
        super().__init__(len(item_bags))
        self._network = network
        self._trigrams = trigrams
        vectors = [
            network(_ragged(item_bags.take(np.arange(start, min(start + _BATCH, len(item_bags)))))).numpy()
            for start in range(0, len(item_bags), _BATCH)
        ]
        self._columns = np.ascontiguousarray(np.concatenate(vectors).T)
        self.index = f"exact: {len(item_bags):,} inner products of {WIDTHS[-1]}"

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``."""
        vectors: np.ndarray = self._network(_ragged(self._trigrams.bags(examples.texts))).numpy()
        return vectors @ self._columns


def dssm_retriever(
    dataset: Dataset,
    item_texts: Sequence[str],
    analyzer: Analyzer,
    tuning: QueryExamples | None,
    *,
    seed: int,
    cache: Path | None = None,
    progress: bool = True,
) -> tuple[DssmRetriever, str]:
    """Trains DSSM on the train split, or reads the weights of an earlier training on the same dataset and seed.

    Args:
        dataset: clicks and skips; at least one click.
        item_texts: the text of every item.
        analyzer: splits texts into words.
        tuning: clicks of the valid split for early stopping; without them the last round's weights are kept.
        seed: decides weights, order and negatives.
        cache: file of the weights; not kept by default.
        progress: show a progress bar.

    Returns:
        The retriever, and a note on its negatives for the report.
    """
    key = _key(dataset, seed)
    clicks = load_clicks(dataset, "train", at_most=_MOST_CLICKS, seed=seed)
    negatives = SkippedNegatives(
        clicks["query"], dataset.skip_blocks(), dataset.interaction_blocks("train"), len(item_texts)
    )
    share = float(negatives.has(clicks["query"]).mean())
    note = (
        f"dssm: {share:.0%} of its clicks are on queries with skipped items, which were their negatives; "
        "those of the others were drawn from the whole catalogue."
        if share
        else "dssm: the log has no skipped items; its negatives were drawn from the whole catalogue."
    )
    stored = _read(cache, key) if cache is not None else None
    if stored is not None:
        trigrams = LetterTrigrams(stored[0], analyzer)
        network = DssmNetwork(len(trigrams.trigrams), seed=seed)
        network.assign(stored[1])
        return DssmRetriever(network, trigrams, trigrams.bags(item_texts)), note
    queries = dataset.query_texts().to_pylist()
    trigrams = LetterTrigrams.of_texts([*item_texts, *(queries[row] for row in np.unique(clicks["query"]))], analyzer)
    network = DssmNetwork(len(trigrams.trigrams), seed=seed)
    item_bags = trigrams.bags(item_texts)

    def quality() -> float:
        return 0.0 if tuning is None else mean_reciprocal_rank(DssmRetriever(network, trigrams, item_bags), tuning)

    training = _Training(network, trigrams.bags(queries), item_bags, clicks, negatives, seed=seed)
    training.run(quality if tuning is not None else None, progress=progress)
    if cache is not None:
        _write(cache, key, trigrams, network)
    return DssmRetriever(network, trigrams, item_bags), note


class _Training:
    """AdaGrad on the softmax over the clicked item and its negatives, with early stopping."""

    def __init__(
        self,
        network: DssmNetwork,
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
        """Leaves the network with the weights of the best round by ``quality``, or of the last one without it."""
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
    """Fingerprint of everything that decides the trained weights."""
    files = {name: entry["sha256"] for name, entry in dataset.manifest["files"].items()}
    return sha256(json.dumps([files, seed, _SETTINGS], sort_keys=True).encode()).hexdigest()


def _read(path: Path, key: str) -> tuple[list[str], list[np.ndarray]] | None:
    """Trigrams and weights of a file; None where it is missing, damaged or of another fingerprint."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            return stored["trigrams"].tolist(), [stored[f"weights_{row}"] for row in range(len(stored.files) - 2)]
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def _write(path: Path, key: str, trigrams: LetterTrigrams, network: DssmNetwork) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    weights: dict[str, Any] = {f"weights_{row}": value for row, value in enumerate(network.weights())}
    with partial.open("wb") as file:
        np.savez(file, key=np.array(key), trigrams=np.array(trigrams.trigrams, dtype=np.str_), **weights)
    partial.rename(path)


def _ragged(bags: Bags) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_splits(tf.constant(bags.values), tf.constant(bags.row_splits), validate=False)
