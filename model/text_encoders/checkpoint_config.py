"""What a published checkpoint says of itself: family, sizes and pooling, without reading its weights.

The folder is laid out as Hugging Face ``transformers`` or ``sentence-transformers`` write it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dpsr.config import ModelConfig, TransformerConfig
from dpsr.errors import DpsrError

CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE = "config.json", "tokenizer.json", "model.safetensors"

_REMEDIES = {
    CONFIG_FILE: "name a folder that save_pretrained of `transformers` wrote",
    TOKENIZER_FILE: "write it with save_pretrained of a fast tokenizer of `transformers`",
    WEIGHTS_FILE: "write it with save_pretrained(..., safe_serialization=True) of `transformers`, in one file",
}
_OFFSET_FAMILIES = ("roberta", "xlm-roberta")
"""Families whose first position reads the row after that of the padding id."""
_FAMILIES = ("bert", *_OFFSET_FAMILIES)
_ACTIVATIONS: dict[str, str] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_SIZES = {
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "intermediate": "intermediate_size",
    "norm_epsilon": "layer_norm_eps",
}
_POOLINGS: dict[str, Literal["cls", "mean"]] = {"cls": "cls", "mean": "mean"}
_MODULES = ("Transformer", "Pooling", "Normalize")
"""Modules of `sentence-transformers` that text encoder and towers compute."""


class PublishedCheckpointError(DpsrError, ValueError):
    """A published checkpoint that cannot be used; the message names the file, what it holds and what is expected."""


class Published(NamedTuple):
    """What is known of a checkpoint before its weights are read."""

    sizes: dict[str, Any]
    """Values of ``model.transformer`` by key, among them ``norm`` and ``activation``."""
    vocabulary: int
    """Rows of the word table."""
    types: int
    """Rows of the table of token types."""
    pooling: Literal["cls", "mean"] | None
    """As `sentence-transformers` stored it; None where it did not."""


def read_published(folder: str | Path) -> Published:
    """Reads ``config.json`` and, where they are there, ``modules.json`` and the pooling's configuration.

    Raises:
        PublishedCheckpointError: a file is missing or not JSON, or the architecture is another one.
    """
    folder = Path(folder)
    for name, remedy in _REMEDIES.items():
        if not (folder / name).is_file():
            raise PublishedCheckpointError(f"{folder}: {name} is missing; {remedy}")
    path = folder / CONFIG_FILE
    found = _read_json(path)
    family = found.get("model_type")
    if family not in _FAMILIES:
        raise PublishedCheckpointError(
            f"{path}: model_type = {family!r} is another architecture; supported are {', '.join(_FAMILIES)}"
        )
    try:
        sizes = {key: found[name] for key, name in _SIZES.items()}
        offset = found["pad_token_id"] + 1 if family in _OFFSET_FAMILIES else 0
        sizes |= {
            "activation": _choice(path, found, "hidden_act", _ACTIVATIONS),
            "norm": "post",
            "positions": found["max_position_embeddings"] - offset,
            "position_offset": offset,
        }
        vocabulary, types = found["vocab_size"], found["type_vocab_size"]
    except KeyError as error:
        raise PublishedCheckpointError(f"{path}: key {error} is missing; {_REMEDIES[CONFIG_FILE]}") from None
    _choice(path, {"position_embedding_type": "absolute"} | found, "position_embedding_type", {"absolute": "absolute"})
    return Published(sizes, vocabulary, types, _pooling(folder))


def resolved(config: ModelConfig) -> ModelConfig:
    """The configuration with the sizes of the published checkpoint in the place of those that are not given.

    Args:
        config: returned as it is without ``model.transformer.initial``.

    Raises:
        PublishedCheckpointError: the checkpoint cannot be used, differs from a size that is given, or has fewer
            positions than the longest text.
    """
    if config.initial is None:
        return config
    given, path = config.transformer, Path(config.initial) / CONFIG_FILE
    published = read_published(config.initial)
    explicit = given.model_dump(include=given.model_fields_set)
    differences = [
        f"model.transformer.{key} = {explicit[key]!r} is given, and the checkpoint has {value!r}"
        for key, value in published.sizes.items()
        if key in explicit and explicit[key] != value
    ]
    if differences:
        raise PublishedCheckpointError(f"{path}: {'; '.join(differences)}; leave the sizes to the checkpoint")
    for key in ("max_query_length", "max_item_length"):
        if getattr(given, key) > published.sizes["positions"]:
            raise PublishedCheckpointError(
                f"{path}: the checkpoint has {published.sizes['positions']} positions, fewer than "
                f"model.transformer.{key} = {getattr(given, key)}; shorten the texts"
            )
    pooling = {"pooling": published.pooling} if published.pooling else {}
    transformer = TransformerConfig(**(published.sizes | pooling | explicit))
    return config.model_copy(update={"transformer": transformer})


def self_contained(config: ModelConfig) -> ModelConfig:
    """As ``resolved``, without naming the checkpoint: describes a model whose weights are stored elsewhere."""
    config = resolved(config)
    if config.initial is None:
        return config
    return config.model_copy(update={"transformer": config.transformer.model_copy(update={"initial": None})})


def _pooling(folder: Path) -> Literal["cls", "mean"] | None:
    """The pooling that `sentence-transformers` stored beside the checkpoint.

    Raises:
        PublishedCheckpointError: it, or a further module, is not reproduced.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return None
    modules = {str(module.get("type", "")).rpartition(".")[2]: module.get("path", "") for module in _read_json(path)}
    unknown = [name for name in modules if name not in _MODULES]
    if unknown:
        raise PublishedCheckpointError(
            f"{path}: module {unknown[0]} is not reproduced (known: {', '.join(_MODULES)}); use a checkpoint without "
            "it, or remove modules.json to start from the transformer alone"
        )
    if "Pooling" not in modules:
        return None
    path = folder / modules["Pooling"] / CONFIG_FILE
    found = _read_json(path)
    # Newer releases name the mode, older ones have a flag for each.
    mode = found.get("pooling_mode")
    modes = [mode] if isinstance(mode, str) else [name for name, flag in _FLAGS.items() if found.get(flag)]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise PublishedCheckpointError(
            f"{path}: pooling by {' and '.join(modes) or 'nothing'} is not reproduced; supported are "
            f"{' and '.join(_POOLINGS)}"
        )
    return _POOLINGS[modes[0]]


_FLAGS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def _choice(path: Path, found: Mapping[str, Any], key: str, known: Mapping[str, str]) -> str:
    value = found[key]
    if value not in known:
        raise PublishedCheckpointError(f"{path}: {key} = {value!r} is not reproduced (known: {', '.join(known)})")
    return known[value]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PublishedCheckpointError(f"{path}: is missing; copy the whole folder of the checkpoint") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PublishedCheckpointError(f"{path}: not JSON: {error}; copy the checkpoint again") from None
