"""Training runs: reproducible, resumable after any interruption, and strict about what they continue from."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import Config
from dpsr.data.batches.features import FeatureTables
from dpsr.data.dataset.tables import Dataset
from dpsr.errors import DpsrError
from dpsr.model.trained import load_trained
from dpsr.training import loop
from dpsr.training.checkpoints import CheckpointError, best_epoch
from dpsr.training.divergence import TrainingDivergedError
from dpsr.training.trainer import train
from dpsr.training.validation import Validation

TIMINGS = {"seconds", "examples_per_second"}


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory, make_dataset: Callable[..., Dataset]) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., Config], dataset: Dataset
) -> tuple[Config, dict]:
    """An uninterrupted run of two epochs, three checkpoints within each, and its metrics."""
    config = make_config(tmp_path_factory.mktemp("finished"))
    return config, train(config, dataset, progress=False)


def curve(metrics: dict) -> list[dict]:
    """The figures of every epoch that a clock has no part in."""
    return [{name: value for name, value in epoch.items() if name not in TIMINGS} for epoch in metrics["epochs"]]


def all_variables(config: Config) -> dict[str, np.ndarray]:
    """Everything in the latest checkpoint: weights, accumulators and position."""
    reader = tf.train.load_checkpoint(str(config.checkpoint_dir))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.endswith("VARIABLE_VALUE") and "save_counter" not in name
    }


def assert_same_variables(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name


def test_training_learns_and_tells(finished: tuple[Config, dict]) -> None:
    config, metrics = finished
    assert json.loads((config.checkpoint_dir / "metrics.json").read_text()) == metrics
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == [1, 2]
    first, last = metrics["epochs"]
    assert last["train_loss"] < 0.5 * first["train_loss"]
    # 40 queries lead to one item each among 60.
    assert last["valid_top1"] > 0.8
    assert metrics["steps"] == 2 * 22
    assert list((config.checkpoint_dir / "events").glob("events.*"))


def test_top1_is_the_share_of_first_places(finished: tuple[Config, dict], dataset: Dataset) -> None:
    config, metrics = finished
    model, tables = load_trained(config.checkpoint_dir, dataset), FeatureTables(dataset, 4)
    records = np.asarray(dataset.interactions("valid"))
    heads = model.query_heads(tables.queries(tf.constant(records.view(np.int32).reshape(len(records), 5)))).numpy()
    vectors = model.item_vectors(tables.items(tf.range(dataset.schema.num_items))).numpy()
    best = [int((vectors @ row.T).max(axis=1).argmax()) for row in heads]
    assert metrics["epochs"][metrics["best_epoch"] - 1]["valid_top1"] == pytest.approx(np.mean(best == records["item"]))


def test_the_best_epoch_is_loaded(
    make_config: Callable[..., Config], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, tables = make_config(training={"epochs": 3}), FeatureTables(dataset, 0)
    items = tables.items(tf.range(dataset.schema.num_items))
    vectors = []

    def judge(validation: Validation) -> dict[str, float]:
        vectors.append(validation._model.item_vectors(items).numpy())
        return {"valid_loss": 1.0, "valid_top1": [0.3, 0.7, 0.5][len(vectors) - 1]}

    monkeypatch.setattr(Validation, "__call__", judge)
    assert train(config, dataset, progress=False)["best_epoch"] == 2
    assert np.array_equal(load_trained(config.checkpoint_dir).item_vectors(items), vectors[1])
    assert {path.name.partition(".")[0] for path in config.checkpoint_dir.glob("best-*")} == {"best-2"}


def test_best_epoch() -> None:
    assert best_epoch([]) is None
    assert best_epoch([{"epoch": 1, "valid_top1": 0.5}, {"epoch": 2, "valid_top1": 0.5}]) == 2
    assert best_epoch([{"epoch": 1, "valid_top1": 0.6}, {"epoch": 2, "valid_top1": 0.5}]) == 1
    assert best_epoch([{"epoch": 1, "valid_top1": None}, {"epoch": 2, "valid_top1": None}]) == 2


@pytest.mark.parametrize(
    "loss",
    [
        {"kind": "hinge", "mixing_ratio": 0.0},
        pytest.param({"kind": "softmax", "mixing_ratio": 1.0}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_same_seed_same_curve(make_config: Callable[..., Config], dataset: Dataset, tmp_path: Path, loss: dict) -> None:
    def run(name: str, seed: int) -> tuple[list[dict], dict[str, np.ndarray]]:
        config = make_config(tmp_path / name, loss={"group_size": 8} | loss, training={"epochs": 1, "seed": seed})
        return curve(train(config, dataset, progress=False)), all_variables(config)

    one, other = run("one", 1), run("other", 1)
    assert one[0] == other[0]
    assert_same_variables(one[1], other[1])
    assert run("another seed", 2)[0] != one[0]


class _InterruptError(Exception):
    pass


@pytest.mark.parametrize("saves", [1, 5, *(pytest.param(count, marks=pytest.mark.slow) for count in (2, 3, 4, 7))])
def test_interrupted_and_resumed_equals_uninterrupted(
    make_config: Callable[..., Config],
    dataset: Dataset,
    finished: tuple[Config, dict],
    monkeypatch: pytest.MonkeyPatch,
    saves: int,
) -> None:
    (whole, expected), broken = finished, make_config()
    save = loop.Training._save
    done = []

    def save_then_stop(training: loop.Training, *position: int) -> None:
        if len(done) == saves:  # the steps since the last checkpoint are lost
            raise _InterruptError
        save(training, *position)
        done.append(position)

    monkeypatch.setattr(loop.Training, "_save", save_then_stop)
    with pytest.raises(_InterruptError):
        train(broken, dataset, progress=False)
    monkeypatch.undo()
    assert curve(train(broken, dataset, progress=False)) == curve(expected)
    assert_same_variables(all_variables(broken), all_variables(whole))


def test_more_epochs_continue_and_a_finished_run_stays(
    make_config: Callable[..., Config], dataset: Dataset, finished: tuple[Config, dict]
) -> None:
    short, longer = make_config(training={"epochs": 1}), make_config()
    first = train(short, dataset, progress=False)
    assert train(short, dataset, progress=False) == first
    second = train(longer, dataset, progress=False)
    assert second["epochs"][0] == first["epochs"][0]
    assert curve(second) == curve(finished[1])
    assert_same_variables(all_variables(longer), all_variables(finished[0]))


def test_a_run_of_an_earlier_release_goes_on(
    make_config: Callable[..., Config], dataset: Dataset, finished: tuple[Config, dict]
) -> None:
    """One whose files name no architecture and no text encoder, and call a stage a phase."""
    short, longer = make_config(training={"epochs": 1}), make_config()
    train(short, dataset, progress=False)
    model_file, metrics_file = (short.checkpoint_dir / name for name in ("model.json", "metrics.json"))
    tree = json.loads(model_file.read_text())
    del tree["architecture"], tree["model"]["text_encoder"]
    model_file.write_text(json.dumps(tree))
    metrics_file.write_text(metrics_file.read_text().replace('"stage"', '"phase"'))
    assert load_trained(short.checkpoint_dir, dataset).config == short.model
    assert curve(train(longer, dataset, progress=False)) == curve(finished[1])


def test_an_unknown_architecture_is_named(make_config: Callable[..., Config], dataset: Dataset) -> None:
    config = make_config(training={"epochs": 1})
    train(config, dataset, progress=False)
    path = config.checkpoint_dir / "model.json"
    path.write_text(path.read_text().replace('"two_tower"', '"cross_encoder"'))
    with pytest.raises(CheckpointError, match="architecture 'cross_encoder' is none of two_tower; upgrade dpsr"):
        load_trained(config.checkpoint_dir)
    with pytest.raises(CheckpointError, match="architecture = 'cross_encoder' there, 'two_tower' here"):
        train(config, dataset, progress=False)


def test_save_then_load_gives_the_same_vectors(
    make_config: Callable[..., Config], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(training={"epochs": 1}, model={"residual": True, "shared_tokens": True})
    run = loop.Training.run
    trained = []
    monkeypatch.setattr(loop.Training, "run", lambda training: trained.append(training) or run(training))
    train(config, dataset, progress=False)
    loaded, tables = load_trained(config.checkpoint_dir), FeatureTables(dataset, 0)
    items = tables.items(tf.range(dataset.schema.num_items))
    assert np.array_equal(loaded.item_vectors(items), trained[0]._model.item_vectors(items))
    assert all(table.accumulator is None for table in loaded.tables.values())


def test_a_run_stops_when_patience_is_at_an_end(make_config: Callable[..., Config], dataset: Dataset) -> None:
    config = make_config(training={"epochs": 40, "patience": 2})
    found = [figures["valid_top1"] for figures in train(config, dataset, progress=False)["epochs"]]
    assert 2 < len(found) < 40
    assert max(found[-2:]) <= max(found[:-2])
    assert all(max(found[end - 2 : end]) > max(found[: end - 2]) for end in range(3, len(found)))
    again = train(config, dataset, progress=False)
    assert len(again["epochs"]) == len(found)


def test_accumulators_are_in_the_checkpoint(finished: tuple[Config, dict]) -> None:
    variables = all_variables(finished[0])
    table_accumulators = [value for name, value in variables.items() if name.split("/")[3:4] == ["accumulator"]]
    assert len(table_accumulators) == 5
    assert all((value >= np.float32(0.1)).all() and (value > 0.1).any() for value in table_accumulators)
    assert sum(name.startswith("optimizer/_variables") for name in variables) == 8


def test_another_dataset_is_refused(
    make_config: Callable[..., Config],
    make_dataset: Callable[..., Dataset],
    finished: tuple[Config, dict],
    tmp_path: Path,
) -> None:
    config, _ = finished
    other = make_dataset(tmp_path, fingerprint="beef")
    for use in (lambda: train(config, other, progress=False), lambda: load_trained(config.checkpoint_dir, other)):
        with pytest.raises(CheckpointError, match=r"f00d.*beef"):
            use()


def test_another_configuration_is_refused(
    make_config: Callable[..., Config], dataset: Dataset, finished: tuple[Config, dict]
) -> None:
    work_dir = Path(finished[0].work_dir)
    with pytest.raises(CheckpointError, match=r"training.batch_size = 32 there, 64 here.*--no-resume"):
        train(make_config(work_dir, training={"batch_size": 64}), dataset, progress=False)
    with pytest.raises(CheckpointError, match=r"model.heads = 2 there, 3 here"):
        train(make_config(work_dir, model={"heads": 3}), dataset, progress=False)


def test_no_resume_starts_anew_and_removes_only_what_training_wrote(
    make_config: Callable[..., Config], make_dataset: Callable[..., Dataset], dataset: Dataset, tmp_path: Path
) -> None:
    config = make_config(training={"epochs": 1})
    train(config, dataset, progress=False)
    (config.checkpoint_dir / "notes.txt").write_text("mine")
    before = {path.name for path in config.checkpoint_dir.iterdir()}
    other = make_dataset(tmp_path / "other", fingerprint="beef")
    train(config, other, resume=False, progress=False)
    assert {path.name for path in config.checkpoint_dir.iterdir()} == before
    assert load_trained(config.checkpoint_dir, other).schema.tokenizer_fingerprint == "beef"


def test_a_loss_that_is_no_number_stops_the_run(make_config: Callable[..., Config], dataset: Dataset) -> None:
    config = make_config(training={"table_learning_rate": 1e38, "learning_rate": 1e38})
    with pytest.raises(TrainingDivergedError, match=r"loss is (nan|inf) at step \d+ of epoch 1.*table_learning_rate"):
        train(config, dataset, progress=False)


def test_a_log_too_small_for_a_validation_split_trains(
    make_config: Callable[..., Config], make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    metrics = train(make_config(), make_dataset(tmp_path / "tiny", records=7), progress=False)
    assert all(epoch["valid_loss"] is None and epoch["train_loss"] > 0 for epoch in metrics["epochs"])


def test_nothing_to_train_on_is_an_error(
    make_config: Callable[..., Config], make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    with pytest.raises(DpsrError, match="holds no record to train on"):
        train(make_config(), make_dataset(tmp_path / "empty", records=0), progress=False)


def test_a_directory_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no trained model here; run `dpsr train`"):
        load_trained(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(CheckpointError, match="does not describe a model"):
        load_trained(tmp_path)


_CHILD = """
import pickle, sys
from dpsr.training.trainer import train
with open(sys.argv[1], "rb") as file:
    config, dataset = pickle.load(file)
