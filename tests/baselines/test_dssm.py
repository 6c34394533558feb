"""DSSM: network and loss against plain numpy, and its part in an evaluation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.baselines import dssm
from dpsr.baselines.dssm import DssmNetwork, DssmRetriever
from dpsr.baselines.fitting.towers import ragged
from dpsr.config import EvaluationConfig
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.compare.evaluate import evaluate
from dpsr.model.two_tower import TwoTower

from .coded_shop import make_shop


def test_the_network_is_the_one_of_the_paper() -> None:
    network = DssmNetwork(40, seed=3)
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 3, (6, 40))
    network.bias.assign(rng.normal(size=network.bias.shape) / 10)
    table, first, *rest = (variable.numpy() for variable in (network.table.embeddings, *network.dense))
    hidden = np.tanh(counts @ table + first)
    for kernel, bias in zip(rest[::2], rest[1::2], strict=True):
        hidden = np.tanh(hidden @ kernel + bias)
    expected = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
    values = np.concatenate([np.repeat(np.arange(40), row) for row in counts]).astype(np.int32)
    splits = np.concatenate([[0], np.cumsum(counts.sum(axis=1))])
    found = network(ragged(values, splits)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.shape == (6, dssm.WIDTHS[-1])


def test_the_loss_is_the_softmax_over_the_clicked_item_and_its_negatives() -> None:
    rng = np.random.default_rng(4)
    queries, items = rng.normal(size=(3, 5)), rng.normal(size=(3, 4, 5))
    exponentials = np.exp(10.0 * (queries[:, None] * items).sum(axis=2))
    expected = -np.log(exponentials[:, 0] / exponentials.sum(axis=1)).mean()
    found = DssmRetriever.loss(None, *(tf.constant(each, tf.float32) for each in (queries, items)), None)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_a_log_without_skips_is_noted_and_evaluation_reads_logs_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DssmRetriever, "recipe", replace(DssmRetriever.recipe, most_rounds=1))
    config = make_shop(tmp_path, skips=False)
    dataset = Dataset.load(config.dataset_dir)
    model = TwoTower(config.model, dataset.schema, seed=1)
    for whole in ("interactions", "skips"):
        monkeypatch.setattr(Dataset, whole, lambda *_: pytest.fail("the whole log was read into memory"))
    config = config.model_copy(
        update={
            "evaluation": config.evaluation.model_copy(update={"baselines": [*EvaluationConfig().baselines, "dssm"]})
        }
    )
    report = evaluate(config, dataset, model, progress=False)
    assert any("no skipped items" in note for note in report.notes)
    assert {"dssm", "bm25"} <= {result.retriever for result in report.results}
    assert (Path(config.work_dir) / "evaluation" / "dssm.npz").is_file()
    quick = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"baselines": ["bm25"]})})
    assert "dssm" not in {result.retriever for result in evaluate(quick, dataset, model, progress=False).results}
