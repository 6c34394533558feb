"""The stages in which queries learn to find their items: catalogue pre-training, then the log."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from dpsr.config import Config
from dpsr.data.batches.batch import BatchMaker
from dpsr.data.batches.steps import BatchSource
from dpsr.data.dataset.tables import Dataset
from dpsr.model.two_tower import TwoTower
from dpsr.training.head_assignment import HeadAssignment
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
    loss, training, schema = config.loss, config.training, dataset.schema
    epochs = {PRETRAINING: config.pretraining.epochs, TRAINING: training.epochs}
    own = {name: optimizers.of_stage(sources[name], epochs[name]) for name in epochs if name in sources}
    if not own:
        return []
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
    step = partial(
        MatchingStep,
        model,
        loss,
        token_dropout=training.token_dropout,
        seed=training.seed,
        head_assignment=head_assignment,
    )
    *_, optimizer = own.values()
    # The loss of the validation split is that of the log, whether or not the log is trained on.
    of_log = step(optimizer, clicks=clicks, known_positives=known_positives, hard_negatives=hard_negatives)
    stage = partial(Stage, validate=Validation(config, dataset, maker.tables, model, of_log), figure=training.stop_by)
    stages = []
    if PRETRAINING in own:
        # The log is silent on synthetic queries: all items are equally popular, and none is a known positive.
        of_catalogue = step(own[PRETRAINING])
        stages.append(stage(PRETRAINING, sources[PRETRAINING], of_catalogue, epochs=epochs[PRETRAINING]))
    if TRAINING in own:
        of_training = partial(stage, epochs=epochs[TRAINING], patience=training.patience)
        stages.append(of_training(TRAINING, sources[TRAINING], of_log))
    return stages
