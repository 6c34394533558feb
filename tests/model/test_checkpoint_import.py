"""Published checkpoints: the same arrays and vectors whatever the family, and an error for each that cannot be used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

from dpsr.config import ModelConfig
from dpsr.data.dataset.schema import SubwordsSchema
from dpsr.model.text_encoders.checkpoint_config import PublishedCheckpointError, resolved
from dpsr.model.text_encoders.checkpoint_import import import_weights
from dpsr.model.text_encoders.transformer import TransformerEncoder
from dpsr.tokenizer_cc.subwords import SubwordError, SubwordTokenizer

from .numpy_encoder import last_hidden_states
from .published import BERT, WORDS, XLM_R, random_weights, write_checkpoint

FAMILIES = pytest.mark.parametrize("family", [BERT, XLM_R], ids=["bert", "xlm-roberta"])


def subwords_of(folder: Path) -> SubwordsSchema:
    tokenizer = SubwordTokenizer.from_tokenizer_json(folder)
    return SubwordsSchema(
        num_ids=tokenizer.num_ids, fingerprint=tokenizer.fingerprint, pad=0, unk=1, cls=2, sep=3, mask=4
    )


def model_config(folder: Path, **transformer: Any) -> ModelConfig:
    return ModelConfig(
        text_encoder="transformer",
        transformer={"initial": str(folder), "max_item_length": 32} | transformer,
        dimension=8,
    )


def import_of(folder: Path, **transformer: Any) -> Any:
    config = resolved(model_config(folder, **transformer)).transformer
    return import_weights(folder, config, subwords_of(folder))


@FAMILIES
@pytest.mark.parametrize("prefix", ["", "bert.", "roberta."])
def test_every_array_is_read_as_it_was_written(family: dict, prefix: str, tmp_path: Path) -> None:
    weights = random_weights(family)
    found = import_of(write_checkpoint(tmp_path, family, weights, prefix=prefix))
    kept = weights._replace(words=weights.words[: len(WORDS)])
    for expected, array in zip(tf.nest.flatten(kept), tf.nest.flatten(found), strict=True):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected)


@FAMILIES
def test_a_text_has_the_states_and_the_vector_of_the_checkpoint(family: dict, tmp_path: Path) -> None:
    weights = random_weights(family)
    config = resolved(model_config(write_checkpoint(tmp_path, family, weights, pooling="cls"))).transformer
    encoder = TransformerEncoder("text", subwords_of(tmp_path), config, dimension=8)
    drawn = encoder.draw_weights(1)
    sequences = tf.ragged.constant([[2, 5, 6, 3], [2, 3], [2, 10, 9, 7, 8, 3]], tf.int32, row_splits_dtype=tf.int64)
    offset = 2 if family is XLM_R else 0
    assert encoder.shape.position_offset == offset
    assert encoder.shape.norm_epsilon == family["layer_norm_eps"]
    states = sequences.with_values(encoder.hidden(sequences, drawn))
    for sequence, found in zip(sequences, states, strict=True):
        expected = last_hidden_states(sequence.numpy(), weights, encoder.shape)[-1]
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert config.pooling == "cls"


def test_sizes_left_out_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, XLM_R, random_weights(XLM_R), pooling="mean")
    found = resolved(model_config(tmp_path, layers=2, dropout=0.1, pooling="cls")).transformer
    assert (found.layers, found.width, found.heads, found.intermediate) == (2, 8, 2, 12)
    assert (found.activation, found.norm, found.norm_epsilon) == ("gelu", "post", 1e-5)
    assert (found.positions, found.position_offset) == (38, 2)
    assert (found.pooling, found.dropout) == ("cls", 0.1)
    again = ModelConfig(text_encoder="transformer", transformer=found, dimension=8)
    assert resolved(again) == again


@pytest.mark.parametrize("kind", [np.float16, "bfloat16"])
def test_weights_of_half_the_width_are_read(kind: Any, tmp_path: Path) -> None:
    weights = random_weights(BERT)
    write_checkpoint(tmp_path, BERT, weights)
    kind = tf.bfloat16.as_numpy_dtype if kind == "bfloat16" else kind
    path = tmp_path / "model.safetensors"
    save_file({name: array.astype(kind) for name, array in load_file(path).items()}, path)
    expected = weights.positions.astype(kind).astype(np.float32)
    np.testing.assert_array_equal(import_of(tmp_path).positions, expected)


def test_older_names_of_the_norms_are_read(tmp_path: Path) -> None:
    weights = random_weights(BERT)
    write_checkpoint(tmp_path, BERT, weights)
    path = tmp_path / "model.safetensors"
    older = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in load_file(path).items()
    }
    save_file(older, path)
    found = import_of(tmp_path)
    np.testing.assert_array_equal(found.embedding_scale, weights.embedding_scale)
    np.testing.assert_array_equal(found.blocks[1].output_offset, weights.blocks[1].output_offset)


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def edit_tensors(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        arrays = load_file(folder / "model.safetensors")
        change(arrays)
        save_file(arrays, folder / "model.safetensors")

    return edit


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def written(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


QUERY = "encoder.layer.1.attention.self.query.weight"
UNUSABLE = [
    (without("config.json"), {}, r"config\.json is missing; name a folder that save_pretrained"),
    (without("tokenizer.json"), {}, r"tokenizer\.json is missing; write it with save_pretrained of a fast tokenizer"),
    (without("model.safetensors"), {}, r"model\.safetensors is missing; .*safe_serialization=True"),
    (written("config.json", "{"), {}, r"config\.json: not JSON"),
    (written("model.safetensors", "no tensors"), {}, r"model\.safetensors: cannot be read"),
    (
        edit_config(model_type="distilbert"),
        {},
        r"model_type = 'distilbert' is another architecture; supported are",
    ),
    (edit_config(hidden_act="silu"), {}, r"hidden_act = 'silu' is not reproduced \(known: gelu"),
    (edit_config(position_embedding_type="relative_key"), {}, r"'relative_key' is not reproduced"),
    (edit_config(hidden_size=16), {}, r"word_embeddings\.weight has shape \[22, 8\], but config\.json says \[22, 16\]"),
    (edit_config(num_hidden_layers=3), {}, r"encoder\.layer\.2\.attention\.self\.query\.weight is missing"),
    (edit_config(vocab_size=5), {}, r"has 5 words, but its tokenizer\.json has \d+ ids"),
    (edit_tensors(lambda arrays: arrays.pop(QUERY)), {}, rf"{QUERY} is missing".replace(".", r"\.")),
    (edit_tensors(lambda arrays: arrays.update({QUERY: np.zeros((8, 8), np.int32)})), {}, r"has type I32, supported"),
    (
        edit_tensors(lambda arrays: arrays.pop("embeddings.word_embeddings.weight")),
        {},
        r"word_embeddings\.weight is missing, also with prefix bert\. or roberta\..*another architecture",
    ),
    (None, {"layers": 6}, r"model\.transformer\.layers = 6 is given, and the checkpoint has 2"),
    (None, {"norm": "pre"}, r"model\.transformer\.norm = 'pre' is given, and the checkpoint has 'post'"),
    (None, {"max_item_length": 64}, r"has 40 positions, fewer than model\.transformer\.max_item_length = 64"),
    (
        written("1_Pooling/config.json", '{"pooling_mode_max_tokens": true}'),
        {},
        r"pooling by max is not reproduced; supported are cls and mean",
    ),
    (
        written("modules.json", '[{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]'),
        {},
        r"module Dense is not reproduced",
    ),
    (without("1_Pooling/config.json"), {}, r"1_Pooling/config\.json: is missing; copy the whole folder"),
]


@pytest.mark.parametrize(("spoil", "transformer", "message"), UNUSABLE, ids=[message for *_, message in UNUSABLE])
def test_what_cannot_be_used_is_said(
    spoil: Callable[[Path], None] | None, transformer: dict, message: str, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path, BERT, random_weights(BERT), pooling="mean")
    subwords = subwords_of(tmp_path)
    if spoil is not None:
        spoil(tmp_path)
    with pytest.raises(PublishedCheckpointError, match=message):
        import_weights(tmp_path, resolved(model_config(tmp_path, **transformer)).transformer, subwords)


def test_a_dataset_of_another_tokenizer_is_said(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, BERT, random_weights(BERT))
    other = SubwordsSchema(num_ids=19, fingerprint="f00d", pad=0, unk=1, cls=2, sep=3, mask=4)
    with pytest.raises(PublishedCheckpointError, match="prepared with subwords f00d; run `dpsr prepare` again"):
        import_weights(tmp_path, resolved(model_config(tmp_path)).transformer, other)


def test_a_tokenizer_that_is_not_reproduced_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, BERT, random_weights(BERT))
    subwords, path = subwords_of(tmp_path), tmp_path / "tokenizer.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"pre_tokenizer": {"type": "CharDelimiterSplit", "delimiter": "+"}})
    )
    with pytest.raises(SubwordError, match="CharDelimiterSplit"):
        import_weights(tmp_path, resolved(model_config(tmp_path)).transformer, subwords)
