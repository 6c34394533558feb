"""The model and the stages of a run, as its configuration asks: catalogue pre-training, then the log."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.config import Config, TrainingConfig
from dpsr.data.batches.augmentation import ItemTexts, QueryTexts
from dpsr.data.batches.batch import BatchMaker
from dpsr.data.batches.steps import BatchSource, CatalogueBatches, LogBatches
from dpsr.data.dataset.schema import split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.model.factory import build_model
from dpsr.model.feature_tables import feature_tables
from dpsr.model.shards import Placement
from dpsr.model.two_tower import TwoTower
from dpsr.tokenizer_cc import Tokenizer
from dpsr.training.head_assignment import HeadAssignment
from dpsr.training.negatives import HardNegatives, KnownPositives, count_random_negatives
from dpsr.training.optimizers import Adagrad
from dpsr.training.stages import Stage
from dpsr.training.step import MatchingStep
from dpsr.training.teachers import Teachers, encoded_items
from dpsr.training.validation import Validation

PRETRAINING, TRAINING = "pretraining", "training"


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
    vectors = None if teachers is None or config.distillation.items == "own" else teachers.item_vectors()
    encoded = encoded_items(config, vectors)
    maker = batch_maker(config, dataset, encoded=vectors)
    sources = batch_sources(config, dataset, maker)
    loss, training, schema = config.loss, config.training, dataset.schema
    known_positives = hard_negatives = head_assignment = clicks = None
    if loss.mask_clicked:
        known_positives = KnownPositives.of_dataset(dataset, config.arrays_dir)
    if loss.hard_negatives:
        hard_negatives = HardNegatives.of_dataset(dataset, loss.hard_negatives, maker.tables, config.arrays_dir)
    if loss.head_column:
        head_assignment = HeadAssignment.of_column(dataset, loss.head_column, config.model.heads)
    elif loss.head_clusters:
        head_assignment = HeadAssignment.of_clusters(
            dataset, loss.head_clusters, config.model.heads, seed=training.seed
        )
    if loss.popularity_correction:
        # Random items are the positives of the mixed rows.
        steps_of_log = -(-dataset.num_interactions("train") // maker.batch_records)
        clicks = dataset.clicks_per_item("train") + steps_of_log * maker.mixed_rows / schema.num_items
    tokenizer = Tokenizer.load(dataset.tokenizer_path) if config.model.reads_tokenizer else None
    with tf.device(dense_device):
        model = build_model(
            config.model, schema, seed=training.seed, tokenizer=tokenizer, placements=placements, encoded=encoded
        )
        model.item_encoders = None if teachers is None or encoded is None else teachers.encoders
        optimizer = adagrad(model, training)
    step = partial(
        MatchingStep,
        model,
        loss,
        optimizer,
        token_dropout=training.token_dropout,
        seed=training.seed,
        head_assignment=head_assignment,
    )
    # The log is silent on synthetic queries: all items are equally popular, and none is a known positive.
    of_catalogue = step()
    of_log = step(clicks=clicks, known_positives=known_positives, hard_negatives=hard_negatives)
    validate = Validation(config, dataset, maker.tables, model, of_log)
    stages = []
    if PRETRAINING in sources:
        stages.append(Stage(PRETRAINING, sources[PRETRAINING], of_catalogue, validate, config.pretraining.epochs))
    if TRAINING in sources:
        stages.append(Stage(TRAINING, sources[TRAINING], of_log, validate, training.epochs, patience=training.patience))
    return Recipe(model, stages)


def adagrad(model: TwoTower, config: TrainingConfig) -> Adagrad:
    """The optimiser of a run, with its learning rates; both stages share its accumulators."""
    return Adagrad(
        model,
        learning_rate=config.learning_rate,
        table_learning_rate=config.table_learning_rate,
        initial_accumulator=config.initial_accumulator,
    )


def batch_sources(config: Config, dataset: Dataset, maker: BatchMaker) -> dict[str, BatchSource]:
    """The batches of every stage of at least one epoch, by its name.

    Raises:
        DatasetError: a stage has nothing to train on.
    """
    sources: dict[str, BatchSource] = {}
    if config.pretraining.epochs:
        sources[PRETRAINING] = CatalogueBatches(maker)
    if config.training.epochs:
        sources[TRAINING] = LogBatches(maker, dataset.directory / split_file("train"))
    return sources


def batch_maker(config: Config, dataset: Dataset, *, encoded: np.ndarray | None = None) -> BatchMaker:
    """Makes ready what the batches of a run are made of.

    Args:
        config: the run.
        dataset: what it learns from.
        encoded: float32 [items, w], the items' vectors by the teachers, where the model reads them.
    """
    pretraining, typo_share = config.pretraining, config.training.typo_share
    query_texts = item_texts = None
    if typo_share and config.training.epochs:
        query_texts = QueryTexts(dataset, typo_share)
    if pretraining.epochs or config.mixed_rows:
        item_texts = ItemTexts(dataset, columns=pretraining.text, words=pretraining.words, typo_share=typo_share)
    return BatchMaker(
        feature_tables(config.model, dataset, encoded=encoded),
        batch_size=config.training.batch_size,
        random_negatives=count_random_negatives(config.loss.mixing_ratio, config.loss.group_size),
        num_items=dataset.schema.num_items,
        query_texts=query_texts,
        item_texts=item_texts,
        mixed_rows=config.mixed_rows,
    )
