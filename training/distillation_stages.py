"""The stages that learn from teachers, then from the scores of a file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dpsr.config import Config
from dpsr.data.batches.arrays import graph_array
from dpsr.data.batches.augmentation import ItemTexts
from dpsr.data.batches.batch import BatchMaker
from dpsr.data.batches.query_pool import QueryPool, sampled_queries
from dpsr.data.batches.steps import BatchSource, CatalogueBatches, LogBatches
from dpsr.data.batches.taught import ScoredMaker, TaughtMaker, TeacherVectors
from dpsr.data.batches.text_reader import TextReader
from dpsr.data.dataset.schema import split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.model.encoded_items import principal_axes
from dpsr.model.feature_tables import sequence_lengths
from dpsr.model.trained import teacher_arrays
from dpsr.model.two_tower import TwoTower
from dpsr.model.vector_files import texts_digest
from dpsr.training.distillation import DistillationStep
from dpsr.training.run_optimizers import RunOptimizers
from dpsr.training.score_files import read_scores
from dpsr.training.stages import DISTILLATION, SCORES, Stage
from dpsr.training.step import MatchingStep
from dpsr.training.teachers import Teachers
from dpsr.training.validation import Validation


def distillation_stages(
    config: Config,
    dataset: Dataset,
    maker: BatchMaker,
    teachers: Teachers | None,
    model: TwoTower,
    optimizers: RunOptimizers,
) -> list[Stage]:
    """The stages ``distillation`` and ``scores``, those that have a source.

    Args:
        config: the run.
        dataset: what it learns from.
        maker: of the batches of the log.
        teachers: of the run.
        model: the student.
        optimizers: of the run.

    Raises:
        TeacherError: as ``Teachers.query_vectors``.
        DatasetError: the file of scores cannot be used, or there is nothing to train on.
    """
    epochs, training = config.distillation.epochs, config.training
    if not epochs:
        return []
    sources: dict[str, BatchSource] = {}
    if teachers is not None:
        sources[DISTILLATION] = _taught(config, dataset, maker, teachers)
    if config.distillation.scores is not None:
        sources[SCORES] = _scored(config, dataset, maker)
    stages = []
    for name, source in sources.items():
        optimizer = optimizers.of_stage(source, epochs)
        step = DistillationStep(
            model,
            optimizer,
            temperature=config.loss.temperature,
            token_dropout=training.token_dropout,
            seed=training.seed,
        )
        validate = Validation(config, dataset, maker.tables, model, MatchingStep(model, config.loss, optimizer))
        stages.append(Stage(name, source, step, validate, epochs, figure=training.stop_by))
    return stages


def _taught(config: Config, dataset: Dataset, maker: BatchMaker, teachers: Teachers) -> BatchSource:
    """Logged queries and those of a pool, half and half where there are both."""
    pool, synthetic = None, None
    if config.distillation.synthetic_queries:
        pool = _pool(config, dataset)
        synthetic = graph_array(teachers.query_vectors(pool.texts))
    has_log = config.data.interactions is not None
    queries = graph_array(teachers.query_vectors(dataset.query_texts())) if has_log else None
    vectors = TeacherVectors(graph_array(teachers.item_vectors), queries, synthetic)
    by_vectors = config.distillation.objective == "vectors"
    axes = principal_axes(teachers.item_vectors, config.model.dimension) if by_vectors else None
    mixed = config.training.batch_size // 2 if has_log and pool is not None else 0
    taught = TaughtMaker(replace(maker, item_texts=pool, mixed_rows=mixed, judged=None), vectors, pool, axes)
    if has_log:
        return LogBatches(taught, dataset.directory / split_file("train"))
    return CatalogueBatches(taught, np.arange(dataset.schema.num_items, dtype=np.int32))


def _pool(config: Config, dataset: Dataset) -> QueryPool:
    pretraining, count, seed = config.pretraining, config.distillation.synthetic_queries, config.training.seed
    columns, lengths = pretraining.text or list(dataset.schema.text), sequence_lengths(config.model)
    length = None if lengths is None else lengths.query
    item_texts = ItemTexts(dataset, columns=columns, words=pretraining.words, typo_share=0.0, query_length=length)
    digest = texts_digest(dataset.item_table(), columns)
    name = f"pool-{digest}-{pretraining.words[0]}-{pretraining.words[1]}-{count}-{seed}.arrow"
    path = teacher_arrays(config.checkpoint_dir) / name
    texts = sampled_queries(path, item_texts, dataset.schema.num_items, count, seed)
    return QueryPool(texts, count, TextReader(dataset, length))


def _scored(config: Config, dataset: Dataset, maker: BatchMaker) -> BatchSource:
    assert config.distillation.scores is not None
    pairs, lengths = read_scores(config.distillation.scores, dataset), sequence_lengths(config.model)
    reader = TextReader(dataset, None if lengths is None else lengths.query)
    scored = ScoredMaker(
        maker.tables,
        QueryPool(pairs.queries, 1, reader),
        graph_array(pairs.item_rows),
        graph_array(pairs.scores),
        config.training.batch_size,
    )
    return CatalogueBatches(scored, np.arange(len(pairs.scores), dtype=np.int32))
