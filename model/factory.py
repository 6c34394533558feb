"""Builds a model from what ``model.json`` says of it."""

from __future__ import annotations

from collections.abc import Mapping

from dpsr.config import ModelConfig
from dpsr.data.dataset.schema import Schema
from dpsr.model.architectures import TWO_TOWER
from dpsr.model.encoded_items import EncodedItems
from dpsr.model.shards import Placement
from dpsr.model.two_tower import TwoTower
from dpsr.tokenizer_cc import Tokenizer

_ARCHITECTURES = {TWO_TOWER: TwoTower}


def build_model(
    config: ModelConfig,
    schema: Schema,
    *,
    architecture: str = TWO_TOWER,
    seed: int = 1,
    tokenizer: Tokenizer | None = None,
    placements: Mapping[str, Placement] | None = None,
    encoded: EncodedItems | None = None,
) -> TwoTower:
    """Builds an untrained model.

    Args:
        config: sizes and kinds.
        schema: the dataset's columns and tables.
        architecture: the model's class by name, as ``model.json`` has it.
        seed: as ``TwoTower``, like all further arguments.
        tokenizer: as ``TwoTower``.
        placements: as ``TwoTower``.
        encoded: as ``TwoTower``.

    Raises:
        ValueError: the architecture is unknown.
    """
    if architecture not in _ARCHITECTURES:
        raise ValueError(f"architecture {architecture!r} is none of {', '.join(_ARCHITECTURES)}")
    return _ARCHITECTURES[architecture](
        config, schema, seed=seed, tokenizer=tokenizer, placements=placements, encoded=encoded
    )
