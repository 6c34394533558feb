"""The stages in which a transformer learns the language of a shop, before its towers match (Muhamed et al., 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from dpsr.config import Config, ConfigError
from dpsr.data.batches.language_batches import InteractionBatches, InteractionPairBatches, MaskedItemBatches
from dpsr.data.batches.steps import BatchSource
from dpsr.data.dataset.tables import Dataset
from dpsr.model.feature_tables import sequence_lengths
from dpsr.model.text_encoders.checkpoint_config import resolved
from dpsr.model.text_encoders.transformer import TransformerEncoder
from dpsr.model.two_tower import TwoTower
from dpsr.ops_cc.text_encoder import EncoderWeights
from dpsr.training.language_heads import MaskedHead, PairHead
from dpsr.training.language_step import LanguageStep, LanguageValidation, LanguageWeights
from dpsr.training.run_optimizers import RunOptimizers
from dpsr.training.stages import INTERACTION, MLM, Stage


def language_sources(config: Config, dataset: Dataset) -> dict[str, BatchSource]:
    """The batches of the language-model stages of at least one epoch, by the stage's name.

    Raises:
        ConfigError: a query and a product together are longer than the encoder's positions.
        DatasetError: the dataset has no subwords, or a stage has nothing to train on.
    """
    sources: dict[str, BatchSource] = {}
    lengths, mlm, interaction = sequence_lengths(config.model), config.mlm, config.interaction
    if lengths is None:
        return sources
    if mlm.epochs:
        sources[MLM] = MaskedItemBatches(
            dataset, lengths, batch_size=mlm.batch_size, mask_share=mlm.mask_share, whole_words=mlm.whole_words
        )
    if interaction.epochs:
        positions = resolved(config.model).transformer.positions
        if lengths.pair > positions:
            raise ConfigError(
                f"a query and a product together have up to {lengths.pair} subwords, and model.transformer.positions = "
                f"{positions}; lower model.transformer.max_query_length = {lengths.query} or max_item_length = "
                f"{lengths.item}"
            )
        if interaction.kind == "span":
            sources[INTERACTION] = InteractionBatches(
                dataset, lengths, batch_size=interaction.batch_size, mask_share=interaction.mask_share
            )
        else:
            sources[INTERACTION] = InteractionPairBatches(
                dataset,
                lengths,
                batch_size=interaction.batch_size,
                negatives=interaction.negatives,
                folder=config.arrays_dir,
            )
    return sources


def language_stages(
    config: Config,
    sources: Mapping[str, BatchSource],
    model: TwoTower,
    optimizers: RunOptimizers,
    device: str | None,
) -> list[Stage]:
    """The stages ``mlm`` and ``interaction``, those of at least one epoch.

    They train the encoder of the items; with encoders apart, that of the queries is made equal to it after each epoch.

    Args:
        config: the run.
        sources: the batches of every stage of at least one epoch, by its name.
        model: its text encoder is trained.
        optimizers: of the run.
        device: of the heads; this machine's if None.
    """
    encoders = _transformers(model)
    stages = []
    for name, section in ((MLM, config.mlm), (INTERACTION, config.interaction)):
        if name not in sources:
            continue
        encoder, *others = encoders
        classifies = name == INTERACTION and config.interaction.kind == "classification"
        with tf.device(device):
            head = (PairHead if classifies else MaskedHead)(encoder, config.training.seed)
        weights = LanguageWeights(_weights_of(model, encoder), head.weights)
        optimizer = optimizers.of_stage(
            sources[name],
            section.epochs,
            weights=weights,
            learning_rate=section.learning_rate,
            accumulate=section.accumulate,
        )
        step = LanguageStep(encoder, head, optimizer, config.model, seed=config.training.seed)
        stages.append(
            Stage(
                name,
                sources[name],
                step,
                LanguageValidation(step, sources[name]),
                section.epochs,
                patience=section.patience,
                figure="valid_accuracy",
                weights=head,
                after_epoch=_copies(model, encoder, others),
            )
        )
    return stages


def _transformers(model: TwoTower) -> list[TransformerEncoder]:
    """The transformers of both towers, that of the items first; one where they share it."""
    texts = {text.name: text for text in (*model.item_inputs.texts, *model.query_inputs.texts)}
    return [text for text in texts.values() if isinstance(text, TransformerEncoder)]


def _weights_of(model: TwoTower, encoder: TransformerEncoder) -> EncoderWeights:
    weights: Any = model.text_weights[encoder.name]
    return weights.encoder


def _copies(
    model: TwoTower, source: TransformerEncoder, targets: Sequence[TransformerEncoder]
) -> Callable[[], None] | None:
    """Gives other encoders the weights of the trained one; None where there are none."""
    if not targets:
        return None

    def copy() -> None:
        values = tf.nest.flatten(_weights_of(model, source))
        for target in targets:
            for variable, value in zip(tf.nest.flatten(_weights_of(model, target)), values, strict=True):
                variable.assign(value)

    return copy
