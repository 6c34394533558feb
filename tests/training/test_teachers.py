"""Teachers: their vectors on the item side, a run that needs them no longer, and teachers that do not fit."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import Config, parse_config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.errors import DpsrError
from dpsr.indexing.catalogue import Catalogue
from dpsr.indexing.corpus import embed_catalogue, embed_items
from dpsr.indexing.publish import export
from dpsr.training.trained import load_trained
from dpsr.training.trainer import train

NOUNS = ["sink", "hammer", "screw", "faucet", "ladder", "lamp", "saw", "drill"]
ADJECTIVES = ["steel", "red", "small", "cordless", "oak", "brass", "heavy", "outdoor"]
TITLES = [f"{adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS]
WIDTH = 12


def write_items(path: Path, titles: list[str]) -> Path:
    path.write_text("\n".join(["item_id,title,brand", *(f"i{n},{title},b{n % 3}" for n, title in enumerate(titles))]))
    return path


@pytest.fixture(scope="module")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    folder, random = tmp_path_factory.mktemp("shop"), np.random.default_rng(3)
    write_items(folder / "items.csv", TITLES)
    rows = random.integers(0, len(TITLES), 400)
    lines = ["query,item_id,timestamp", *(f"{TITLES[row]},i{row},{time}" for time, row in enumerate(rows))]
    (folder / "log.csv").write_text("\n".join(lines))

    def make(work_dir: Path, **sections: dict) -> Config:
        tree: dict = {
            "name": "shop",
            "work_dir": str(work_dir),
            "data": {
                "items": {"path": str(folder / "items.csv"), "categorical": ["brand"]},
                "interactions": {"path": str(folder / "log.csv")},
                "valid_share": 0.2,
            },
            "tokenizer": {"min_count": 1, "oov_buckets": 20},
            "model": {"dimension": WIDTH, "hidden": [], "heads": 1, "residual": True},
            "loss": {"kind": "softmax", "group_size": 8},
            "pretraining": {"epochs": 2, "words": [1, 3]},
            "training": {"epochs": 2, "batch_size": 16, "table_learning_rate": 0.3, "checkpoint_every": 3},
            "index": {"k": 5, "min_recall": 0.5},
        }
        for name, values in sections.items():
            tree[name] = tree.get(name, {}) | values
        return parse_config(tree, "test")

    return make


def trained(config: Config) -> Config:
    dataset = Dataset.load(prepare(config, progress=False))
    train(config, dataset, progress=False)
    return config


@pytest.fixture(scope="module")
def teacher(make_run: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A bag model, trained on the same catalogue with another tokenizer and other towers."""
    sections = {"tokenizer": {"trigrams": False}, "model": {"shared_tokens": True}, "training": {"seed": 7}}
    return trained(make_run(tmp_path_factory.mktemp("teacher"), **sections))


def vectors_of(config: Config) -> np.ndarray:
    dataset = Dataset.load(config.dataset_dir)
    return embed_items(load_trained(config.checkpoint_dir, dataset), dataset, progress=False)


@pytest.mark.parametrize(("items", "dimension"), [("teacher", WIDTH), ("both", 8), ("both", 16)])
def test_a_student_of_item_vectors_is_trained_and_exported_without_its_teacher(
    make_run: Callable[..., Config], teacher: Config, tmp_path: Path, items: str, dimension: int
) -> None:
    gone = shutil.copytree(teacher.work_dir, tmp_path / "teacher")
    sections = {"distillation": {"teacher": str(gone), "items": items}, "model": {"dimension": dimension}}
    config = trained(make_run(tmp_path / "student", **sections))
    dataset = Dataset.load(config.dataset_dir)
    shutil.rmtree(gone)
    model = load_trained(config.checkpoint_dir, dataset)
    vectors = embed_items(model, dataset, progress=False)
    if items == "teacher":
        np.testing.assert_allclose(vectors, vectors_of(teacher), atol=1e-6)
        assert not [name for name in model.tables if name.startswith("item")]
    else:
        assert not np.allclose(model.text_weights["item_encoded"]["projection"], np.eye(WIDTH, dimension), atol=1e-2)
    # New items, and those of the dataset where the files of their vectors are gone: the run's copy embeds them.
    new = Catalogue.read(str(write_items(tmp_path / "new.csv", [*TITLES, "oak hammer drill"])), config, dataset)
    found = embed_catalogue(model, new, batch_size=50, progress=False)
    np.testing.assert_allclose(found[: len(vectors)], vectors, atol=1e-6)
    assert np.linalg.norm(found[-1]) == pytest.approx(1.0, abs=1e-5)
    shutil.rmtree(tmp_path / "student" / "arrays")
    version = export(config, dataset, load_trained(config.checkpoint_dir, dataset), progress=False)
    served = tf.saved_model.load(str(version / "servable") if (version / "servable").exists() else str(version))
    answer = served.signatures["serving_default"](query=tf.constant(["red sink"]))
    assert answer["item_id"].shape == (1, 5)


def test_principal_axes_keep_the_scores(teacher: Config) -> None:
    from dpsr.model.encoded_items import principal_axes

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


def test_teachers_that_do_not_fit_are_named(make_run: Callable[..., Config], teacher: Config, tmp_path: Path) -> None:
    dataset = Dataset.load(prepare(make_run(tmp_path / "student"), progress=False))

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
    other = make_run(tmp_path / "other", pretraining={"epochs": 1}, training={"epochs": 0})
    titles = [*TITLES]
    titles[5] = "wooden lamp"
    items = other.data.items.model_copy(update={"path": str(write_items(tmp_path / "other.csv", titles))})
    trained(other.model_copy(update={"data": other.data.model_copy(update={"items": items})}))
    fails(r"'title' differs in 1 of 64 items, first in row 5 \(item 'i5'\): 'wooden lamp' there", Path(other.work_dir))
