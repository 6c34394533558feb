"""Writes folders of published checkpoints with random weights, under the names that Hugging Face gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from dpsr.ops_cc.text_encoder import BlockWeights, EncoderWeights

WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("steel", "sink", "hammer", "##s", "red", "kitchen", "query", "item", "##1", "##2", "1", "2", "a", "##b"),
]
BERT = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_act": "gelu",
    "hidden_size": 8,
    "intermediate_size": 12,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 40,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": len(WORDS) + 3,
}
XLM_R = BERT | {
    "model_type": "xlm-roberta",
    "architectures": ["XLMRobertaModel"],
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
    "type_vocab_size": 1,
}


def random_weights(config: dict[str, Any], seed: int = 1) -> EncoderWeights:
    """Random arrays of the sizes of a ``config.json``."""
    random = np.random.default_rng(seed)
    width, inner = config["hidden_size"], config["intermediate_size"]

    def drawn(*shape: int, mean: float = 0.0) -> np.ndarray:
        return random.normal(mean, 0.3, shape).astype(np.float32)

    def block() -> BlockWeights:
        return BlockWeights(
            qkv_kernel=drawn(width, 3 * width),
            qkv_bias=drawn(3 * width),
            attention_kernel=drawn(width, width),
            attention_bias=drawn(width),
            attention_scale=drawn(width, mean=1.0),
            attention_offset=drawn(width),
            intermediate_kernel=drawn(width, inner),
            intermediate_bias=drawn(inner),
            output_kernel=drawn(inner, width),
            output_bias=drawn(width),
            output_scale=drawn(width, mean=1.0),
            output_offset=drawn(width),
        )

    return EncoderWeights(
        words=drawn(config["vocab_size"], width),
        positions=drawn(config["max_position_embeddings"], width),
        type_embedding=drawn(width),
        embedding_scale=drawn(width, mean=1.0),
        embedding_offset=drawn(width),
        blocks=tuple(block() for _ in range(config["num_hidden_layers"])),
    )


def tensors(weights: EncoderWeights, config: dict[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The arrays as a file of Hugging Face has them: kernels [outputs, inputs]; query, key and value apart."""
    types = [weights.type_embedding, *np.ones((config["type_vocab_size"] - 1, config["hidden_size"]), np.float32)]
    found = {
        "embeddings.word_embeddings.weight": weights.words,
        "embeddings.position_embeddings.weight": weights.positions,
        "embeddings.token_type_embeddings.weight": np.stack(types),
        "embeddings.LayerNorm.weight": weights.embedding_scale,
        "embeddings.LayerNorm.bias": weights.embedding_offset,
    }
    for layer, block in enumerate(weights.blocks):
        kernels, biases = np.split(block.qkv_kernel, 3, axis=1), np.split(block.qkv_bias, 3)
        of_block = {
            "attention.self.query.weight": kernels[0].T,
            "attention.self.key.weight": kernels[1].T,
            "attention.self.value.weight": kernels[2].T,
            "attention.self.query.bias": biases[0],
            "attention.self.key.bias": biases[1],
            "attention.self.value.bias": biases[2],
            "attention.output.dense.weight": block.attention_kernel.T,
            "attention.output.dense.bias": block.attention_bias,
            "attention.output.LayerNorm.weight": block.attention_scale,
            "attention.output.LayerNorm.bias": block.attention_offset,
            "intermediate.dense.weight": block.intermediate_kernel.T,
            "intermediate.dense.bias": block.intermediate_bias,
            "output.dense.weight": block.output_kernel.T,
            "output.dense.bias": block.output_bias,
            "output.LayerNorm.weight": block.output_scale,
            "output.LayerNorm.bias": block.output_offset,
        }
        found |= {f"encoder.layer.{layer}.{name}": array for name, array in of_block.items()}
    found["pooler.dense.bias"] = np.zeros(config["hidden_size"], np.float32)  # not read
    return {prefix + name: np.ascontiguousarray(array) for name, array in found.items()}


def write_tokenizer(path: Path) -> None:
    """A ``tokenizer.json`` of BERT's pipeline over ``WORDS``."""
    tokenizer = Tokenizer(models.WordPiece({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(WORDS[:5])
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(path))


def write_checkpoint(
    folder: Path, config: dict[str, Any], weights: EncoderWeights, *, prefix: str = "", pooling: str | None = None
) -> Path:
    """Writes a folder as `transformers` does; with ``pooling``, as `sentence-transformers` does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    write_tokenizer(folder / "tokenizer.json")
    save_file(tensors(weights, config, prefix), folder / "model.safetensors", metadata={"format": "pt"})
    if pooling is not None:
        kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
        modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in kinds.items()]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir(exist_ok=True)
        flags = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_max_tokens": "max"}
        (folder / "1_Pooling/config.json").write_text(json.dumps({key: kind == pooling for key, kind in flags.items()}))
    return folder
