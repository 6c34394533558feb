"""The cross-encoder (Nogueira and Cho, 2019): a transformer reads query and item together, and scores the pair.

It starts from a published checkpoint, or as a small transformer from nothing. Differs from the article: the loss is the
softmax of the clicked item among its negatives, where the article classifies each pair alone; the linear layer reads
the last state of ``[CLS]`` itself, without BERT's pooler and without a bias, which such a loss does not teach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras
from tqdm import tqdm

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.fitting.candidates import CandidateLists
from dpsr.baselines.fitting.learner import PairTrainingSet, TrainedScorer, VariablesLearner
from dpsr.baselines.fitting.pair_batches import list_quality, pair_batches
from dpsr.baselines.fitting.rounds import Rounds, run_rounds
from dpsr.baselines.interaction import softmax
from dpsr.baselines.pair_sequences import pair_sequences
from dpsr.config import TransformerConfig
from dpsr.data.dataset.schema import SubwordsSchema
from dpsr.data.dataset.tables import Bags
from dpsr.model.text_encoders.checkpoint_config import read_published
from dpsr.model.text_encoders.checkpoint_import import import_token_types
from dpsr.model.text_encoders.transformer import TransformerEncoder
from dpsr.ops_cc.packed_encoder import PackedEncoder, encode_packed, pack_encoder
from dpsr.ops_cc.text_encoder import encode
from dpsr.tokenizer_cc.subwords import SubwordTokenizer

LENGTH = 96
"""Most subwords of a pair; the longer text of a longer one loses its end."""
_WARM_UP, _WEIGHT_DECAY, _CLIP = 0.1, 0.01, 1.0
_LEAST_ROUND, _PAIRS_AT_ONCE = 2_000, 1024


class Plan(NamedTuple):
    """How a cross-encoder is trained, so that it takes minutes on two cores."""

    batch: int
    """Clicks of a step."""
    negatives: tuple[int, int]
    """Of a click: items shown or found by words and not clicked, and items of the whole catalogue."""
    learning_rate: float
    """The largest one, after a tenth of the steps; it falls to 0 by a cosine."""
    round: int
    """Clicks between two measurements."""
    most_rounds: int
    lists: int
    """Lists of a measurement."""


FROM_NOTHING = Plan(batch=64, negatives=(3, 2), learning_rate=1e-3, round=10_000, most_rounds=10, lists=300)
FROM_CHECKPOINT = Plan(batch=16, negatives=(3, 1), learning_rate=1e-4, round=2_000, most_rounds=6, lists=100)
SMALL = TransformerConfig(layers=2, width=128, heads=4, intermediate=512, positions=LENGTH, dropout=0.1)
"""The transformer that starts from nothing."""


@dataclass(frozen=True)
class Start:
    """What a cross-encoder starts from."""

    tokenizer: SubwordTokenizer
    transformer: TransformerConfig
    """Sizes; with ``initial``, the weights are those of that checkpoint."""
    plan: Plan

    @classmethod
    def from_nothing(cls, tokenizer: SubwordTokenizer) -> Start:
        """Starts with given subwords and random weights."""
        return cls(tokenizer, SMALL, FROM_NOTHING)

    @classmethod
    def from_checkpoint(cls, folder: Path) -> Start:
        """Starts from a folder as ``model.transformer.initial``, with the tokenizer that it was trained with.

        Raises:
            PublishedCheckpointError, SubwordError: the checkpoint cannot be used.
        """
        sizes = read_published(folder).sizes
        transformer = TransformerConfig(**(sizes | {"initial": str(folder), "dropout": SMALL.dropout}))
        return cls(SubwordTokenizer.from_tokenizer_json(folder), transformer, FROM_CHECKPOINT)


class CrossEncoder(TrainedScorer, VariablesLearner):
    """A ``Scorer`` of pairs by a transformer; it searches nothing, and reads an item anew for each query."""

    name = "cross-encoder"

    def __init__(self, data: PairTrainingSet, start: Start) -> None:
        """Reads the subwords of the items.

        Raises:
            PublishedCheckpointError, SubwordError: the checkpoint cannot be used.
        """
        self._data = data
        self._plan = start.plan
        self._tokenizer = start.tokenizer
        self._special = SubwordsSchema.of(start.tokenizer)
        self._length = min(LENGTH, start.transformer.positions)
        config = start.transformer
        self._encoder = TransformerEncoder(self.name, self._special, config, config.width)
        self._weights = self._encoder.draw_weights(data.seed).encoder
        rng = np.random.default_rng(data.seed)
        self._item_type = tf.Variable(_item_type(config))
        self._layer = tf.Variable(rng.normal(0.0, 0.02, config.width).astype(np.float32))
        self._packed: PackedEncoder | None = None
        self._items = self._subwords(data.items)
        # A seed draws the same weights each time; those of a folder may be others the next time.
        content = sha256()
        if config.initial is not None:
            for array in self.weights():
                content.update(np.ascontiguousarray(array).data)
        self.settings: Sequence[object] = (
            *(self.name, 1, LENGTH, _WARM_UP, _WEIGHT_DECAY, _CLIP, _LEAST_ROUND, *start.plan),
            *(config.model_dump(exclude={"initial"}), self._special.fingerprint, content.hexdigest()),
        )
        self.index = (
            f"a transformer of {config.layers} x {config.width} over the {self._length} first subwords of a pair"
        )
        self.index_bytes = self._items.values.nbytes + self._items.row_splits.nbytes

    def variables(self) -> list[tf.Variable]:
        """As ``VariablesLearner.variables``."""
        found: list[tf.Variable] = tf.nest.flatten([self._weights, self._item_type, self._layer])
        return found

    def weights_changed(self) -> None:
        """As ``VariablesLearner.weights_changed``."""
        self._packed = None

    def score(self, examples: QueryExamples, candidates: np.ndarray) -> np.ndarray:
        """As ``Scorer.score``; the score of a pair has the same bits in any batch."""
        texts, position = np.unique(examples.texts.astype(object), return_inverse=True)
        keys = position.reshape(-1, 1) * len(self._items) + candidates
        pairs, place = np.unique(keys, return_inverse=True)
        found = self._pair_scores(self._subwords(texts.tolist()), pairs // len(self._items), pairs % len(self._items))
        return found[place].reshape(candidates.shape)

    def fit(self, *, progress: bool) -> None:
        """As ``Learner.fit``: AdamW on the softmax of each click among its negatives."""
        data, plan = self._data, self._plan
        rng = np.random.default_rng(data.seed)
        size = min(max(len(data.clicks), _LEAST_ROUND), plan.round)
        step = self._step(plan.most_rounds * -(-size // plan.batch))
        queries = self._subwords(data.queries)

        def one_round(bar: tqdm) -> float:
            losses = []
            for clicks, items in pair_batches(data, size, plan.batch, plan.negatives, rng):
                asked = queries.take(np.repeat(clicks["query"], items.shape[1]))
                pairs = pair_sequences(asked, self._items.take(items.ravel()), self._special, self._length)
                losses.append(step(*pairs, rng.integers(0, 1 << 31, 2)))
                bar.update(len(clicks))
            self.weights_changed()
            return float(np.mean(losses))

        lists = data.lists()
        quality = list_quality(None if lists is None else _some(lists, plan.lists, data.seed), self.score)
        run_rounds(self, one_round, quality, Rounds(size, plan.most_rounds), name=self.name, progress=progress)

    def _step(self, steps: int) -> tf.types.experimental.PolymorphicFunction:
        """Makes a step of the optimiser: a ``PairSequences`` of clicks with their negatives, and a seed -> the loss."""
        plan, variables = self._plan, self.variables()
        warm_up = max(1, round(_WARM_UP * steps))
        rate = tf_keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - warm_up), warmup_target=plan.learning_rate, warmup_steps=warm_up
        )
        optimizer = tf_keras.optimizers.AdamW(
            rate, weight_decay=_WEIGHT_DECAY, global_clipnorm=_CLIP, jit_compile=False
        )
        optimizer.exclude_from_weight_decay([each for each in variables if each.shape.rank == 1])
        optimizer.build(variables)
        listed = 1 + sum(plan.negatives)

        @tf.function(
            input_signature=[
                *[tf.TensorSpec([None], tf.int32)] * 2,
                tf.TensorSpec([None], tf.int64),
                tf.TensorSpec([2], tf.int64),
            ]
        )
        def step(tokens: tf.Tensor, segments: tf.Tensor, row_splits: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                sequences, words = self._words(tokens, segments, row_splits)
                weights = self._weights._replace(words=words)
                dropout = self._encoder.config.dropout
                hidden = encode(sequences, weights, self._encoder.shape, dropout=dropout, seed=seed)
                scores = tf.linalg.matvec(tf.gather(hidden, row_splits[:-1]), self._layer)
                loss = tf.reduce_mean(softmax(tf.reshape(scores, [-1, listed])))
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            return loss

        return step

    def _pair_scores(self, queries: Bags, query_rows: np.ndarray, item_rows: np.ndarray) -> np.ndarray:
        """Scores distinct pairs of rows, float32 [n]; those of a batch are about equally long."""
        if self._packed is None:
            self._packed = pack_encoder(self._weights, self._encoder.shape, precision="float32").map(tf.constant)
        packed, layer = self._packed, self._layer.numpy()
        lengths = np.diff(queries.row_splits)[query_rows] + np.diff(self._items.row_splits)[item_rows]
        order = np.argsort(lengths, kind="stable")
        scores = np.empty(len(order), np.float32)
        for start in range(0, len(order), _PAIRS_AT_ONCE):
            rows = order[start : start + _PAIRS_AT_ONCE]
            asked, read = queries.take(query_rows[rows]), self._items.take(item_rows[rows])
            sequences, words = self._words(*pair_sequences(asked, read, self._special, self._length))
            states = encode_packed(sequences, packed._replace(words=words), pooling="cls").numpy()
            scores[rows] = (states * layer).sum(axis=1)
        return scores

    def _words(
        self, tokens: tf.Tensor, segments: tf.Tensor, row_splits: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """The sequences over a word table of their own, with a row for each distinct word and token type.

        Returns:
            Rows of the table, int32 [n, None], and the table, float32 [distinct, H].
        """
        distinct, rows = tf.unique(2 * tf.convert_to_tensor(tokens) + segments)
        types = tf.cast(distinct % 2, tf.float32)[:, None] * self._item_type
        sequences = tf.RaggedTensor.from_row_splits(rows, row_splits, validate=False)
        return sequences, tf.gather(self._weights.words, distinct // 2) + types

    def _subwords(self, texts: Sequence[str]) -> Bags:
        return Bags(*self._tokenizer.encode_batch(texts))


def _item_type(config: TransformerConfig) -> np.ndarray:
    """What the item's token type adds to that of the query, float32 [H]; nothing where a checkpoint has one type."""
    types = np.zeros((1, config.width), np.float32)
    if config.initial is not None:
        types = import_token_types(config.initial, config)
    difference: np.ndarray = types[min(1, len(types) - 1)] - types[0]
    return difference


def _some(lists: CandidateLists, most: int, seed: int) -> CandidateLists:
    """A sample of the lists."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(lists.queries))[:most])
    return CandidateLists(lists.queries.take(rows), lists.items[rows], lists.relevant[rows])
