"""Servable of the benchmark: hashed query vectors of m heads, the index, the merge, item ids."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

NAME = "bench"
QUERIES = 1000
_CLUSTERS = 200
_TUNED_ON = 200


def cached(folder: Path, items: int, dimension: int, heads: int, k: int) -> Path:
    """Version directory of these sizes; built in a process of its own if missing."""
    path = folder / f"{items}x{dimension}-m{heads}-k{k}"
    if not (path / "assets.extra").exists():
        print(f"building {path} (once) ...", flush=True)
        part = path.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(path, ignore_errors=True)
        sizes = [str(size) for size in (items, dimension, heads, k)]
        subprocess.run([sys.executable, __file__, str(part), *sizes], check=True)
        part.rename(path)
    return path


def publish(version: Path, base_path: Path, number: int) -> None:
    """Publishes a version below a base path by a rename; its files are hard links."""
    hidden = base_path / f".{number}.part"
    shutil.copytree(version, hidden, copy_function=os.link)
    hidden.rename(base_path / str(number))


def write(path: Path, items: int, dimension: int, heads: int, k: int) -> None:
    """Writes a servable of random clustered vectors, with the index that an export of this size would build."""
    import tensorflow as tf

    from dpsr.indexing.dense.ann import Index
    from dpsr.ops_cc.head_merge import merge_heads

    random = np.random.default_rng(1)
    centres = _unit(random.normal(size=(_CLUSTERS, dimension)))

    def clustered(count: int) -> np.ndarray:
        noise = random.normal(size=(count, dimension)).astype(np.float32) / np.sqrt(dimension)
        return _unit(centres[random.integers(0, _CLUSTERS, count)] + noise)

    vectors, queries = clustered(items), clustered(QUERIES * heads)

    class Shop(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.index = Index.build(vectors, k, queries=queries[:_TUNED_ON])
            self.queries = tf.Variable(queries.reshape(QUERIES, heads, dimension), trainable=False)
            self.ids = tf.Variable([f"item-{row}" for row in range(items)], trainable=False)

        def retrieve(self, query: Any) -> dict[str, Any]:
            vectors = tf.gather(self.queries, tf.strings.to_hash_bucket_fast(query, QUERIES))
            rows, scores = self.index.search(tf.reshape(vectors, [-1, dimension]))
            shape = [-1, heads, self.index.k]
            best, score, head = merge_heads(tf.reshape(rows, shape), tf.reshape(scores, shape), self.index.k)
            known = [None, self.index.k]
            return {
                "item_id": tf.ensure_shape(tf.gather(self.ids, tf.maximum(best, 0)), known),
                "score": tf.ensure_shape(score, known),
                "head": tf.ensure_shape(head, known),
            }

    shop = Shop()
    retrieve = tf.function(shop.retrieve).get_concrete_function(query=tf.TensorSpec([None], tf.string, "query"))
    options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
    tf.saved_model.save(shop, str(path), signatures={"serving_default": retrieve}, options=options)
    print(f"{shop.index.describe()}", flush=True)
    _write_warm_up(path)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def _write_warm_up(path: Path) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    (path / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(path / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for text in (b"red shoes", b"phone"):
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.model_spec.name = NAME
            log.predict_log.request.inputs["query"].CopyFrom(tf.make_tensor_proto([text]))
            writer.write(log.SerializeToString())


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:]))
