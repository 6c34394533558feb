"""Subwords in TensorFlow: the op gives the ids of Python, wherever it runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from dpsr.tokenizer_cc.subword_op import SubwordLayer, subwords
from dpsr.tokenizer_cc.subwords import SubwordError, SubwordTokenizer, train_subwords

from .texts import HARD, SHOP, as_bytes, batches, strings

Texts = list[str | bytes]


@pytest.fixture(scope="module", params=["wordpiece", "unigram", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> SubwordTokenizer:
    return train_subwords(SHOP, kind=request.param, vocabulary=300, lowercase=True)


@pytest.fixture(scope="module")
def path(tokenizer: SubwordTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("subwords") / "subwords.model"
    tokenizer.save(path)
    return path


@pytest.fixture(scope="module")
def servable(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that was moved after it was written, and whose model file is gone."""
    folder = tmp_path_factory.mktemp("servable")
    shutil.copy(path, folder / "subwords.model")
    module = tf.Module()
    module.layer = SubwordLayer(folder / "subwords.model")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def encode(texts: tf.Tensor) -> dict[str, tf.Tensor]:
        ids = module.layer(texts)
        return {"values": ids.values, "row_splits": ids.row_splits}

    module.encode = encode
    tf.saved_model.save(module, str(folder / "written"), signatures=encode)
    (folder / "subwords.model").unlink()
    return Path(shutil.move(folder / "written", folder / "moved"))


def test_all_faces_agree(tokenizer: SubwordTokenizer, path: Path, servable: Path) -> None:
    layer, loaded = SubwordLayer(path), tf.saved_model.load(str(servable))
    assert (layer.fingerprint, layer.num_ids) == (tokenizer.fingerprint, tokenizer.num_ids)

    @settings(max_examples=25, deadline=None)
    @given(texts=batches)
    def check(texts: Texts) -> None:
        values, row_splits = tokenizer.encode_batch(texts)
        served = loaded.signatures["serving_default"](texts=strings(texts))
        piped = tf.data.Dataset.from_tensors(strings(texts)).map(layer).get_single_element()
        for found in (layer(strings(texts)), subwords(strings(texts), path), piped):
            np.testing.assert_array_equal(found.values, values)
            np.testing.assert_array_equal(found.row_splits, row_splits)
        np.testing.assert_array_equal(served["values"], values)
        np.testing.assert_array_equal(served["row_splits"], row_splits)

    check()
    assert layer(strings(SHOP)).dtype == tf.int32


def test_large_batches_are_shared_out(tokenizer: SubwordTokenizer, path: Path) -> None:
    texts = [f"{text} {i}" for i in range(400) for text in SHOP]
    ids = SubwordLayer(path)(strings(texts))
    values, row_splits = tokenizer.encode_batch(texts)
    np.testing.assert_array_equal(ids.values, values)
    np.testing.assert_array_equal(ids.row_splits, row_splits)


def test_in_a_session(tokenizer: SubwordTokenizer, servable: Path) -> None:
    texts = SHOP + HARD
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(servable))
        signature = loaded.signature_def["serving_default"]
        outputs = {name: signature.outputs[name].name for name in ("values", "row_splits")}
        found = session.run(outputs, {signature.inputs["texts"].name: [as_bytes(text) for text in texts]})
    values, row_splits = tokenizer.encode_batch(texts)
    np.testing.assert_array_equal(found["values"], values)
    np.testing.assert_array_equal(found["row_splits"], row_splits)


def test_bad_files(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such subword model"):
        SubwordLayer(tmp_path / "subwords.model")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    (tmp_path / "damaged.model").write_bytes(content)
    with pytest.raises(SubwordError, match=r"damaged.model: corrupt: the checksum"):
        subwords(strings(SHOP), tmp_path / "damaged.model")
