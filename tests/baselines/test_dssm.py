"""DSSM: input, negatives and network against plain Python, and learning of relations that only clicks contain."""

from pathlib import Path

import numpy as np
import pytest

from dpsr.baselines import dssm
from dpsr.baselines.context import BuildContext, item_texts
from dpsr.baselines.dssm import DssmNetwork, DssmRetriever, LetterTrigrams, letter_trigrams
from dpsr.baselines.examples import make_examples
from dpsr.baselines.registry import ENTRIES
from dpsr.baselines.tuning import mean_reciprocal_rank
from dpsr.config import Config, EvaluationConfig
from dpsr.data.dataset.schema import INTERACTION
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.compare.evaluate import evaluate
from dpsr.model.two_tower import TwoTower

from .coded_shop import CODES, COLOURS, make_shop


def test_a_word_is_its_letter_trigrams() -> None:
    assert letter_trigrams("cat") == ["#ca", "cat", "at#"]
    assert letter_trigrams("a") == ["#a#"]
    assert letter_trigrams("激") == ["#激#"]


def test_bags_count_the_known_trigrams() -> None:
    trigrams = LetterTrigrams.of_texts(["cat hat", "at"], str.split)
    assert trigrams.trigrams == sorted({"#ca", "cat", "at#", "#ha", "hat", "#at"})
    bags = trigrams.bags(["cat cat", "", "dog hat"])
    named = [sorted(trigrams.trigrams[row] for row in bags[bag]) for bag in range(3)]
    assert named == [sorted(["#ca", "cat", "at#"] * 2), [], ["#ha", "at#", "hat"]]


def test_the_network_is_the_one_of_the_paper() -> None:
    network = DssmNetwork(40, seed=3)
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 3, (6, 40))
    bags = LetterTrigrams([str(row) for row in range(40)], str.split)
    assert bags.trigrams[7] == "7"
    network.bias.assign(rng.normal(size=network.bias.shape) / 10)
    table, first, *rest = (variable.numpy() for variable in (network.table.embeddings, *network.dense))
    hidden = np.tanh(counts @ table + first)
    for kernel, bias in zip(rest[::2], rest[1::2], strict=True):
        hidden = np.tanh(hidden @ kernel + bias)
    expected = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
    values = np.concatenate([np.repeat(np.arange(40), row) for row in counts]).astype(np.int32)
    splits = np.concatenate([[0], np.cumsum(counts.sum(axis=1))])
    found = network(dssm._ragged(dssm.Bags(values, splits))).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.shape == (6, dssm.WIDTHS[-1])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return make_shop(tmp_path_factory.mktemp("coded"), skips=True)


@pytest.fixture(scope="module")
def dataset(config: Config) -> Dataset:
    return Dataset.load(config.dataset_dir)


def test_training_learns_relations_that_only_clicks_contain(dataset: Dataset) -> None:
    context = BuildContext(dataset, ENTRIES, seed=1, progress=False)
    tuning = context.tuning_examples
    assert tuning is not None
    trained = context.exhaustive("dssm")
    asked = make_examples(np.array(CODES, dtype=object), np.zeros(len(CODES), INTERACTION), seed=1)
    titles = item_texts(dataset)
    found, _ = trained.retrieve(asked, 5)
    right = [[COLOURS[row] in titles[item] for item in items] for row, items in enumerate(found)]
    assert np.mean(right) > 0.8
    assert "83%" in context.notes[-1]  # five codes of six have skipped items
    bm25 = context.exhaustive("bm25")
    assert mean_reciprocal_rank(trained, tuning) > 1.5 * mean_reciprocal_rank(bm25, tuning)


def test_cached_weights_are_read_back_for_the_same_dataset_and_seed_only(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dssm, "_MOST_ROUNDS", 1)
    asked = make_examples(np.array(CODES, dtype=object), np.zeros(len(CODES), INTERACTION), seed=1)

    def trained(seed: int = 1) -> np.ndarray:
        context = BuildContext(dataset, ENTRIES, seed, work_dir=tmp_path, progress=False)
        return context.exhaustive("dssm").scores(asked)

    first = trained()
    monkeypatch.setattr(DssmRetriever, "fit", lambda *_, **__: pytest.fail("trained again"))
    np.testing.assert_array_equal(trained(), first)
    cache = tmp_path / "evaluation"
    assert [path.name for path in cache.iterdir()] == ["dssm.npz"]
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        trained(seed=2)
    cache.joinpath("dssm.npz").write_bytes(cache.joinpath("dssm.npz").read_bytes()[:100])
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        trained()


def test_a_log_without_skips_is_noted_and_evaluation_reads_logs_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dssm, "_MOST_ROUNDS", 1)
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
