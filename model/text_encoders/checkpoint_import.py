"""The weights of a published checkpoint: one table of names and shapes for BERT, RoBERTa and XLM-RoBERTa."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from dpsr.config import TransformerConfig
from dpsr.data.dataset.schema import SubwordsSchema
from dpsr.model.text_encoders.checkpoint_config import (
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    Published,
    PublishedCheckpointError,
    read_published,
)
from dpsr.ops_cc.text_encoder import BlockWeights, EncoderWeights
from dpsr.tokenizer_cc.subwords import SubwordTokenizer


class _Entry(NamedTuple):
    """Where a weight comes from."""

    field: str
    """Of ``EncoderWeights`` or ``BlockWeights``."""
    names: tuple[str, ...]
    """Of the stored tensors, which lie side by side in the weight."""
    shape: str
    """Of each, as stored: V words, P positions, T token types, H width, F intermediate. The kernels of a block are
    stored as [outputs, inputs]."""


_TYPES = _Entry("type_embedding", ("embeddings.token_type_embeddings.weight",), "TH")
_EMBEDDINGS = (
    _Entry("words", ("embeddings.word_embeddings.weight",), "VH"),
    _Entry("positions", ("embeddings.position_embeddings.weight",), "PH"),
    _TYPES,
    _Entry("embedding_scale", ("embeddings.LayerNorm.weight",), "H"),
    _Entry("embedding_offset", ("embeddings.LayerNorm.bias",), "H"),
)
_ATTENTION = ("attention.self.query", "attention.self.key", "attention.self.value")
_BLOCK = (
    _Entry("qkv_kernel", tuple(f"{name}.weight" for name in _ATTENTION), "HH"),
    _Entry("qkv_bias", tuple(f"{name}.bias" for name in _ATTENTION), "H"),
    _Entry("attention_kernel", ("attention.output.dense.weight",), "HH"),
    _Entry("attention_bias", ("attention.output.dense.bias",), "H"),
    _Entry("attention_scale", ("attention.output.LayerNorm.weight",), "H"),
    _Entry("attention_offset", ("attention.output.LayerNorm.bias",), "H"),
    _Entry("intermediate_kernel", ("intermediate.dense.weight",), "FH"),
    _Entry("intermediate_bias", ("intermediate.dense.bias",), "F"),
    _Entry("output_kernel", ("output.dense.weight",), "HF"),
    _Entry("output_bias", ("output.dense.bias",), "H"),
    _Entry("output_scale", ("output.LayerNorm.weight",), "H"),
    _Entry("output_offset", ("output.LayerNorm.bias",), "H"),
)
_BLOCK_PREFIX = "encoder.layer.{}."
_PREFIXES = ("", "bert.", "roberta.")
"""Of the encoder's tensors; a checkpoint with an output layer has it beside them."""
_OLDER_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
"""As checkpoints that were converted from TensorFlow have them."""
_FLOATS = ("F32", "F16", "BF16")

Read = Callable[[_Entry, str], np.ndarray]
"""Of an entry and the prefix of its block -> float32."""


