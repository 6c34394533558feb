"""The memory of a servable: clicks read from the log, and how they are joined to what a searcher finds."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from dpsr.config import Config, MemoryConfig
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.log import FOREVER
from dpsr.data.raw.timestamps import Clock
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.errors import ExportError
from dpsr.indexing.lexical.searcher import LexicalSearcher
from dpsr.indexing.memory.clicks import ClickLog, Clicks, count_clicks
from dpsr.indexing.memory.searcher import MemoryPlan
from dpsr.indexing.memory.tuning import BM25_SCALE, SHARES_OF_SPAN, UNTUNED, Scored, TunedMemory, recall, tune_memory
from dpsr.indexing.searcher import Queries, ScoringSearcher
from dpsr.indexing.valid_clicks import ValidClicks, valid_clicks
from dpsr.model.feature_tables import feature_tables
from dpsr.model.interface import Model

_BATCH = 64


def build_memory(config: Config, dataset: Dataset, catalogue: ItemRows, plan: MemoryPlan, path: str | None) -> Clicks:
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
    log = ClickLog.open(config, catalogue.item_ids, path)
    unit = dataset.manifest["time"]["unit"]
    if log.unit != unit and math.isfinite(plan.half_life):
        raise ExportError(
            f"{log.source.files[0]}: its times are read as {log.unit}, those of the dataset as {unit}, and a half-life "
            f"of {plan.half_life:g} holds for the latter; give the log times of the same kind, or set "
            "index.memory.half_life = inf"
        )
    (clicks,) = count_clicks(log.clicks(), [log.ticks(plan.half_life)], log.last_time())
    if log.unknown_items:
        tqdm.write(f"memory: {log.unknown_items:,} rows are of items that the catalogue does not have, and left out")
    if not len(clicks.keys):
        raise ExportError(
            f"{', '.join(log.source.files)}: no click on an item of the catalogue; leave index.memory out, or name "
            "another log with --log"
        )
    return clicks


def choose_memory_plan(
    config: Config, dataset: Dataset, model: Model | None, catalogue: ItemRows, prior: ScoringSearcher
) -> TunedMemory:
    """The configured plan, or what the later half of the valid split chooses.

    What is tried for these clicks is a memory of the log up to the middle of the split: it knows a time that the model
    was not trained on, as it will in service.

    Args:
        config: the run, and its log.
        dataset: what the model was trained on.
        model: its query tower, as it will be served; None where ``prior`` reads texts alone.
        catalogue: the items.
        prior: finds and scores them.

    Raises:
        DatasetError: the log cannot be read.
        ExportError: the log is not the one that the dataset was prepared from.
    """
    wanted = config.index.memory or MemoryConfig()
    given = {name: value for name, value in wanted.model_dump().items() if value is not None}
    scale = BM25_SCALE if isinstance(prior, LexicalSearcher) else 1.0
    plan = replace(UNTUNED, **({"temperature": scale * UNTUNED.temperature} | given))
    if len(given) == len(fields(plan)) or not dataset.has_log or not dataset.num_interactions("valid"):
        return TunedMemory(plan, 0, {})
    middle, first = _middle_of_valid(ClickLog.open(config, dataset.item_ids, None), dataset)
    clicked = valid_clicks(dataset, catalogue, seed=config.training.seed, first=first)
    if not clicked.texts:
        return TunedMemory(plan, 0, {})
    log = ClickLog.open(config, catalogue.item_ids, None)
    half_lives = [wanted.half_life] if wanted.half_life is not None else _half_lives(log, dataset)
    counted = count_clicks(log.clicks(until=middle), [log.ticks(each) for each in half_lives], middle)
    recalled = recall(dict(zip(half_lives, counted, strict=True)), clicked.texts)
    scored = _scored(dataset, model, prior, clicked, recalled.rows)
    return tune_memory(
        scored, recalled, clicked.rows, weight=wanted.weight, temperature=wanted.temperature, scale=scale
    )


def _middle_of_valid(log: ClickLog, dataset: Dataset) -> tuple[int, int]:
    """The time of the middle of the valid split, and the place of its first record of that time."""
    spans = dataset.manifest["time"]
    end = FOREVER if spans["test"] is None else Clock.time(spans["test"][0])
    times = log.times_between(Clock.time(spans["valid"][0]), end)
    count = dataset.num_interactions("valid")
    if len(times) != count:
        raise ExportError(
            f"{log.source.files[0]}: has {len(times):,} events of the time of the valid split, where the dataset has "
            f"{count:,}; run `dpsr prepare` again, or set half_life, weight and temperature of index.memory"
        )
    middle = int(times[len(times) // 2])
    return middle, int(np.searchsorted(times, middle))


def _half_lives(log: ClickLog, dataset: Dataset) -> list[float]:
    """Those that are tried, in the unit of the configuration."""
    first, last = (Clock.time(text) for text in dataset.manifest["time"]["train"])
    return [max(last - first, 1) * share / log.ticks(1.0) for share in SHARES_OF_SPAN]


def _scored(
    dataset: Dataset, model: Model | None, prior: ScoringSearcher, clicks: ValidClicks, rows: np.ndarray
) -> Scored:
    tables = None if model is None else feature_tables(model.config, dataset)
    numbers = np.ascontiguousarray(clicks.records).view(np.int32).reshape(len(rows), 5)

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string), *[tf.TensorSpec([None, None], tf.int32)] * 2],
        autograph=False,
    )
    def search(batch: tf.Tensor, of_batch: tf.Tensor, scored: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        features = None if tables is None else tables.queries(tf.ensure_shape(of_batch, [None, 5]))
        queries = Queries(batch, features)
        found, scores = prior.search_and_score(queries, scored)
        return found.rows, found.scores, scores

    parts = [
        search(
            tf.constant(clicks.texts[start : start + _BATCH]),
            tf.constant(numbers[start : start + _BATCH]),
            tf.constant(rows[start : start + _BATCH]),
        )
        for start in range(0, len(rows), _BATCH)
    ]
    return Scored(*(np.concatenate([part.numpy() for part in of_parts]) for of_parts in zip(*parts, strict=True)))
