"""Which text encoder a configuration names."""

from __future__ import annotations

from collections.abc import Callable

from dpsr.config import ModelConfig
from dpsr.model.text_encoders.bag import BagEncoder
from dpsr.model.text_encoders.encoder import TextEncoder

_ENCODERS: dict[str, Callable[[str, int], TextEncoder]] = {"bag": BagEncoder}


def text_encoder(config: ModelConfig, table: str, rows: int) -> TextEncoder:
    """Makes the encoder ``model.text_encoder``.

    Args:
        config: the model.
        table: name of its token table.
        rows: token ids.
    """
    return _ENCODERS[config.text_encoder](table, rows)