train(config, dataset, progress=False)
"""


@pytest.mark.slow
def test_killed_runs_end_where_an_unharmed_run_does(
    make_config: Callable[..., Config], make_dataset: Callable[..., Dataset], tmp_path: Path
) -> None:
    import pickle

    dataset = make_dataset(tmp_path / "dataset", records=4000)
    settings = {"epochs": 6, "batch_size": 8, "checkpoint_every": 40}
    whole, killed = (make_config(tmp_path / name, training=settings) for name in ("whole", "killed"))
    expected = train(whole, dataset, progress=False)
    (tmp_path / "arguments").write_bytes(pickle.dumps((killed, dataset)))
    command = [sys.executable, "-c", _CHILD, str(tmp_path / "arguments")]
    random = np.random.default_rng(0)
    for _ in range(3):
        seen = tf.train.latest_checkpoint(killed.checkpoint_dir)
        child = subprocess.Popen(command)
        while tf.train.latest_checkpoint(killed.checkpoint_dir) == seen and child.poll() is None:
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.3))
        assert child.poll() is None, "the run ended before it could be killed"
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    subprocess.run(command, check=True)
    assert curve(json.loads((killed.checkpoint_dir / "metrics.json").read_text())) == curve(expected)
    assert_same_variables(all_variables(killed), all_variables(whole))
