"""DSSM: input, negatives and network against plain Python, and learning of relations that only clicks contain."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsr.baselines import dssm
from dpsr.baselines.context import BuildContext, item_texts
from dpsr.baselines.dssm import (
    NEGATIVES,
    DssmNetwork,
    LetterTrigrams,
    SkippedNegatives,
    dssm_retriever,
    letter_trigrams,
)
from dpsr.baselines.examples import make_examples
from dpsr.baselines.registry import ENTRIES
from dpsr.baselines.tuning import mean_reciprocal_rank
from dpsr.config import Config, EvaluationConfig, parse_config
from dpsr.data.dataset.schema import CLICK, INTERACTION
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.evaluation.compare.evaluate import evaluate
from dpsr.model.two_tower import TwoTower


def log(clicks: list[tuple[int, int]]) -> np.ndarray:
    records = np.zeros(len(clicks), dtype=INTERACTION)
    records["query"], records["item"] = np.array(clicks).reshape(-1, 2).T
    records["event"] = CLICK
    return records


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


@pytest.mark.parametrize("seed", range(3))
def test_negatives_are_items_skipped_and_never_clicked_for_the_query(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_items = 30
    clicks = log([(int(rng.integers(8)), int(rng.integers(num_items))) for _ in range(60)])
    skips = log([(int(rng.integers(4)), int(rng.integers(num_items))) for _ in range(40)])
    blocks = np.array_split(clicks, 3)
    negatives = SkippedNegatives(clicks["query"], np.array_split(skips, 2), blocks, num_items)
    clicked = set(zip(clicks["query"].tolist(), clicks["item"].tolist(), strict=True))
    pools = {
        query: {item for q, item in zip(skips["query"].tolist(), skips["item"].tolist(), strict=True) if q == query}
        - {item for q, item in clicked if q == query}
        for query in range(8)
    }
    drawn_of: dict[int, set[int]] = {query: set() for query in range(8)}
    for _ in range(60):
        drawn = negatives.draw(clicks, rng)
        assert drawn.shape == (len(clicks), NEGATIVES)
        assert (drawn != clicks["item"][:, None]).all()
        for record, row in zip(clicks, drawn.tolist(), strict=True):
            drawn_of[int(record["query"])] |= set(row)
    for query in set(clicks["query"].tolist()):
        assert drawn_of[query] == pools[query] or not pools[query]
        if not pools[query]:
            assert len(drawn_of[query]) > num_items / 2  # from the whole catalogue
        assert negatives.has(np.array([query]))[0] == bool(pools[query])


def test_an_item_is_drawn_as_often_as_it_was_skipped() -> None:
    clicks, skips = log([(0, 9)] * 2000), log([(0, 1)] * 3 + [(0, 2)])
    drawn = SkippedNegatives(clicks["query"], [skips], [clicks], 10).draw(clicks, np.random.default_rng(1))
    assert np.mean(drawn == 1) == pytest.approx(0.75, abs=0.02)


def test_the_network_is_the_one_of_the_paper() -> None:
    network = DssmNetwork(40, seed=3)
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 3, (6, 40))
    bags = LetterTrigrams([str(row) for row in range(40)], str.split)
    assert bags.trigrams[7] == "7"
    table, first, *rest = network.weights()
    first[:] = rng.normal(size=first.shape) / 10
    network.assign([table, first, *rest])
    hidden = np.tanh(counts @ table + first)
    for kernel, bias in zip(rest[::2], rest[1::2], strict=True):
        hidden = np.tanh(hidden @ kernel + bias)
    expected = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
    values = np.concatenate([np.repeat(np.arange(40), row) for row in counts]).astype(np.int32)
    splits = np.concatenate([[0], np.cumsum(counts.sum(axis=1))])
    found = network(dssm._ragged(dssm.Bags(values, splits))).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.shape == (6, dssm.WIDTHS[-1])


COLOURS = ["red", "blue", "green", "pink", "grey", "teal"]
CODES = ["zk", "qx", "wv", "jf", "py", "mb"]  # typed queries, in no title


def make_shop(folder: Path, *, skips: bool) -> Config:
    """Titles have a colour, queries a code for one; only the log relates codes to colours."""
    rng = np.random.default_rng(5)
    colour = np.arange(60) % len(COLOURS)
    titles = [f"{COLOURS[kind]} thing {row}" for row, kind in enumerate(colour)]
    clicked = rng.integers(0, 60, 1200)
    query, item, event = [CODES[colour[each]] for each in clicked], list(clicked), ["click"] * 1200
    if skips:
        query += [CODES[kind] for kind in rng.integers(0, 5, 600)]
        item += list(rng.integers(0, 60, 600))
        event += ["skip"] * 600
    order = rng.permutation(len(query))
    columns = {
        "query": [query[row] for row in order],
        "item_id": [f"i{item[row]}" for row in order],
        "event": [event[row] for row in order],
        "timestamp": np.arange(len(order)) + 1_600_000_000,
    }
    pq.write_table(pa.table({"item_id": [f"i{row}" for row in range(60)], "title": titles}), folder / "items.parquet")
    pq.write_table(pa.table(columns), folder / "interactions.parquet")
    data = {name: {"path": str(folder / f"{name}.parquet")} for name in ("items", "interactions")}
    tree = {"name": "coded", "work_dir": str(folder / "run"), "data": data | {"valid_share": 0.1, "test_share": 0.1}}
    config = parse_config(tree | {"tokenizer": {"min_count": 1}, "evaluation": {"baselines": ["bm25", "dssm"]}}, "test")
    prepare(config, progress=False)
    return config


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
    trained, note = dssm_retriever(dataset, item_texts(dataset), str.split, tuning, seed=1, progress=False)
    asked = make_examples(np.array(CODES, dtype=object), np.zeros(len(CODES), INTERACTION), seed=1)
    titles = item_texts(dataset)
    found, _ = trained.retrieve(asked, 5)
    right = [[COLOURS[row] in titles[item] for item in items] for row, items in enumerate(found)]
    assert np.mean(right) > 0.8
    assert "83%" in note  # five codes of six have skipped items
    bm25 = context.exhaustive("bm25")
    assert mean_reciprocal_rank(trained, tuning) > 1.5 * mean_reciprocal_rank(bm25, tuning)


def test_cached_weights_are_read_back_for_the_same_dataset_and_seed_only(
    config: Config, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dssm, "_MOST_ROUNDS", 1)
    cache = tmp_path / "evaluation" / "dssm.npz"
    asked = make_examples(np.array(CODES, dtype=object), np.zeros(len(CODES), INTERACTION), seed=1)

    def trained(seed: int = 1) -> np.ndarray:
        found, _ = dssm_retriever(dataset, item_texts(dataset), str.split, None, seed=seed, cache=cache, progress=False)
        return found.scores(asked)

    first = trained()
    monkeypatch.setattr(dssm._Training, "run", lambda *_, **__: pytest.fail("trained again"))
    np.testing.assert_array_equal(trained(), first)
    assert [path.name for path in cache.parent.iterdir()] == ["dssm.npz"]
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        trained(seed=2)
    cache.write_bytes(cache.read_bytes()[:100])
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
