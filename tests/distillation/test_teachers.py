"""Teachers: their vectors on the item side, a run that needs them no longer, and teachers that do not fit."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset
from dpsr.errors import DpsrError
from dpsr.indexing.catalogue import Catalogue
from dpsr.indexing.corpus import embed_catalogue, embed_items
from dpsr.indexing.publish import export
from dpsr.model.encoded_items import mean_item_vectors, principal_axes
from dpsr.model.frozen_encoder import FrozenEncoder, FrozenEncoders
from dpsr.model.trained import load_trained
from dpsr.model.two_tower import TwoTower
from dpsr.model.vector_files import vectors_in_file
from dpsr.training.teachers import Teachers
from dpsr.training.trainer import train

from .conftest import TITLES, WIDTH, write_items


def vectors_of(config: Config) -> np.ndarray:
    dataset = Dataset.load(config.dataset_dir)
    return embed_items(load_trained(config.checkpoint_dir, dataset), dataset, progress=False)


def encoder_of(config: Config) -> FrozenEncoder:
    model = load_trained(config.checkpoint_dir)
    assert isinstance(model, TwoTower)
    return FrozenEncoder.of_dataset(model, Dataset.load(config.dataset_dir))


@pytest.mark.parametrize(("items", "dimension"), [("teacher", WIDTH), ("both", 8)])
def test_a_student_of_item_vectors_needs_its_teacher_no_longer(
    make_run: Callable[..., Config], teacher: Config, dataset: Dataset, tmp_path: Path, items: str, dimension: int
) -> None:
    gone = shutil.copytree(teacher.work_dir, tmp_path / "teacher")
    sections = {"distillation": {"teacher": str(gone), "items": items}, "model": {"dimension": dimension}}
    config = make_run(tmp_path / "student", **sections)
    train(config, dataset, progress=False)
    shutil.rmtree(gone)
    model = load_trained(config.checkpoint_dir, dataset)
    vectors = embed_items(model, dataset, progress=False)
    if items == "teacher":
        np.testing.assert_allclose(vectors, vectors_of(teacher), atol=1e-6)
        assert not [name for name in model.tables if name.startswith("item")]
    # New items, and those of the dataset where the files of their vectors are gone: the run's copy embeds them.
    shutil.rmtree(config.arrays_dir)
    new = Catalogue.read(str(write_items(tmp_path / "new.csv", [*TITLES, "oak hammer drill"])), config, dataset)
    found = embed_catalogue(model, new, batch_size=50, progress=False)
    np.testing.assert_allclose(found[: len(vectors)], vectors, atol=1e-6)
    assert np.linalg.norm(found[-1]) == pytest.approx(1.0, abs=1e-5)
    if items == "both":
        shutil.rmtree(config.checkpoint_dir / "teachers")
        with pytest.raises(DpsrError, match="teachers/0: the teacher that the run keeps here cannot be read"):
            load_trained(config.checkpoint_dir, dataset)


@pytest.mark.slow
@pytest.mark.parametrize("items", ["teacher", "both"])
def test_a_taught_model_is_served(
    make_run: Callable[..., Config], teacher: Config, dataset: Dataset, tmp_path: Path, items: str
) -> None:
    config = make_run(tmp_path, distillation={"teacher": teacher.work_dir, "items": items})
    train(config, dataset, progress=False)
    version = export(config, dataset, load_trained(config.checkpoint_dir, dataset), progress=False)
    served = tf.saved_model.load(str(version))
    found = served.signatures["serving_default"](query=tf.constant([TITLES[9]]))["item_id"].numpy().tolist()
    assert b"i9" in found[0]


def test_principal_axes_keep_the_scores(teacher: Config) -> None:
    vectors = vectors_of(teacher)
    wide = vectors @ principal_axes(vectors, 20)
    np.testing.assert_allclose(wide @ wide.T, vectors @ vectors.T, atol=1e-6)
    scores, lost = vectors @ vectors.T, []
    for dimension in (2, 6, WIDTH - 1):
        narrow = vectors @ principal_axes(vectors, dimension)
        # Eckart and Young: no product of narrower vectors is nearer to the scores.
        lost.append(np.linalg.norm(scores - narrow @ narrow.T))
        assert lost[-1] == pytest.approx(np.linalg.norm(np.linalg.eigvalsh(scores)[:-dimension]), rel=1e-3, abs=1e-5)
    assert lost == sorted(lost, reverse=True)


def test_a_token_starts_as_the_mean_of_its_items(dataset: Dataset) -> None:
    rows = dataset.schema.token_rows
    vectors = np.random.default_rng(1).normal(size=(dataset.schema.num_items, 5)).astype(np.float32)
    expected = np.zeros((rows, 5))
    for token in range(rows):
        counts = np.array([(dataset.item_tokens[item] == token).sum() for item in range(len(vectors))])
        if counts.any():
            expected[token] = counts @ (vectors - vectors.mean(axis=0)) / counts.sum()
    np.testing.assert_allclose(mean_item_vectors(dataset.item_tokens, vectors, rows), expected, atol=1e-5)


def test_several_teachers_are_the_mean_of_their_scores(
    teacher: Config, stranger: Config, dataset: Dataset, tmp_path: Path
) -> None:
    encoders = [encoder_of(each) for each in (teacher, stranger)]
    both, items, queries = FrozenEncoders(encoders, tmp_path), dataset.item_table(), dataset.query_texts()
    scores = [each.query_vectors(queries) @ each.item_vectors(items).T for each in (*encoders, both)]
    np.testing.assert_allclose(scores[2], (scores[0] + scores[1]) / 2, atol=1e-6)
    both.save(tmp_path / "kept")
    read = FrozenEncoders.load(tmp_path / "kept", tmp_path)
    assert (read.width, read.fingerprint) == (WIDTH + 6, both.fingerprint)
    assert np.array_equal(read.item_vectors(items), both.item_vectors(items))


@pytest.mark.parametrize("written", [0, 100, 128 + 1024 * 24 + 7])
def test_a_killed_embedding_goes_on(tmp_path: Path, written: int) -> None:
    rows, asked = np.random.default_rng(1).normal(size=(2500, 6)).astype(np.float32), []

    def embed(first: int, end: int) -> np.ndarray:
        asked.append(first)
        return rows[first:end]

    whole = vectors_in_file(tmp_path / "whole.npy", *rows.shape, embed, name="rows", progress=False)
    assert np.array_equal(whole, rows)
    asked.clear()
    (tmp_path / "killed.part").write_bytes((tmp_path / "whole.npy").read_bytes()[:written])
    assert np.array_equal(
        vectors_in_file(tmp_path / "killed.npy", *rows.shape, embed, name="rows", progress=False), rows
    )
    assert asked[0] == (1024 if written > 10_000 else 0)
    assert np.array_equal(
        vectors_in_file(tmp_path / "whole.npy", *rows.shape, lambda *_: rows[:0], name="rows", progress=False), rows
    )


def test_teachers_that_do_not_fit_are_named(
    make_run: Callable[..., Config], teacher: Config, stranger: Config, dataset: Dataset, tmp_path: Path
) -> None:
    def fails(match: str, path: Path, **sections: dict) -> None:
        config = make_run(
            tmp_path / "student", distillation={"teacher": str(path), "items": "teacher", "epochs": 0}, **sections
        )
        with pytest.raises(DpsrError, match=match):
            train(config, dataset, resume=False, progress=False)

    work_dir = Path(teacher.work_dir)
    fails("no such teacher", tmp_path / "missing")
    fails("no trained run", tmp_path)
    fails(r"width 12, and model.dimension = 16; set model.dimension = 12", work_dir, model={"dimension": 16})
    fails(
        r"'title' differs in 1 of 64 items, first in row 5 \(item 'i5'\): 'wooden lamp' there",
        Path(stranger.work_dir),
    )
    narrow = Teachers(FrozenEncoders([encoder_of(stranger)], tmp_path), [stranger.work_dir], dataset, progress=False)
    with pytest.raises(DpsrError, match=r"this teacher has 2 heads; train it with model\.heads = 1"):
        narrow.query_vectors(dataset.query_texts())
