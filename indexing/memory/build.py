"""The memory of a servable: clicks read from the log, and how they are joined to what a searcher finds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from dpsr.config import Config, MemoryConfig
from dpsr.data.dataset.tables import Dataset
from dpsr.data.raw.timestamps import Clock
from dpsr.indexing.catalogue import Catalogue
from dpsr.indexing.errors import ExportError
from dpsr.indexing.memory.clicks import ClickLog, Clicks, count_clicks
from dpsr.indexing.memory.searcher import MemoryPlan
from dpsr.indexing.memory.tuning import SHARES_OF_SPAN, UNTUNED, Scored, TunedMemory, recall, tune_memory
from dpsr.indexing.searcher import Queries, ScoringSearcher
from dpsr.model.feature_tables import feature_tables
from dpsr.model.interface import Model

_BATCH = 64


def build_memory(config: Config, dataset: Dataset, catalogue: Catalogue, plan: MemoryPlan, path: str | None) -> Clicks:
    """Counts the clicks of a log.

    Args:
        config: ``data.interactions`` maps the columns.
        dataset: says the unit of the plan's half-life.
        catalogue: clicks on other items are passed over, and their number is said.
        plan: holds the half-life.
        path: file or glob; None for the run's own log.

    Raises:
        DatasetError: the log cannot be read.
        ExportError: it has no click on an item of the catalogue, or its times have another unit than the dataset's.
    """
    log = ClickLog.open(config, catalogue, path)
    unit = dataset.manifest["time"]["unit"]
    if log.unit != unit and math.isfinite(plan.half_life):
        raise ExportError(
            f"{log.source.files[0]}: its times are read as {log.unit}, those of the dataset as {unit}, and a half-life "
            f"of {plan.half_life:g} holds for the latter; give the log times of the same kind, or set "
            "index.memory.half_life = inf"
        )
    (clicks,) = count_clicks(log.blocks(), [log.ticks(plan.half_life)])
    if log.unknown_items:
        tqdm.write(f"memory: {log.unknown_items:,} rows are of items that the catalogue does not have, and left out")
    if not len(clicks.keys):
        raise ExportError(
            f"{', '.join(log.source.files)}: no click on an item of the catalogue; leave index.memory out, or name "
            "another log with --log"
        )
    return clicks


def choose_memory_plan(
    config: Config,
    dataset: Dataset,
    model: Model,
    catalogue: Catalogue,
    prior: ScoringSearcher,
    records: np.ndarray,
    clicked: np.ndarray,
) -> TunedMemory:
    """The configured plan, or what clicks choose that the model was not trained on.

    Args:
        config: the run; the memory that is tried holds its log up to the valid split.
        dataset: holds the records.
        model: its query tower, as it will be served.
        catalogue: the items.
        prior: finds and scores them.
        records: INTERACTION [n], clicks of the valid split by users of whom nothing is known.
        clicked: int32 [n], their items as rows of the catalogue.
    """
    wanted = config.index.memory or MemoryConfig()
    given = {name: value for name, value in wanted.model_dump().items() if value is not None}
    plan = replace(UNTUNED, **given)
    if len(given) == len(fields(plan)) or not len(records):
        return TunedMemory(plan, 0, {})
    clicks = _clicks_before_valid(config, dataset, catalogue, wanted.half_life)
    texts = dataset.query_texts().take(records["query"]).to_pylist()
    recalled = recall(clicks, texts)
    scored = _scored(dataset, model, prior, records, texts, recalled.rows)
    return tune_memory(scored, recalled, clicked, weight=wanted.weight, temperature=wanted.temperature)


def _clicks_before_valid(
    config: Config, dataset: Dataset, catalogue: Catalogue, half_life: float | None
) -> dict[float, Clicks]:
    """The log's clicks before the valid split, by half-life in the unit of the configuration."""
    log = ClickLog.open(config, catalogue, None)
    times = dataset.manifest["time"]
    first, last = (Clock.time(text) for text in times["train"])
    half_lives = [half_life]
    if half_life is None:
        half_lives = [max(last - first, 1) * share / log.ticks(1.0) for share in SHARES_OF_SPAN]
    counted = count_clicks(log.blocks(until=Clock.time(times["valid"][0])), [log.ticks(each) for each in half_lives])
    return dict(zip(half_lives, counted, strict=True))


def _scored(
    dataset: Dataset, model: Model, prior: ScoringSearcher, records: np.ndarray, texts: Sequence[str], rows: np.ndarray
) -> Scored:
    tables = feature_tables(model.config, dataset)
    numbers = np.ascontiguousarray(records).view(np.int32).reshape(len(records), 5)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string), *[tf.TensorSpec([None, None], tf.int32)] * 2],
        autograph=False,
    )
    def search(batch: tf.Tensor, of_batch: tf.Tensor, scored: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        queries = Queries(batch, tables.queries(tf.ensure_shape(of_batch, [None, 5])))
        found, scores = prior.search_and_score(queries, scored)
        return found.rows, found.scores, scores

    parts = [
        search(
            tf.constant(texts[start : start + _BATCH]),
            tf.constant(numbers[start : start + _BATCH]),
            tf.constant(rows[start : start + _BATCH]),
        )
        for start in range(0, len(records), _BATCH)
    ]
    return Scored(*(np.concatenate([part.numpy() for part in of_parts]) for of_parts in zip(*parts, strict=True)))
