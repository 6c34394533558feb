"""Terms in TensorFlow: the ops give the ids and weights of Python, wherever they run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from dpsr.tokenizer_cc import ModelFileError
from dpsr.tokenizer_cc.term_op import TermLayer, query_keys
from dpsr.tokenizer_cc.terms import TermTokenizer, TermVocabularyBuilder, analyze
from dpsr.tokenizer_cc.terms import query_keys as query_keys_of_python

from .texts import HARD, SHOP, as_bytes, batches, strings

QUERIES = ["stianlses sinc", "dewlat drlil", "modernwarfare", "g4uge", *SHOP, *HARD]
NAMES = ("values", "weights", "row_splits")


@pytest.fixture(scope="module")
def terms() -> TermTokenizer:
    builder = TermVocabularyBuilder(bigrams=True, min_bigram_count=1)
    builder.add(SHOP)
    return builder.build()


@pytest.fixture(scope="module")
def path(terms: TermTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("terms") / "terms.model"
    terms.save(path)
    return path


@pytest.fixture(scope="module")
def servable(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that was moved after it was written, and whose model file is gone."""
    folder = tmp_path_factory.mktemp("servable")
    shutil.copy(path, folder / "terms.model")
    module = tf.Module()
    module.layer = TermLayer(folder / "terms.model")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def encode(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        return dict(zip(NAMES, module.layer.encode_queries(texts), strict=True))

    module.encode = encode
    tf.saved_model.save(module, str(folder / "written"), signatures=encode)
    (folder / "terms.model").unlink()
    return Path(shutil.move(folder / "written", folder / "moved"))


def test_all_faces_agree(terms: TermTokenizer, path: Path, servable: Path) -> None:
    layer, loaded = TermLayer(path), tf.saved_model.load(str(servable))
    assert (layer.fingerprint, layer.num_terms) == (terms.fingerprint, terms.num_terms)

    @settings(max_examples=25, deadline=None)
    @given(texts=batches)
    def check(texts: list[str | bytes]) -> None:
        ids = layer(strings(texts))
        values, row_splits = terms.encode_batch(texts)
        np.testing.assert_array_equal(ids.values, values)
        np.testing.assert_array_equal(ids.row_splits, row_splits)
        expected = terms.encode_queries(texts)
        served = loaded.signatures["serving_default"](texts=strings(texts))
        for found in (layer.encode_queries(strings(texts)), [served[name] for name in NAMES]):
            for array, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(array, other)

    check()


def test_large_batches_are_shared_out(terms: TermTokenizer, path: Path) -> None:
    texts = [f"{text} {i}" if isinstance(text, str) else text for i in range(20) for text in QUERIES]
    found = TermLayer(path).encode_queries(strings(texts))
    assert [array.dtype for array in found] == [tf.int32, tf.float32, tf.int64]
    for array, expected in zip(found, terms.encode_queries(texts), strict=True):
        np.testing.assert_array_equal(array, expected)
    assert 0 < np.min(found[1]) < 1


def test_in_a_session(terms: TermTokenizer, servable: Path) -> None:
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(servable))
        signature = loaded.signature_def["serving_default"]
        outputs = {name: signature.outputs[name].name for name in NAMES}
        found = session.run(outputs, {signature.inputs["texts"].name: [as_bytes(text) for text in QUERIES]})
    for name, expected in zip(NAMES, terms.encode_queries(QUERIES), strict=True):
        np.testing.assert_array_equal(found[name], expected)


def test_shapes_are_checked(path: Path) -> None:
    layer = TermLayer(path)
    with pytest.raises(tf.errors.InvalidArgumentError, match="texts must be a vector"):
        layer.encode_queries(tf.constant("steel"))
    shapes = tf.function(layer.encode_queries).get_concrete_function(tf.TensorSpec([3], tf.string)).output_shapes
    assert [shape.as_list() for shape in shapes] == [[None], [None], [4]]


def test_bad_files(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such term model"):
        TermLayer(tmp_path / "terms.model")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    (tmp_path / "damaged.model").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"damaged.model: corrupt: the checksum"):
        TermLayer(tmp_path / "damaged.model")


def test_keys_of_queries_agree() -> None:
    texts = [*QUERIES, "", "  - ", b"\xff"]
    keys = query_keys(strings(texts)).numpy()
    assert keys.tolist() == query_keys_of_python(texts).tolist()
    for text, key in zip(texts, keys.tolist(), strict=True):
        assert (key == 0) == (not analyze(text))
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be"):
        query_keys(tf.constant([["lamp"]]))


def test_keys_in_a_graph_have_a_shape() -> None:
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def keys(texts: tf.Tensor) -> tf.Tensor:
        found = query_keys(texts)
        assert found.shape.as_list() == [None]
        return found

    assert len(set(keys(tf.constant(["Black Ops 2", "blackops2", "black op 2"])).numpy().tolist())) == 1
