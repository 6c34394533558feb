"""The model and the stages of a run, as its configuration asks: language, catalogue pre-training, then the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.config import Config
from dpsr.data.batches.augmentation import ItemTexts, QueryTexts
from dpsr.data.batches.batch import BatchMaker
from dpsr.data.batches.judged import JudgedExamples
from dpsr.data.batches.steps import BatchSource, CatalogueBatches, LogBatches, WeightedLogBatches
from dpsr.data.dataset.schema import split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.model.factory import build_model
from dpsr.model.feature_tables import feature_tables, sequence_lengths
from dpsr.model.shards import Placement
from dpsr.model.two_tower import TwoTower
from dpsr.tokenizer_cc import Tokenizer
from dpsr.training.distillation_stages import distillation_stages
from dpsr.training.language_stages import language_sources, language_stages
from dpsr.training.matching_stages import matching_stages
from dpsr.training.negatives import count_random_negatives
from dpsr.training.recency import recency_weights
from dpsr.training.run_optimizers import RunOptimizers
from dpsr.training.stages import PRETRAINING, TRAINING, Stage
from dpsr.training.taught_words import start_words
from dpsr.training.teachers import Teachers, encoded_items, first_encoded_items


class Recipe(NamedTuple):
    """What a run trains, and how."""

    model: TwoTower
    stages: list[Stage]
    """Those of at least one epoch, in their order."""


def make_recipe(
    config: Config,
    dataset: Dataset,
    *,
    placements: Mapping[str, Placement] | None = None,
    dense_device: str | None = None,
    progress: bool = False,
) -> Recipe:
    """Builds the model, its optimiser and its stages.

    Args:
        config: the run.
        dataset: what it learns from.
        placements: the shards of every table; on this machine if None.
        dense_device: of the dense weights; this machine's if None.
        progress: show a progress bar while a teacher embeds texts.

    Raises:
        DatasetError: the dataset has no record to train on, or not the column that ``loss.head_column`` names.
        TeacherError: as ``Teachers.of_run``.
    """
    teachers = Teachers.of_run(config, dataset, progress=progress)
    vectors = None if teachers is None or config.distillation.items == "own" else teachers.item_vectors
    encoded = encoded_items(config)
    fresh = tf.train.latest_checkpoint(config.checkpoint_dir) is None
    if vectors is not None and fresh:
        encoded = first_encoded_items(config, dataset, vectors)
    maker = batch_maker(config, dataset, encoded=vectors)
    sources = batch_sources(config, dataset, maker)
    tokenizer = Tokenizer.load(dataset.tokenizer_path) if config.model.reads_tokenizer else None
    with tf.device(dense_device):
        model = build_model(
            config.model,
            dataset.schema,
            seed=config.training.seed,
            tokenizer=tokenizer,
            placements=placements,
            encoded=encoded,
        )
        if teachers is not None and fresh:
            start_words(model, dataset, teachers)
        model.item_encoders = None if teachers is None or encoded is None else teachers.encoders
    optimizers = RunOptimizers(model, config.training, dense_device)
    stages = language_stages(config, sources, model, optimizers, dense_device)
    stages += matching_stages(config, dataset, maker, sources, model, optimizers)
    stages += distillation_stages(config, dataset, maker, teachers, model, optimizers)
    return Recipe(model, stages)


def batch_sources(config: Config, dataset: Dataset, maker: BatchMaker) -> dict[str, BatchSource]:
    """The batches of every stage of at least one epoch, by its name.

    Raises:
        DatasetError: a stage has nothing to train on, or ``training.half_life`` is set and the log has no times.
    """
    sources = language_sources(config, dataset)
    if config.pretraining.epochs:
        sources[PRETRAINING] = CatalogueBatches(maker, np.arange(dataset.schema.num_items, dtype=np.int32))
    if config.training.epochs:
        records, half_life = dataset.directory / split_file("train"), config.training.half_life
        sources[TRAINING] = (
            LogBatches(maker, records)
            if half_life is None
            else WeightedLogBatches(maker, records, recency_weights(dataset, half_life))
        )
    return sources


def batch_maker(config: Config, dataset: Dataset, *, encoded: np.ndarray | None = None) -> BatchMaker:
    """Makes ready what the batches of a run are made of.

    Args:
        config: the run.
        dataset: what it learns from.
        encoded: float32 [items, w], the items' vectors by the teachers, where the model reads them.
    """
    pretraining, typo_share = config.pretraining, config.training.typo_share
    lengths = sequence_lengths(config.model)
    query_length = None if lengths is None else lengths.query
    query_texts = item_texts = None
    if typo_share and config.training.epochs:
        query_texts = QueryTexts(dataset, typo_share, query_length=query_length)
    if pretraining.epochs or config.mixed_rows:
        item_texts = ItemTexts(
            dataset,
            columns=pretraining.text,
            words=pretraining.words,
            typo_share=typo_share,
            query_length=query_length,
        )
    judged = None
    if config.training.epochs:
        judged = JudgedExamples.of_labels(
            dataset.labels(),
            share=config.training.judged_share,
            batch_size=config.training.batch_size,
            num_items=dataset.schema.num_items,
        )
    return BatchMaker(
        feature_tables(config.model, dataset, encoded=encoded),
        batch_size=config.training.batch_size,
        random_negatives=count_random_negatives(config.loss.mixing_ratio, config.loss.group_size),
        num_items=dataset.schema.num_items,
        query_texts=query_texts,
        item_texts=item_texts,
        mixed_rows=config.mixed_rows,
        judged=judged,
    )
