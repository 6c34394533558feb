"""A small real servable with the signatures of an exported one, and its oracle in NumPy.

All vectors are small integers, so that sums are exact in any order. As a program it writes the servable, for example
for the stock TensorFlow Serving of a conformance run:

    python tests/serving/tiny_shop.py /tmp/models/tiny_shop/1
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

NAME = "tiny_shop"
ITEMS, DIMENSION, LENGTHS, K = 50, 8, 16, 10

_random = np.random.default_rng(7)
ITEM_VECTORS = _random.integers(-9, 10, (ITEMS, DIMENSION)).astype(np.float32)
QUERY_VECTORS = _random.integers(-9, 10, (LENGTHS, DIMENSION)).astype(np.float32)
ITEM_IDS = np.array([f"item-{row}".encode() for row in range(ITEMS)], dtype=object)


def expected(queries: Sequence[bytes], version: int, bonus: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Expected answer: a query counts by its length in bytes, and version v adds 1000 v to the scores."""
    lengths = np.array([len(query) for query in queries])
    scores = QUERY_VECTORS[lengths % LENGTHS] @ ITEM_VECTORS.T + 1000.0 * version
    if bonus is not None:
        scores = scores + bonus
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return {
        "item_id": ITEM_IDS[rows],
        "score": np.take_along_axis(scores, rows, axis=1).astype(np.float32),
        "head": np.repeat((lengths % 2)[:, None], K, axis=1).astype(np.int32),
    }


def personal_bonus(gender: Sequence[bytes], history: np.ndarray) -> np.ndarray:
    """Addition of ``personalized`` to the scores, [rows, ITEMS]: the history adds up, -1 is padding."""
    bonus = np.array([100.0 * len(value) for value in gender])[:, None] * (np.arange(ITEMS) == 3)
    for row, items in enumerate(history):
        for item in items[items >= 0]:
            bonus[row, item] += 50.0
    return bonus


def write(path: Path, version: int, *, warm_up: bool = True) -> None:
    """Saves the servable of a version into ``path``."""
    import tensorflow as tf

    class TinyShop(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.items = tf.Variable(ITEM_VECTORS, trainable=False)
            self.queries = tf.Variable(QUERY_VECTORS, trainable=False)
            self.ids = tf.constant(ITEM_IDS.tolist())
            self.offset = tf.Variable(1000.0 * version, trainable=False)

        def search(self, query: Any, bonus: Any = 0.0) -> dict[str, Any]:
            lengths = tf.strings.length(query)
            vectors = tf.gather(self.queries, lengths % LENGTHS)
            scores = tf.matmul(vectors, self.items, transpose_b=True) + self.offset + bonus
            score, rows = tf.math.top_k(scores, K)
            head = tf.zeros_like(rows) + (lengths % 2)[:, tf.newaxis]
            return {"item_id": tf.gather(self.ids, rows), "score": score, "head": head}

        def serving_default(self, query: Any) -> dict[str, Any]:
            return self.search(query)

        def personalized(self, query: Any, gender: Any, history: Any) -> dict[str, Any]:
            known = tf.cast(history >= 0, tf.float32)[..., tf.newaxis]
            bonus = 50.0 * tf.reduce_sum(known * tf.one_hot(history, ITEMS), axis=1)
            bonus += 100.0 * tf.cast(tf.strings.length(gender), tf.float32)[:, tf.newaxis] * tf.one_hot([3], ITEMS)
            return self.search(query, bonus)

        def embed_query(self, query: Any) -> dict[str, Any]:
            vectors = tf.gather(self.queries, tf.strings.length(query) % LENGTHS)
            return {"heads": tf.stack([vectors, -vectors], axis=1)}

        def tokenize(self, query: Any) -> dict[str, Any]:
            tokens = tf.strings.split(query)
            return {"values": tf.strings.length(tokens.values), "row_splits": tokens.row_splits}

        def parse_number(self, text: Any) -> dict[str, Any]:
            return {"number": tf.strings.to_number(text)}

        def slow(self, steps: Any) -> dict[str, Any]:
            total = tf.reduce_sum(steps)
            (done,) = tf.while_loop(lambda step: step < total, lambda step: (step + 1,), (0,), parallel_iterations=1)
            return {"done": tf.zeros_like(steps) + done}

        def echo(self, floats: Any, doubles: Any, int32s: Any, int64s: Any, bools: Any, texts: Any) -> dict[str, Any]:
            return {
                "floats": tf.identity(floats),
                "doubles": tf.identity(doubles),
                "int32s": tf.identity(int32s),
                "int64s": tf.identity(int64s),
                "bools": tf.identity(bools),
                "texts": tf.identity(texts),
            }

    shop = TinyShop()
    text = tf.TensorSpec([None], tf.string)
    arguments: dict[str, dict[str, Any]] = {
        "serving_default": {"query": text},
        "personalized": {"query": text, "gender": text, "history": tf.TensorSpec([None, None], tf.int64)},
        "embed_query": {"query": text},
        "tokenize": {"query": text},
        "parse_number": {"text": text},
        "slow": {"steps": tf.TensorSpec([None], tf.int32)},
        "echo": {
            "floats": tf.TensorSpec([None, 2], tf.float32),
            "doubles": tf.TensorSpec([None], tf.float64),
            "int32s": tf.TensorSpec([None], tf.int32),
            "int64s": tf.TensorSpec([None, None], tf.int64),
            "bools": tf.TensorSpec([None], tf.bool),
            "texts": text,
        },
    }
    signatures = {}
    for name, specs in arguments.items():
        named = {alias: tf.TensorSpec(spec.shape, spec.dtype, alias) for alias, spec in specs.items()}
        signatures[name] = tf.function(getattr(shop, name)).get_concrete_function(**named)
    tf.saved_model.save(shop, str(path), signatures=signatures)
    if warm_up:
        write_warm_up(path)


def write_warm_up(path: Path, records: Sequence[bytes] | None = None) -> None:
    """Writes ``assets.extra/tf_serving_warmup_requests``; by default requests of four signatures."""
    import tensorflow as tf

    (path / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for record in default_warm_up() if records is None else records:
            writer.write(record)


def default_warm_up() -> list[bytes]:
    queries = np.array([b"red", b"green tea"], dtype=object)
    history = np.array([[1, -1], [2, 3]])
    return [
        warm_up_record("serving_default", {"query": queries[:1]}),
        warm_up_record("serving_default", {"query": queries}),
        warm_up_record("personalized", {"query": queries, "gender": queries, "history": history}),
        warm_up_record("tokenize", {"query": queries}),
        warm_up_record("parse_number", {"text": np.array([b"1", b"2.5"], dtype=object)}),
    ]


def warm_up_record(signature: str, inputs: dict[str, np.ndarray]) -> bytes:
    """A serialised ``PredictionLog``."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = NAME
    request.model_spec.signature_name = signature
    for alias, array in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(array))
    return log.SerializeToString()


data_plane = "auto"
"""``serving.data_plane`` of the servers of tests that do not choose one."""


def serving_config(**options: Any) -> Any:
    """Configuration of a server on free ports unless the options say otherwise."""
    from dpsr.config import ServingConfig

    return ServingConfig(**{"port": 0, "rest_port": 0, "data_plane": data_plane, **options})


def server(base_path: Path, **options: Any) -> Any:
    """A server of the versions below a directory, on a free port unless the options say otherwise."""
    from dpsr.serving.manager.model_config import ServedModel
    from dpsr.serving.server import ModelServer

    return ModelServer([ServedModel(NAME, base_path)], serving_config(**options))


if __name__ == "__main__":
    write(Path(sys.argv[1]), 1)
