"""A published checkpoint as a frozen encoder of texts, untouched by any training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dpsr.config import ModelConfig, TransformerConfig
from dpsr.data.batches.sequences import SequenceLengths
from dpsr.data.dataset.schema import Schema, SubwordsSchema
from dpsr.model.factory import build_model
from dpsr.model.frozen_encoder import FrozenEncoder
from dpsr.model.text_encoders.checkpoint_config import read_published
from dpsr.tokenizer_cc.subwords import SubwordTokenizer


def published_encoder(folder: Path, text: Sequence[str], lengths: SequenceLengths) -> FrozenEncoder:
    """Reads a folder in Hugging Face's format.

    Args:
        folder: as ``model.transformer.initial``.
        text: columns of a catalogue that make the text of an item, in their order.
        lengths: the most subwords that are read of a text.

    Raises:
        PublishedCheckpointError, SubwordError: the checkpoint cannot be used.
    """
    width, tokenizer = read_published(folder).sizes["width"], SubwordTokenizer.from_tokenizer_json(folder)
    transformer = TransformerConfig(initial=str(folder), max_query_length=lengths.query, max_item_length=lengths.item)
    # Fresh residual towers without hidden layers are the identity.
    config = ModelConfig(
        text_encoder="transformer",
        transformer=transformer,
        dimension=width,
        heads=1,
        hidden=[],
        residual=True,
        shared_tokens=True,
    )
    schema = Schema(
        text=tuple(text),
        categorical={},
        profile={},
        num_items=0,
        num_users=0,
        num_queries=0,
        token_rows=1,
        item_id_type="string",
        tokenizer_fingerprint="",
        subwords=SubwordsSchema.of(tokenizer),
    )
    return FrozenEncoder(build_model(config, schema), tokenizer=None, subwords=tokenizer, vocabularies={})
