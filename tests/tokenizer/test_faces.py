"""The law of the tokenizer: whatever the bytes, every way to it gives the tokens of the reference."""

import itertools
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpsr.tokenizer_cc import Tokenizer
from dpsr.tokenizer_cc.tokenize_op import TokenizeLayer

from .reference import ReferenceTokenizer
from .texts import HARD, PIECES, SHOP, as_bytes, batches, long_bytes, of_size, shuffled, strings

Texts = list[str | bytes]
Bags = tuple[list[int], list[int]]
Face = Callable[[Texts], Bags]
THREADS = 8
MEGABYTE = 1 << 20


def one_by_one(tokenizer: Tokenizer, texts: Texts) -> Bags:
    values: list[int] = []
    row_splits = [0]
    for text in texts:
        values += tokenizer.encode(text).tolist()
        row_splits.append(len(values))
    return values, row_splits


def batch(tokenizer: Tokenizer, texts: Texts) -> Bags:
    values, row_splits = tokenizer.encode_batch(texts)
    return values.tolist(), row_splits.tolist()


def ragged(layer: TokenizeLayer, texts: Texts) -> Bags:
    tokens = layer(strings(texts))
    return tokens.values.numpy().tolist(), tokens.row_splits.numpy().tolist()


def in_pipeline(layer: TokenizeLayer) -> Face:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def mapped(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        tokens = tf.data.Dataset.from_tensors(texts).map(layer, num_parallel_calls=2).get_single_element()
        return tokens.values, tokens.row_splits

    def face(texts: Texts) -> Bags:
        values, row_splits = mapped(strings(texts))
        return values.numpy().tolist(), row_splits.numpy().tolist()

    return face


def served(servable_path: Path) -> Face:
    loaded = tf.saved_model.load(str(servable_path))

    def face(texts: Texts) -> Bags:
        found = loaded.signatures["tokenize"](query=strings(texts))
        return found["values"].numpy().tolist(), found["row_splits"].numpy().tolist()

    return face


def at_once(face: Face) -> Face:
    """The face called by many threads at the same time, which must agree."""
    pool = ThreadPoolExecutor(THREADS)

    def many(texts: Texts) -> Bags:
        first, *others = pool.map(face, [texts] * THREADS)
        assert others == [first] * (THREADS - 1)
        return first

    return many


@pytest.fixture(scope="module")
def faces(tokenizer: Tokenizer, layer: TokenizeLayer, servable_path: Path) -> dict[str, Face]:
    single: dict[str, Face] = {
        "Python, one by one": lambda texts: one_by_one(tokenizer, texts),
        "Python, batch": lambda texts: batch(tokenizer, texts),
        "op": lambda texts: ragged(layer, texts),
        "op in a pipeline": in_pipeline(layer),
        "op in a loaded servable": served(servable_path),
    }
    return single | {f"{name}, {THREADS} threads": at_once(face) for name, face in single.items()}


def check(faces: dict[str, Face], tokenizer: Tokenizer, reference: ReferenceTokenizer, texts: Texts) -> None:
    tokens = [reference.tokens(text) for text in texts]
    assert [[tuple(token) for token in tokenizer.tokens(text)] for text in texts] == tokens
    expected = [token[2] for bag in tokens for token in bag]
    lengths = [len(bag) for bag in tokens]
    for name, face in faces.items():
        values, row_splits = face(texts)
        assert values == expected, name
        assert [end - begin for begin, end in itertools.pairwise(row_splits)] == lengths, name


def test_known_texts(faces: dict[str, Face], tokenizer: Tokenizer, reference: ReferenceTokenizer) -> None:
    check(faces, tokenizer, reference, SHOP + HARD)
    check(faces, tokenizer, reference, [])


@settings(max_examples=100, deadline=None)
@given(texts=batches)
def test_any_batch(faces: dict[str, Face], tokenizer: Tokenizer, reference: ReferenceTokenizer, texts: Texts) -> None:
    check(faces, tokenizer, reference, texts)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.lists(long_bytes(30_000), min_size=1, max_size=3))
def test_any_long_bytes(
    faces: dict[str, Face], tokenizer: Tokenizer, reference: ReferenceTokenizer, texts: Texts
) -> None:
    check(faces, tokenizer, reference, texts)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=long_bytes(MEGABYTE))
def test_any_bytes_up_to_a_megabyte(
    faces: dict[str, Face], tokenizer: Tokenizer, reference: ReferenceTokenizer, text: bytes
) -> None:
    check(faces, tokenizer, reference, [text])


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PIECES, "mixture"])
def test_a_megabyte(faces: dict[str, Face], tokenizer: Tokenizer, reference: ReferenceTokenizer, name: str) -> None:
    text = of_size(PIECES[name], MEGABYTE) if name in PIECES else shuffled(MEGABYTE, seed=1)
    assert len(text) == MEGABYTE
    check(faces, tokenizer, reference, [text])


_WITH_THREADS = """
import json, pickle, sys
import tensorflow as tf
from dpsr.tokenizer_cc.tokenize_op import TokenizeLayer
threads, model, servable, texts = int(sys.argv[1]), *sys.argv[2:]
tf.config.threading.set_intra_op_parallelism_threads(threads)
tf.config.threading.set_inter_op_parallelism_threads(threads)
with open(texts, "rb") as file:
    texts = pickle.load(file)
layer = TokenizeLayer(model)
eager = layer(tf.constant(texts))
rows = tf.data.Dataset.from_tensor_slices(texts).batch(50).map(layer, num_parallel_calls=threads)
mapped = tf.concat([row.values for row in rows], axis=0)
served = tf.saved_model.load(servable).signatures["tokenize"](query=tf.constant(texts))
faces = {"op": eager.values, "pipeline": mapped, "servable": served["values"]}
assert (served["row_splits"].numpy() == eager.row_splits.numpy()).all()
print(json.dumps({name: values.numpy().tolist() for name, values in faces.items()}))
"""


@pytest.mark.parametrize("threads", [1, THREADS])
def test_threads_of_tensorflow_do_not_matter(
    model_path: Path, servable_path: Path, reference: ReferenceTokenizer, tmp_path: Path, threads: int
) -> None:
    """In a process of its own: the number is fixed when TensorFlow starts. Large batches are shared out."""
    texts = [as_bytes(text) for text in SHOP + HARD] + [shuffled(1000, seed) for seed in range(400)]
    (tmp_path / "texts").write_bytes(pickle.dumps(texts))
    command = [sys.executable, "-c", _WITH_THREADS, str(threads), str(model_path), str(servable_path)]
    done = subprocess.run([*command, str(tmp_path / "texts")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = reference.encode_batch(texts)[0]
    for name, values in json.loads(done.stdout.splitlines()[-1]).items():
        assert values == expected, name
