"""The op: the same ids as Python, wherever it runs."""

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.ops_cc import library
from dpsr.tokenizer_cc import ModelFileError, Tokenizer, tokenize, tokenize_op
from dpsr.tokenizer_cc.tokenize_op import TokenizeLayer

from .reference import ReferenceTokenizer
from .texts import SHOP, strings

OPS = library.load()


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_large_batches_are_shared_out(layer: TokenizeLayer, tokenizer: Tokenizer) -> None:
    texts = [f"{text} {i}" for i in range(400) for text in SHOP]
    tokens = layer(strings(texts))
    values, row_splits = tokenizer.encode_batch(texts)
    np.testing.assert_array_equal(tokens.values, values)
    np.testing.assert_array_equal(tokens.row_splits, row_splits)


def test_dtypes_and_shapes(layer: TokenizeLayer) -> None:
    tokens = layer(tf.constant([], tf.string))
    assert (tokens.values.dtype, tokens.row_splits.dtype) == (tf.int32, tf.int64)
    assert tokens.row_splits.numpy().tolist() == [0]

    @tf.function
    def shapes(texts: tf.Tensor) -> tuple[tf.TensorShape, tf.TensorShape]:
        inferred.extend(tensor.shape.as_list() for tensor in OPS.dpsr_tokenize(layer._resource.resource_handle, texts))
        return texts

    for spec, row_splits in (([7], [8]), ([None], [None])):
        inferred: list[list[int | None]] = []
        shapes.get_concrete_function(tf.TensorSpec(spec, tf.string))
        assert inferred == [[None], row_splits]


def test_shape_inference_of_the_other_ops() -> None:
    @tf.function
    def shapes() -> None:
        assert OPS.dpsr_anonymous_tokenizer().shape == []
        handle = OPS.dpsr_tokenizer_handle(shared_name="shapes")
        assert handle.shape == []
        with pytest.raises(ValueError, match="Shape must be rank 0"):
            OPS.dpsr_tokenizer_load(handle, ["two", "paths"])
        with pytest.raises(ValueError, match="Shape must be rank 0"):
            OPS.dpsr_tokenize(tf.stack([handle]), ["text"])

    shapes.get_concrete_function()


@pytest.mark.parametrize("shape", [[], [2, 2]], ids=str)
def test_shape_inference_refuses_other_ranks(layer: TokenizeLayer, shape: list[int]) -> None:
    with pytest.raises(ValueError, match="Shape must be rank 1"):
        tf.function(layer.__call__).get_concrete_function(tf.TensorSpec(shape, tf.string))
    with pytest.raises(tf.errors.InvalidArgumentError, match="texts must be a vector, found shape"):
        layer(tf.zeros(shape, tf.string) if shape else tf.constant("a"))


