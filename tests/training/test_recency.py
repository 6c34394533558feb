"""Weights by age: their formula, and that they reach the loss of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dpsr.config import Config, parse_config
from dpsr.data.dataset.schema import AGE, DatasetError, ages_file
from dpsr.data.dataset.tables import Dataset
from dpsr.training.recency import recency_weights
from dpsr.training.trainer import train


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, make_dataset: Callable[..., Dataset]) -> Dataset:
    """With ages, in steps of a minute."""
    dataset = make_dataset(tmp_path_factory.mktemp("dataset"))
    ages = np.random.default_rng(1).integers(100, 60_000, dataset.num_interactions("train"))
    ages.astype(AGE).tofile(dataset.directory / ages_file("train"))
    dataset.manifest["time"] = {"unit": "timestamp"}
    dataset.manifest["ages"] = {"last": "2025-03-01T00:00:00+00:00", "step": 60_000_000}
    return dataset


def losses(config: Config, dataset: Dataset, half_life: float | None) -> list[float]:
    training = config.training.model_copy(update={"half_life": half_life})
    work_dir = f"{config.work_dir}/{half_life}"
    config = config.model_copy(update={"training": training, "work_dir": work_dir})
    return [epoch["train_loss"] for epoch in train(config, dataset, progress=False)["epochs"]]


def test_weights_halve_with_every_half_life(dataset: Dataset) -> None:
    ages = dataset.ages("train").astype(np.float64) * dataset.manifest["ages"]["step"]
    half_life = np.ptp(ages) / 3
    weights = recency_weights(dataset, half_life / 86_400e6)
    assert weights.dtype == np.float32
    assert weights.mean() == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_allclose(weights / weights[0], 2 ** (-(ages - ages[0]) / half_life), rtol=1e-5)
    assert weights.max() / weights.min() == pytest.approx(8.0, rel=1e-4)
    for extreme in (1e-30, math.inf):
        found = recency_weights(dataset, extreme)
        assert found.mean() == pytest.approx(1.0, rel=1e-4)
        assert np.isfinite(found).all()


def test_integers_are_of_their_own_unit(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    in_days = recency_weights(dataset, 3.0)
    monkeypatch.setitem(dataset.manifest, "time", {"unit": "integer"})
    np.testing.assert_array_equal(recency_weights(dataset, 3.0 * 86_400e6), in_days)


def test_a_run_learns_from_weighted_clicks(
    dataset: Dataset, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    """With an endless half-life it is the run without one."""
    config = make_config(tmp_path)
    without = losses(config, dataset, None)
    assert losses(config, dataset, math.inf) == pytest.approx(without, rel=1e-5)
    assert losses(config, dataset, 10.0) != pytest.approx(without, rel=1e-3)


def test_a_dataset_without_times_is_refused(
    dataset: Dataset, make_config: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(dataset.manifest, "ages")
    with pytest.raises(DatasetError, match="keeps no times of its clicks"):
        losses(make_config(tmp_path), dataset, 1.0)


def test_a_half_life_is_above_zero() -> None:
    with pytest.raises(ValueError, match="half_life"):
        parse_config({"name": "t", "data": {"items": {"path": "i.parquet"}}, "training": {"half_life": 0}}, "test")
