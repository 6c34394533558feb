"""A list of stages, each with batches, an optimiser and an early end of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from dpsr.config import Config
from dpsr.data.batches.steps import LogBatches
from dpsr.data.dataset.schema import split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.model.run_files import CheckpointError
from dpsr.training.loop import Training
from dpsr.training.optimizers import Adagrad
from dpsr.training.recipes import Recipe, batch_maker, make_recipe
from dpsr.training.stages import Stage, schedule
from dpsr.training.step import MatchingStep
from dpsr.training.trainer import start_run, train

from .test_trainer import all_variables, assert_same_variables, curve

EPOCHS = {"first": 1, "second": 8, "third": 2}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, make_dataset: Callable[..., Dataset]) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("dataset"))


def three_stages(config: Config, dataset: Dataset) -> Recipe:
    """The log; the records of the valid split until Top-1 settles; the log again with another optimiser."""
    model, (log,) = make_recipe(config, dataset)
    other = Adagrad(model, learning_rate=0.01, table_learning_rate=0.05, initial_accumulator=0.1)
    valid = LogBatches(batch_maker(config, dataset), dataset.directory / split_file("valid"))
    stages = [
        Stage("first", log.batches, log.step, log.validate, EPOCHS["first"]),
        Stage("second", valid, log.step, log.validate, EPOCHS["second"], patience=1),
        Stage("third", log.batches, MatchingStep(model, config.loss, other), log.validate, EPOCHS["third"]),
    ]
    return Recipe(model, stages)


def training_of(config: Config, dataset: Dataset) -> Training:
    start_run(config, dataset, resume=True)
    return Training(config, dataset, three_stages(config, dataset), progress=False)


@pytest.fixture(scope="module")
def finished(
    dataset: Dataset, make_config: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, dict]:
    config = make_config(tmp_path_factory.mktemp("finished"))
    return config, training_of(config, dataset).run()


def test_every_stage_takes_its_epochs_and_an_early_end_leads_to_the_next(finished: tuple[Config, dict]) -> None:
    _, metrics = finished
    names = [figures["stage"] for figures in metrics["epochs"]]
    assert names == sorted(names, key=list(EPOCHS).index)
    assert 2 <= names.count("second") < EPOCHS["second"]
    assert names.count("first") == 1
    assert names.count("third") == 2
    assert [figures["epoch"] for figures in metrics["epochs"] if figures["stage"] == "third"] == [10, 11]
    assert metrics["steps"] == 22 * 3 + 3 * names.count("second")
    assert metrics["examples"] == 32 * metrics["steps"]


def test_every_optimiser_is_in_the_checkpoint_and_has_its_own_steps(
    finished: tuple[Config, dict], dataset: Dataset
) -> None:
    config, metrics = finished
    training = training_of(config, dataset)
    first, second, third = (each.stage.step.optimizer for each in training._schedule)
    assert first is second
    assert int(first.iterations()) + int(third.iterations()) == metrics["steps"]
    assert int(third.iterations()) == 2 * 22
    names = tf.train.load_checkpoint(str(config.checkpoint_dir)).get_variable_to_shape_map()
    assert {name.split("/")[0] for name in names if "_iterations" in name} == {"optimizer", "optimizer_of_third"}


def test_the_first_loss_is_that_of_the_stage(
    dataset: Dataset, make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, seen = make_config(), {}
    run_epoch = Training._run_epoch

    def remembered(training: Training, scheduled: object, epoch: int) -> None:
        run_epoch(training, scheduled, epoch)
        seen.setdefault(scheduled.stage.name, []).append(float(training._position.first_loss))

    monkeypatch.setattr(Training, "_run_epoch", remembered)
    training_of(config, dataset).run()
    assert all(len(set(losses)) == 1 for losses in seen.values())
    first, second, third = (losses[0] for losses in seen.values())
    assert first > 1.5 * second > 0
    assert first > 1.5 * third > 0


class _InterruptError(Exception):
    pass


@pytest.mark.parametrize("saves", [2, 5, *(pytest.param(count, marks=pytest.mark.slow) for count in (4, 6, 7, 9))])
def test_a_run_goes_on_exactly_in_any_stage(
    dataset: Dataset,
    make_config: Callable[..., Config],
    finished: tuple[Config, dict],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    saves: int,
) -> None:
    config, save, done = make_config(tmp_path), Training._save, []

    def save_then_stop(training: Training, *position: int) -> None:
        if len(done) == saves:
            raise _InterruptError
        save(training, *position)
        done.append(position)

    monkeypatch.setattr(Training, "_save", save_then_stop)
    with pytest.raises(_InterruptError):
        training_of(config, dataset).run()
    monkeypatch.undo()
    assert curve(training_of(config, dataset).run()) == curve(finished[1])
    assert_same_variables(all_variables(config), all_variables(finished[0]))


@pytest.mark.parametrize("optimizer", ["lamb", pytest.param("lans", marks=pytest.mark.slow)])
def test_moments_schedule_and_waiting_gradients_are_in_the_checkpoint(
    dataset: Dataset,
    make_config: Callable[..., Config],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
) -> None:
    """A run that stops between two updates, and within the warm-up, goes on exactly."""
    keys = {"optimizer": optimizer, "accumulate": 3, "warmup_share": 0.5, "learning_rate": 0.02, "checkpoint_every": 4}
    sizes = {"model": {"dimension": 8, "hidden": []}, "training": keys}
    whole, broken = (make_config(tmp_path / name, **sizes) for name in ("whole", "broken"))
    expected, save, done = train(whole, dataset, progress=False), Training._save, []

    def save_then_stop(training: Training, *position: int) -> None:
        if done:
            raise _InterruptError
        save(training, *position)
        done.append(position)

    monkeypatch.setattr(Training, "_save", save_then_stop)
    with pytest.raises(_InterruptError):
        train(broken, dataset, progress=False)
    monkeypatch.undo()
    assert curve(train(broken, dataset, progress=False)) == curve(expected)
    assert_same_variables(all_variables(broken), all_variables(whole))
    more = make_config(tmp_path / "whole", **sizes | {"training": keys | {"epochs": 3}})
    with pytest.raises(CheckpointError, match=r"training\.epochs = 2 there, 3 here"):
        train(more, dataset, progress=False)


def test_a_schedule_numbers_epochs_and_steps_through_all_stages(
    dataset: Dataset, make_config: Callable[..., Config]
) -> None:
    first, second, third = schedule(three_stages(make_config(), dataset).stages)
    assert [each.first_epoch for each in (first, second, third)] == [0, 1, 9]
    assert [each.first_step for each in (first, second, third)] == [0, 22, 22 + 8 * 3]
    assert third.steps_before(10) == 22 + 8 * 3 + 22
    assert third.end == 11


@pytest.mark.parametrize(
    ("patience", "found", "settled"),
    [
        (0, [0.5, 0.5, 0.5], False),
        (2, [0.5, 0.5], False),
        (2, [0.5, 0.5, 0.5], True),
        (2, [0.5, 0.4, 0.6], False),
        (2, [None, None, None], False),
        (1, [], False),
    ],
)
def test_a_stage_settles_after_epochs_without_a_better_top1(
    patience: int, found: list[float | None], settled: bool
) -> None:
    stage = Stage("any", None, None, dict, 5, patience=patience)  # type: ignore[arg-type]
    assert stage.has_settled(found) is settled