def test_another_process_needs_the_directory_alone(
    servable_path: Path, reference: ReferenceTokenizer, tmp_path: Path
) -> None:
    script = """
import sys, tensorflow as tf
from dpsr.ops_cc import library
library.load()
tokenize = tf.saved_model.load(sys.argv[1]).signatures["tokenize"]
print(tokenize(query=tf.constant(sys.argv[2:]))["values"].numpy().tolist())
"""
    command = [sys.executable, "-c", script, str(servable_path), *SHOP[:3]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(reference.encode_batch(SHOP[:3])[0])


def test_a_session_of_its_own_loads_it(servable_path: Path, reference: ReferenceTokenizer) -> None:
    """The way of the C++ loader, which knows nothing of objects and runs the graph's initializer."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(servable_path))
        signature = meta.signature_def["tokenize"]
        for text in SHOP[:2]:
            found = session.run(signature.outputs["values"].name, {signature.inputs["query"].name: [text]})
            assert found.tolist() == reference.encode(text)


def test_a_damaged_asset_is_an_error_at_load(servable_path: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(servable_path, tmp_path / "broken"))
    asset = broken / "assets" / "tokenizer.model"
    content = asset.read_bytes()
    for damaged, message in (
        (b"", "the file is empty"),
        (content[:200], "truncated: 200 bytes"),
        (content[:600] + b"\xa5\x5a" + content[602:], "corrupt: the checksum does not match"),
        (content[:8] + b"\x09" + content[9:], "format version 9 is newer"),
    ):
        asset.write_bytes(damaged)
        with pytest.raises(tf.errors.InvalidArgumentError, match=rf"assets/tokenizer\.model: {message}"):
            tf.saved_model.load(str(broken))
        with pytest.raises(tf.errors.InvalidArgumentError, match=message), tf.Graph().as_default():
            tf.compat.v1.saved_model.load(tf.compat.v1.Session(), ["serve"], str(broken))
    asset.unlink()
    with pytest.raises((tf.errors.NotFoundError, OSError)):
        tf.saved_model.load(str(broken))


def test_a_damaged_file_is_an_error_of_the_layer(tmp_path: Path) -> None:
    (tmp_path / "bad.model").write_bytes(b"DPSR")
    with pytest.raises(ModelFileError, match="truncated: 4 bytes"):
        TokenizeLayer(tmp_path / "bad.model")
    with pytest.raises(FileNotFoundError):
        TokenizeLayer(tmp_path / "none.model")


def test_tokenizers_of_a_process_do_not_mix(
    build: Callable[..., Tokenizer], layer: TokenizeLayer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    other = build(["one two", "three"], oov_buckets=3)
    other.save(tmp_path / "other.model")
    other_layer = TokenizeLayer(tmp_path / "other.model")
    text = "one two steel"
    assert other_layer(tf.constant([text])).values.numpy().tolist() == other.encode(text).tolist()
    assert layer(tf.constant([text])).values.numpy().tolist() == tokenizer.encode(text).tolist()


def test_a_function_keeps_its_tokenizer(servable_path: Path, reference: ReferenceTokenizer) -> None:
    first = tf.saved_model.load(str(servable_path)).signatures["tokenize"]
    second = tf.saved_model.load(str(servable_path)).signatures["tokenize"]
    gc.collect()
    assert second(query=tf.constant(SHOP[:2]))["values"].numpy().tolist() == reference.encode_batch(SHOP[:2])[0]
    del second
    gc.collect()
    assert first(query=tf.constant(SHOP[:2]))["values"].numpy().tolist() == reference.encode_batch(SHOP[:2])[0]


def test_a_tokenizer_goes_with_its_last_user(build: Callable[..., Tokenizer], tmp_path: Path) -> None:
    """A server that swaps models for a year must not keep every vocabulary it ever had."""
    words = " ".join(f"word{i}" for i in range(20_000))

    def come_and_go(name: str) -> None:
        build([name, words], max_vocabulary=200_000).save(tmp_path / "tokenizer.model")
        TokenizeLayer(tmp_path / "tokenizer.model")
        gc.collect()

    come_and_go("first")
    megabytes = (tmp_path / "tokenizer.model").stat().st_size / 1e6
    assert megabytes > 2
    before = resident_megabytes()
    for version in range(8):
        come_and_go(f"version {version}")
    assert resident_megabytes() - before < 4 * megabytes


def test_equal_content_is_held_once(build: Callable[..., Tokenizer], tmp_path: Path) -> None:
    build([" ".join(f"word{i}" for i in range(60_000))], max_vocabulary=600_000).save(tmp_path / "tokenizer.model")
    megabytes = (tmp_path / "tokenizer.model").stat().st_size / 1e6
    layers = [TokenizeLayer(tmp_path / "tokenizer.model")]
    before = resident_megabytes()
    layers += [TokenizeLayer(tmp_path / "tokenizer.model") for _ in range(20)]
    assert len(layers) == 21
    assert resident_megabytes() - before < 5 * megabytes


def test_before_it_is_loaded_it_says_so() -> None:
    handle = OPS.dpsr_tokenizer_handle(shared_name="never loaded")
    with pytest.raises(tf.errors.FailedPreconditionError, match="the tokenizer is not loaded"):
        OPS.dpsr_tokenize(handle, ["a"])


def test_a_name_has_one_content(model_path: Path, build: Callable[..., Tokenizer], tmp_path: Path) -> None:
    handle = OPS.dpsr_tokenizer_handle(shared_name="one content")
    OPS.dpsr_tokenizer_load(handle, str(model_path))
    build(["other"]).save(tmp_path / "other.model")
    with pytest.raises(tf.errors.FailedPreconditionError, match="its fingerprint is"):
        OPS.dpsr_tokenizer_load(handle, str(tmp_path / "other.model"))


def test_tokenize_takes_a_path(model_path: Path, reference: ReferenceTokenizer) -> None:
    expected = [reference.encode(text) for text in SHOP]
    assert tokenize(strings(SHOP), model_path).to_list() == expected
    in_pipeline = tf.data.Dataset.from_tensors(strings(SHOP)).map(lambda texts: tokenize(texts, model_path))
    assert next(iter(in_pipeline)).to_list() == expected

    @tf.function
    def in_function(texts: tf.Tensor) -> tf.RaggedTensor:
        return tokenize(texts, str(model_path))

    assert in_function(strings(SHOP)).to_list() == expected
    assert not in_function.get_concrete_function(tf.TensorSpec([None], tf.string)).captured_inputs


def test_tokenize_loads_a_file_once_and_again_when_it_changes(build: Callable[..., Tokenizer], tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    tokenize_op._fingerprint_of_file.cache_clear()
    for built in (build(["one two"]), build(["three", "two three"])):
        built.save(path)
        for _ in range(3):
            assert tokenize(["one two three"], path).values.numpy().tolist() == built.encode("one two three").tolist()
    assert tokenize_op._fingerprint_of_file.cache_info().misses == 2
    path.write_bytes(b"")
    with pytest.raises(ModelFileError, match="the file is empty"):
        tokenize(["one"], path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.model"):
        tokenize(["one"], path)


def test_a_graph_finds_the_file_that_it_was_made_with_or_says_so(
    build: Callable[..., Tokenizer], tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.model"
    build(["one two"]).save(path)
    graph = tf.function(lambda texts: tokenize(texts, path).values).get_concrete_function(
        tf.TensorSpec([None], tf.string)
    )
    build(["three"]).save(path)
    with pytest.raises(tf.errors.FailedPreconditionError, match=r"expected .* another dataset"):
        graph(tf.constant(["one"]))
    path.unlink()
    with pytest.raises(tf.errors.NotFoundError, match=r"tokenizer\.model"):
        graph(tf.constant(["one"]))


def test_one_session_after_the_other(servable_path: Path, reference: ReferenceTokenizer) -> None:
    """Two sessions of one process, the first of which is gone when the second answers."""
    found = []
    for _ in range(2):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            meta = tf.compat.v1.saved_model.load(session, ["serve"], str(servable_path)).signature_def["tokenize"]
            found.append(session.run(meta.outputs["values"].name, {meta.inputs["query"].name: SHOP[:1]}).tolist())
    assert found == [reference.encode(SHOP[0])] * 2
