"""Files of scores: which pairs they hold, their range, and a student that learns them."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dpsr.baselines.context import Baseline, BuildContext
from dpsr.baselines.examples import QueryExamples, anonymous_examples
from dpsr.baselines.interfaces import Scorer
from dpsr.baselines.registry import ENTRIES
from dpsr.config import Config, ConfigError
from dpsr.data.dataset.schema import DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.compare.pair_scores import write_pair_scores
from dpsr.training.score_files import read_scores
from dpsr.training.trainer import train

from ..baselines.coded_shop import make_shop
from ..model.published import BERT, random_weights, write_checkpoint


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return make_shop(tmp_path_factory.mktemp("coded"), skips=False)


@pytest.fixture(scope="module")
def dataset(config: Config) -> Dataset:
    return Dataset.load(config.dataset_dir)


@pytest.mark.parametrize("clicks", [40, 5000])
def test_a_file_holds_each_clicked_pair_and_negatives_once_in_the_order_of_the_scores(
    config: Config, dataset: Dataset, tmp_path: Path, clicks: int
) -> None:
    path = tmp_path / "new" / "scores.parquet"
    written = write_pair_scores(config, dataset, "popularity", path, clicks=clicks, progress=False)
    table = pq.read_table(path)
    assert table.column_names == ["query", "item_id", "score"]
    queries, items = table["query"].to_pylist(), table["item_id"].to_pylist()
    pairs = list(zip(queries, items, strict=True))
    assert len(pairs) == len(set(pairs)) == written.pairs <= 5 * clicks
    train_clicks, texts = dataset.interactions("train"), dataset.query_texts().to_pylist()
    clicked = {(texts[each["query"]], dataset.item_ids[each["item"]]) for each in train_clicks}
    found = clicked & set(pairs)
    assert found == clicked if clicks == 5000 else 0 < len(found) < len(pairs)
    method = BuildContext(dataset, ENTRIES, seed=1, progress=False).method("popularity")
    assert isinstance(method, Scorer)
    row_of = {item: row for row, item in enumerate(dataset.item_ids)}
    rows = np.array([[row_of[item]] for item in items], np.int32)
    raw = method.score(anonymous_examples(np.array(queries, dtype=object), seed=1), rows)[:, 0].astype(float)
    scores = table["score"].to_numpy()
    assert written.mapped
    np.testing.assert_allclose(scores, np.tanh((raw - raw.mean()) / (2 * raw.std())), atol=1e-6)


class EvenItems:
    """Has no score of items with an odd row."""

    def score(self, examples: QueryExamples, candidates: np.ndarray) -> np.ndarray:
        return np.where(candidates % 2 == 0, candidates / 1000, -np.inf).astype(np.float32)


def test_pairs_without_a_score_are_counted_and_left_out(
    config: Config, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENTRIES, "even", Baseline("even", lambda context: EvenItems()))
    path = tmp_path / "scores.parquet"
    written = write_pair_scores(config, dataset, "even", path, clicks=200, progress=False)
    whole = write_pair_scores(config, dataset, "popularity", tmp_path / "all.parquet", clicks=200, progress=False)
    table = pq.read_table(path)
    assert 0 < written.without_score == whole.pairs - written.pairs
    assert len(table) == written.pairs
    assert not written.mapped
    row_of = {item: row for row, item in enumerate(dataset.item_ids)}
    rows = np.array([row_of[item] for item in table["item_id"].to_pylist()])
    np.testing.assert_allclose(table["score"], rows / 1000, rtol=1e-6)
    assert (rows % 2 == 0).all()
    monkeypatch.setattr(EvenItems, "score", lambda self, examples, candidates: np.full(candidates.shape, -np.inf))
    with pytest.raises(DatasetError, match=r"even has no score of any of [0-9,]+ pairs"):
        write_pair_scores(config, dataset, "even", tmp_path / "none.parquet", clicks=200, progress=False)
    assert not (tmp_path / "none.parquet").exists()


def test_a_bag_learns_the_scores_of_a_cross_encoder(config: Config, dataset: Dataset, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "bert", BERT, random_weights(BERT))
    options = config.evaluation.model_copy(update={"checkpoint": str(checkpoint)})
    teacher = config.model_copy(update={"work_dir": str(tmp_path), "evaluation": options})
    path = tmp_path / "scores.parquet"
    write_pair_scores(teacher, dataset, "cross-encoder", path, clicks=300, progress=False)
    assert (tmp_path / "evaluation" / "cross-encoder.npz").is_file()
    assert len(read_scores(path, dataset).scores) > 100
    sizes = {"batch_size": 16, "table_learning_rate": 0.1, "epochs": 0}
    student = config.model_copy(
        update={
            "work_dir": str(tmp_path / "student"),
            "training": config.training.model_copy(update=sizes),
            "loss": config.loss.model_copy(update={"group_size": 16}),
            "distillation": config.distillation.model_copy(update={"scores": str(path), "epochs": 6}),
        }
    )
    epochs = train(student, dataset, progress=False)["epochs"]
    assert {epoch["stage"] for epoch in epochs} == {"scores"}
    assert epochs[-1]["train_loss"] < 0.8 * epochs[0]["train_loss"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dpsr", "cannot score pairs: no trained model takes part"),
        ("bm25>lsa@10", "only retrieves, it scores no given pairs"),
        ("bm52", "unknown method 'bm52'"),
    ],
)
def test_a_method_that_cannot_score_is_an_error(
    name: str, message: str, config: Config, dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        write_pair_scores(config, dataset, name, tmp_path / "scores.parquet", clicks=10, progress=False)
    assert not list(tmp_path.iterdir())