def import_weights(folder: str | Path, config: TransformerConfig, subwords: SubwordsSchema) -> EncoderWeights:
    """Reads the encoder's weights.

    Args:
        folder: of the checkpoint.
        config: its sizes, as ``checkpoint_config.resolved`` has them.
        subwords: of the dataset; rows of the word table that are no id of its tokenizer are left out.

    Returns:
        float32 arrays.

    Raises:
        PublishedCheckpointError: a file is missing or damaged, a tensor is missing or has another shape than
            ``config.json`` says, the word table has fewer rows than the tokenizer has ids, or the dataset was prepared
            with another tokenizer.
        SubwordError: the tokenizer cannot be reproduced.
    """
    path, published, num_ids = Path(folder) / WEIGHTS_FILE, read_published(folder), subwords.num_ids
    fingerprint = SubwordTokenizer.from_tokenizer_json(folder).fingerprint
    if fingerprint != subwords.fingerprint:
        raise PublishedCheckpointError(
            f"{path.with_name(TOKENIZER_FILE)}: has fingerprint {fingerprint}, but the dataset was prepared with "
            f"subwords {subwords.fingerprint}; run `dpsr prepare` again"
        )
    if num_ids > published.vocabulary:
        raise PublishedCheckpointError(
            f"{path}: has {published.vocabulary} words, but its tokenizer.json has {num_ids} ids; use the "
            "tokenizer that the checkpoint was trained with"
        )
    with _opened(path, published, config) as read:
        embeddings = {entry.field: read(entry, "") for entry in _EMBEDDINGS}
        blocks = [
            BlockWeights(**{entry.field: read(entry, _BLOCK_PREFIX.format(layer)) for entry in _BLOCK})
            for layer in range(config.layers)
        ]
    embeddings["words"] = embeddings["words"][:num_ids]
    embeddings["type_embedding"] = embeddings["type_embedding"][0]
    return EncoderWeights(**embeddings, blocks=tuple(blocks))


def import_token_types(folder: str | Path, config: TransformerConfig) -> np.ndarray:
    """Reads the embeddings of token types, which tell the texts of a pair apart; raises as ``import_weights``.

    Returns:
        float32 [T, H]; T is 2 for BERT, 1 for a family without types.
    """
    with _opened(Path(folder) / WEIGHTS_FILE, read_published(folder), config) as read:
        return read(_TYPES, "")


@contextmanager
def _opened(path: Path, published: Published, config: TransformerConfig) -> Iterator[Read]:
    """Opens a file of weights; what is raised while it is read names the file."""
    sizes = {
        "V": published.vocabulary,
        "P": config.positions + config.position_offset,
        "T": published.types,
        "H": config.width,
        "F": config.intermediate,
    }
    try:
        with safe_open(path, framework="np") as file:
            yield _reader(path, file, sizes)
    except (SafetensorError, OSError) as error:
        raise PublishedCheckpointError(f"{path}: cannot be read: {error}; copy the checkpoint again") from None


def _reader(path: Path, file: Any, sizes: dict[str, int]) -> Read:
    """Makes a function of an entry and its block's prefix, which reads the entry as float32."""
    stored = set(file.keys())
    first = _EMBEDDINGS[0].names[0]
    encoder = next((prefix for prefix in _PREFIXES if prefix + first in stored), None)
    if encoder is None:
        raise PublishedCheckpointError(
            f"{path}: {first} is missing, also with prefix {' or '.join(_PREFIXES[1:])} (found: "
            f"{', '.join(sorted(stored)[:3])}, ...); the weights are of another architecture than config.json"
        )

    def read_one(name: str, shape: Sequence[int]) -> np.ndarray:
        if name not in stored:
            older = next((name.replace(new, old) for new, old in _OLDER_NAMES.items() if name.endswith(new)), name)
            if older not in stored:
                raise PublishedCheckpointError(f"{path}: {name} is missing; copy the checkpoint again")
            name = older
        found = file.get_slice(name)
        if list(found.get_shape()) != list(shape):
            raise PublishedCheckpointError(
                f"{path}: {name} has shape {found.get_shape()}, but config.json says {list(shape)}; the two files are "
                "of different checkpoints"
            )
        if found.get_dtype() not in _FLOATS:
            raise PublishedCheckpointError(
                f"{path}: {name} has type {found.get_dtype()}, supported are {', '.join(_FLOATS)}; store it as float32"
            )
        return np.asarray(file.get_tensor(name)).astype(np.float32)

    def read(entry: _Entry, prefix: str) -> np.ndarray:
        shape = [sizes[letter] for letter in entry.shape]
        parts = [read_one(f"{encoder}{prefix}{name}", shape) for name in entry.names]
        return np.concatenate([part.T if prefix else part for part in parts], axis=-1)

    return read
