"""Which text encoder a configuration names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from dpsr.config import ModelConfig
from dpsr.data.dataset.schema import DatasetError, Schema
from dpsr.model.text_encoders.bag import BagEncoder
from dpsr.model.text_encoders.checkpoint_config import resolved
from dpsr.model.text_encoders.encoder import TextEncoder
from dpsr.model.text_encoders.transformer import TransformerEncoder

Tower = Literal["query", "item"]


def text_encoder(config: ModelConfig, schema: Schema, tower: Tower) -> TextEncoder:
    """Makes the encoder ``model.text_encoder`` of a tower.

    Raises:
        DatasetError: the encoder reads subwords, and the dataset has none.
        PublishedCheckpointError: the sizes of ``model.transformer.initial`` cannot be used.
    """
    prefix = "" if config.shared_tokens else f"{tower}_"
    return _ENCODERS[config.text_encoder](config, schema, prefix)


def _bag(config: ModelConfig, schema: Schema, prefix: str) -> TextEncoder:
    return BagEncoder(f"{prefix}tokens", schema.token_rows)


def _transformer(config: ModelConfig, schema: Schema, prefix: str) -> TextEncoder:
    if schema.subwords is None:
        raise DatasetError(
            "the dataset was prepared without subwords, which a transformer reads; run `dpsr prepare` again with "
            'model.text_encoder = "transformer"'
        )
    config = resolved(config)
    return TransformerEncoder(f"{prefix}transformer", schema.subwords, config.transformer, config.dimension)


_ENCODERS: dict[str, Callable[[ModelConfig, Schema, str], TextEncoder]] = {"bag": _bag, "transformer": _transformer}
