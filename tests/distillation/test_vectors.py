"""``distillation.objective = "vectors"``: its loss, its batches, the first words of a transformer, what it learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import Config, ConfigError, TrainingConfig
from dpsr.data.batches.sequences import rows_of_bags
from dpsr.data.batches.steps import epoch_batches
from dpsr.data.batches.taught import VectorsBatch
from dpsr.data.dataset.tables import Bags, Dataset
from dpsr.data.prepare.job import prepare
from dpsr.model.encoded_items import principal_axes
from dpsr.model.text_encoders.transformer import TransformerEncoder
from dpsr.model.trained import load_trained
from dpsr.model.two_tower import TwoTower
from dpsr.training.distillation import DistillationStep
from dpsr.training.recipes import make_recipe
from dpsr.training.run_optimizers import adagrad
from dpsr.training.teachers import Teachers
from dpsr.training.trainer import train

from ..model.test_two_tower import make_model, random_items, random_queries
from .conftest import WIDTH

ALONE: dict[str, Any] = {"pretraining": {"epochs": 0}, "training": {"epochs": 0}}


def unit_rows(random: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = random.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def taught(teacher: Config) -> dict[str, Any]:
    return {"teacher": teacher.work_dir, "epochs": 2, "synthetic_queries": 2, "objective": "vectors"}


@pytest.fixture(scope="module")
def student(
    make_run: Callable[..., Config], teacher: Config, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, Dataset, TwoTower]:
    """An untrained transformer, narrower than its teacher."""
    config = make_run(
        tmp_path_factory.mktemp("student"),
        **ALONE,
        model={
            "text_encoder": "transformer",
            "transformer": {"layers": 1, "width": 8, "heads": 2, "intermediate": 16},
            "dimension": 8,
            "shared_tokens": True,
        },
        tokenizer={"subwords": {"kind": "wordpiece", "vocabulary": 200}},
        distillation=taught(teacher),
    )
    dataset = Dataset.load(prepare(config, progress=False))
    return config, dataset, make_recipe(config, dataset).model


def test_the_loss_is_the_squared_distance_to_the_teacher() -> None:
    random = np.random.default_rng(1)
    model = make_model(heads=1)
    step = DistillationStep(model, adagrad(model, TrainingConfig()), temperature=0.1)
    queries, items = random_queries(random, 6), random_items(random, 9)
    heads, vectors = model.query_heads(queries), model.item_vectors(items)
    width = vectors.shape[1]
    of_queries, of_items = unit_rows(random, 6, width), unit_rows(random, 9, width)
    rows = tf.zeros([6], tf.int32), tf.zeros([9], tf.int32)
    found = step.objective(heads, vectors, VectorsBatch(queries, items, *rows, of_queries, of_items), None)
    lacking = [1.0 - np.sum(mine * theirs, axis=1) for mine, theirs in ((heads[:, 0], of_queries), (vectors, of_items))]
    assert float(found.loss) == pytest.approx(np.mean(lacking[0]) + np.mean(lacking[1]), rel=1e-5)
    # The temperature divides the gradient.
    np.testing.assert_allclose(found.heads[:, 0], (heads[:, 0] - of_queries) / 6 / 0.1, atol=1e-5)
    np.testing.assert_allclose(found.vectors, (vectors - of_items) / 9 / 0.1, atol=1e-5)


def test_batches_have_the_vectors_of_their_queries_and_items(student: tuple[Config, Dataset, TwoTower]) -> None:
    config, dataset, _ = student
    (stage,) = make_recipe(config, dataset).stages
    teachers = Teachers.of_run(config, dataset, progress=False)
    assert teachers is not None
    axes = principal_axes(teachers.item_vectors, 8)
    batch = next(epoch_batches(stage.batches, seed=1, epoch=0))
    half = config.training.batch_size // 2
    logged = teachers.query_vectors(dataset.query_texts())[batch.query_rows.numpy()[:half]] @ axes
    items = teachers.item_vectors[batch.item_rows] @ axes
    for found, expected in ((batch.of_queries[:half], logged), (batch.of_items, items)):
        np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)
    assert WIDTH > 8 == batch.of_queries.shape[1]


def test_the_words_start_as_the_mean_of_their_items(student: tuple[Config, Dataset, TwoTower]) -> None:
    config, dataset, model = student
    teachers = Teachers.of_run(config, dataset, progress=False)
    assert teachers is not None
    narrow = teachers.item_vectors @ principal_axes(teachers.item_vectors, 8)
    narrow -= narrow.mean(axis=0)
    words = model.text_weights["transformer"].encoder.words.numpy()
    fields = dataset.item_subwords
    subwords = Bags(fields.values, rows_of_bags(fields, len(dataset.schema.text)))
    held = [set(subwords[row].tolist()) for row in range(len(narrow))]
    of_items = sorted(set.union(*held))
    expected = np.stack([narrow[[word in item for item in held]].mean(axis=0) for word in of_items])
    expected *= 0.1 / np.sqrt(np.mean(np.square(expected)))
    np.testing.assert_allclose(words[of_items], expected, atol=1e-4)
    # Those of no item are drawn, with a standard deviation of 0.02, cut at two of them.
    others = np.delete(words, of_items, axis=0)
    assert len(others) >= 4
    assert 0.0 < np.abs(others).max() <= 0.04


def test_a_student_learns_the_vectors_of_its_teacher(student: tuple[Config, Dataset, TwoTower]) -> None:
    config, dataset, _ = student
    longer = config.distillation.model_copy(update={"epochs": 12})
    training = config.training.model_copy(update={"optimizer": "adamw", "learning_rate": 0.01})
    config = config.model_copy(update={"distillation": longer, "training": training})
    losses = [epoch["train_loss"] for epoch in train(config, dataset, progress=False)["epochs"]]
    assert losses[-1] < 0.5 * losses[0]
    encoder = load_trained(config.checkpoint_dir, dataset).item_inputs.texts[0]
    assert isinstance(encoder, TransformerEncoder)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"distillation": {"items": "both"}}, r"objective = 'vectors' learns the teacher's space, and items = 'both'"),
        (
            {"distillation": {"teacher": None, "scores": "scores.parquet"}},
            r"objective = 'vectors' reads a teacher's vectors, and teacher is missing",
        ),
        ({"model": {"heads": 2}}, r"teaches one vector a query, and model\.heads = 2"),
    ],
)
def test_what_has_no_vectors_to_learn_is_refused(
    make_run: Callable[..., Config], teacher: Config, tmp_path: Path, sections: dict[str, Any], message: str
) -> None:
    given = {**ALONE, **sections, "distillation": taught(teacher) | sections.get("distillation", {})}
    with pytest.raises(ConfigError, match=message):
        make_run(tmp_path, **given)
