"""The stages in which queries learn to find their items: catalogue pre-training, then the log."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import tensorflow as tf

from dpsr.config import Config
from dpsr.data.batches.batch import BatchMaker
from dpsr.data.batches.steps import BatchSource
from dpsr.data.dataset.tables import Dataset
from dpsr.model.two_tower import TwoTower
from dpsr.training.catalogue_scores import CatalogueScores
from dpsr.training.head_assignment import HeadAssignment
from dpsr.training.mined_negatives import MinedNegatives
from dpsr.training.negatives import HardNegatives, KnownPositives
from dpsr.training.run_optimizers import RunOptimizers
from dpsr.training.stages import PRETRAINING, TRAINING, Stage
from dpsr.training.step import MatchingStep
from dpsr.training.validation import Validation


def matching_stages(
    config: Config,
    dataset: Dataset,
    maker: BatchMaker,
    sources: Mapping[str, BatchSource],
    model: TwoTower,
    optimizers: RunOptimizers,
) -> list[Stage]:
    """The stages ``pretraining`` and ``training``, those of at least one epoch.

    Args:
        config: the run.
        dataset: what it learns from.
        maker: of the batches.
        sources: the batches of every stage of at least one epoch, by its name.
        model: what is trained.
        optimizers: of the run.

    Raises:
        DatasetError: the dataset lacks the column that ``loss.head_column`` names.
    """
    training = config.training
    epochs = {PRETRAINING: config.pretraining.epochs, TRAINING: training.epochs}
    own = {name: optimizers.of_stage(sources[name], epochs[name]) for name in epochs if name in sources}
    if not own:
        return []
    mined = None
    if config.loss.mined_negatives and TRAINING in own:
        with tf.device(optimizers.device):
            mined = MinedNegatives.of_run(
                config, dataset, CatalogueScores(model, maker.tables, dataset.schema.num_items)
            )
    step = partial(
        MatchingStep,
        model,
        config.loss,
        token_dropout=training.token_dropout,
        seed=training.seed,
        head_assignment=_head_assignment(config, dataset),
        num_items=dataset.schema.num_items,
    )
    *_, optimizer = own.values()
    # The loss of the validation split is that of the log, whether or not the log is trained on.
    of_log = step(
        optimizer,
        clicks=_clicks(config, dataset, maker),
        known_positives=_known_positives(config, dataset),
        hard_negatives=_hard_negatives(config, dataset, maker, mined),
    )
    validate = Validation(config, dataset, maker.tables, model, of_log)
    stage = partial(Stage, validate=validate, figure=training.stop_by)
    stages = []
    if PRETRAINING in own:
        # The log is silent on synthetic queries: all items are equally popular, and none is a known positive.
        of_catalogue = step(own[PRETRAINING])
        stages.append(stage(PRETRAINING, sources[PRETRAINING], of_catalogue, epochs=epochs[PRETRAINING]))
    if TRAINING in own:
        of_training = partial(stage, epochs=epochs[TRAINING], patience=training.patience)
        before_epoch = None if mined is None else mined.begin_epoch
        stages.append(of_training(TRAINING, sources[TRAINING], of_log, before_epoch=before_epoch))
    return stages


def _head_assignment(config: Config, dataset: Dataset) -> HeadAssignment | None:
    loss, heads = config.loss, config.model.heads
    if loss.head_column:
        return HeadAssignment.of_column(dataset, loss.head_column, heads)
    if loss.head_clusters:
        return HeadAssignment.of_clusters(dataset, loss.head_clusters, heads, seed=config.training.seed)
    return None


def _known_positives(config: Config, dataset: Dataset) -> KnownPositives | None:
    return KnownPositives.of_dataset(dataset, config.arrays_dir) if config.loss.mask_clicked else None


def _hard_negatives(
    config: Config, dataset: Dataset, maker: BatchMaker, mined: MinedNegatives | None
) -> HardNegatives | None:
    most = config.loss.hard_negatives
    if not most and mined is None:
        return None
    return HardNegatives.of_dataset(dataset, most, maker.tables, config.arrays_dir, mined)


def _clicks(config: Config, dataset: Dataset, maker: BatchMaker) -> np.ndarray | None:
    """How often an item is the positive of an example of the log, [items]; None where logits are not corrected."""
    if not config.loss.popularity_correction:
        return None
    # Random items are the positives of the mixed rows, judged ones those of their own.
    steps_of_log = -(-dataset.num_interactions("train") // maker.batch_records)
    mixed = steps_of_log * maker.mixed_rows / dataset.schema.num_items
    judged = 0.0 if maker.judged is None else maker.judged.expected_positives(steps_of_log)
    return dataset.clicks_per_item("train") + mixed + judged
