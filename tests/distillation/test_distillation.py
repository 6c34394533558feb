"""Distillation: the scores of batches, the step against NumPy, stages that resume exactly, files of scores."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from dpsr.config import Config, TrainingConfig
from dpsr.data.batches.steps import epoch_batches
from dpsr.data.batches.taught import TaughtBatch
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.model.trained import load_trained
from dpsr.training import loop
from dpsr.training.distillation import DistillationStep
from dpsr.training.recipes import make_recipe
from dpsr.training.run_optimizers import adagrad
from dpsr.training.score_files import read_scores
from dpsr.training.teachers import Teachers
from dpsr.training.trainer import train

from ..model.test_two_tower import make_model, random_items, random_queries
from ..training.test_trainer import all_variables, assert_same_variables, curve
from .conftest import TITLES


@pytest.fixture(scope="module")
def make_student(make_run: Callable[..., Config], teacher: Config) -> Callable[..., Config]:
    """A run of the stage alone, half logged queries and half synthetic ones."""

    def make(work_dir: Path, **sections: dict) -> Config:
        distillation = {"teacher": teacher.work_dir, "epochs": 2, "synthetic_queries": 2}
        alone = {"pretraining": {"epochs": 0}, "training": {"epochs": 0}}
        return make_run(
            work_dir, **alone | sections | {"distillation": distillation | sections.get("distillation", {})}
        )

    return make


@pytest.fixture(scope="module")
def finished(
    make_student: Callable[..., Config], dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, dict]:
    config = make_student(tmp_path_factory.mktemp("student"))
    return config, train(config, dataset, progress=False)


@pytest.mark.parametrize("heads", [1, 3])
def test_the_step_is_the_mean_squared_error_of_the_scores(heads: int) -> None:
    random = np.random.default_rng(1)
    model = make_model(heads=heads, attention_temperature=0.5)
    step = DistillationStep(model, adagrad(model, TrainingConfig()), temperature=0.1)
    queries, items = random_queries(random, 6), random_items(random, 9)
    heads_, vectors = model.query_heads(queries).numpy(), model.item_vectors(items).numpy()
    taught = random.uniform(-1, 1, (6, 9)).astype(np.float32)

    def mean_squared_error(of_heads: np.ndarray) -> float:
        products = np.einsum("bmd,nd->bmn", of_heads.astype(float), vectors)
        weights = np.exp(products / 0.5) / np.exp(products / 0.5).sum(axis=1, keepdims=True)
        errors = ((weights * products).sum(axis=1) - taught) ** 2
        return float((np.mean(np.diag(errors)) + np.mean(errors)) / 2)

    batch = TaughtBatch(queries, items, tf.zeros([6], tf.int32), tf.zeros([9], tf.int32), tf.constant(taught))
    found = step.objective(tf.constant(heads_), tf.constant(vectors), batch, None)
    assert float(found.loss) == pytest.approx(mean_squared_error(heads_), rel=1e-5)
    for place in [(0, 0, 0), (3, heads - 1, 5)]:
        nudged = heads_.astype(float)
        nudged[place] += 1e-4
        slope = (mean_squared_error(nudged) - mean_squared_error(heads_)) / 1e-4
        # The temperature divides the gradient.
        assert float(found.heads[place]) == pytest.approx(slope / 0.1, rel=2e-2, abs=1e-3)


def test_batches_have_the_scores_of_their_queries_and_items(
    make_student: Callable[..., Config], dataset: Dataset, tmp_path: Path
) -> None:
    config = make_student(tmp_path)
    (stage,) = make_recipe(config, dataset).stages
    assert stage.name == "distillation"
    teachers = Teachers.of_run(config, dataset, progress=False)
    assert teachers is not None
    queries, items = teachers.query_vectors(dataset.query_texts()), teachers.item_vectors
    batch = next(epoch_batches(stage.batches, seed=1, epoch=0))
    half = config.training.batch_size // 2
    rows = batch.query_rows.numpy()
    assert (rows[:half] >= 0).all()
    expected = queries[rows[:half]] @ items[batch.item_rows].T
    np.testing.assert_allclose(batch.scores[:half], expected, atol=1e-6)
    # A synthetic query is read from the pool, which holds random words of the item.
    pool = pa.ipc.open_file(next((tmp_path / "arrays/teacher").glob("pool-*.arrow"))).read_all()["query"]
    assert len(pool) == 2 * len(TITLES)
    assert all(set(text.split()) <= set(TITLES[row // 2].split()) for row, text in enumerate(pool.to_pylist()))
    of_pool = teachers.query_vectors(pool.combine_chunks()).reshape(len(TITLES), 2, -1)
    expected = of_pool[-1 - rows[half:]] @ items[batch.item_rows].T
    np.testing.assert_allclose(
        np.abs(expected - batch.scores.numpy()[half:, np.newaxis]).max(axis=2).min(axis=1), 0.0, atol=1e-6
    )


def test_a_student_learns_the_scores_of_its_teacher(
    finished: tuple[Config, dict], make_student: Callable[..., Config], dataset: Dataset
) -> None:
    config, metrics = finished
    assert [epoch["stage"] for epoch in metrics["epochs"]] == ["distillation"] * 2
    assert metrics["epochs"][1]["train_loss"] < 0.7 * metrics["epochs"][0]["train_loss"]
    assert load_trained(config.checkpoint_dir, dataset).item_encoders is None


class _InterruptError(Exception):
    pass


@pytest.mark.parametrize("saves", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_interrupted_equals_uninterrupted(
    make_student: Callable[..., Config],
    dataset: Dataset,
    finished: tuple[Config, dict],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    saves: int,
) -> None:
    broken, save, done = make_student(tmp_path), loop.Training._save, []

    def save_then_stop(training: loop.Training, *position: int) -> None:
        if len(done) == saves:
            raise _InterruptError
        save(training, *position)
        done.append(position)

    monkeypatch.setattr(loop.Training, "_save", save_then_stop)
    with pytest.raises(_InterruptError):
        train(broken, dataset, progress=False)
    monkeypatch.undo()
    assert curve(train(broken, dataset, progress=False)) == curve(finished[1])
    assert_same_variables(all_variables(broken), all_variables(finished[0]))


def test_a_file_of_scores_teaches(make_student: Callable[..., Config], dataset: Dataset, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    rows = random.integers(0, len(TITLES), 200)
    table = pa.table(
        {
            "query": [TITLES[row] for row in random.integers(0, len(TITLES), 200)],
            "item_id": [f"i{row}" for row in rows],
            "score": random.uniform(-1, 1, 200).astype(np.float32),
        }
    )
    path = tmp_path / "scores.parquet"
    pq.write_table(table, path)
    config = make_student(tmp_path, distillation={"teacher": None, "scores": str(path), "epochs": 6})
    metrics = train(config, dataset, progress=False)
    assert {epoch["stage"] for epoch in metrics["epochs"]} == {"scores"}
    assert metrics["epochs"][-1]["train_loss"] < 0.9 * metrics["epochs"][0]["train_loss"]
    assert read_scores(path, dataset).item_rows.tolist() == rows.tolist()

    def fails(match: str, changed: pa.Table) -> None:
        pq.write_table(changed, path)
        with pytest.raises(DatasetError, match=match):
            read_scores(path, dataset)

    fails("column 'score' is missing", table.drop_columns("score"))
    fails(r"row 0: score = 7.0, but a cosine is in -1..1", table.set_column(2, "score", pa.array(np.full(200, 7.0))))
    fails("none of its 200 pairs has an item of", table.set_column(1, "item_id", pa.array(["x"] * 200)))


@pytest.mark.slow
def test_a_transformer_learns_from_a_bag_of_words(make_student: Callable[..., Config], tmp_path: Path) -> None:
    config = make_student(
        tmp_path,
        model={
            "text_encoder": "transformer",
            "transformer": {"layers": 1, "width": 16, "heads": 2, "intermediate": 32},
            "shared_tokens": True,
        },
        tokenizer={"subwords": {"kind": "wordpiece", "vocabulary": 200}},
        training={"epochs": 0, "optimizer": "adamw", "learning_rate": 0.01},
        distillation={"epochs": 4},
    )
    metrics = train(config, Dataset.load(prepare(config, progress=False)), progress=False)
    losses = [epoch["train_loss"] for epoch in metrics["epochs"]]
    assert losses[-1] < 0.7 * losses[0]
