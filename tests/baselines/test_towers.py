"""What all towers share: symmetry, steps along the gradient, cached weights, and relations that only clicks contain."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.baselines.context import BuildContext, item_texts
from dpsr.baselines.examples import QueryExamples, anonymous_examples
from dpsr.baselines.fitting.towers import TowerRetriever, bags
from dpsr.baselines.registry import ENTRIES
from dpsr.baselines.tuning import mean_reciprocal_rank
from dpsr.data.dataset.tables import Dataset

from .coded_shop import CODES, COLOURS, make_shop

NAMES = ["dssm", "cdssm", "amazon sps"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset.load(make_shop(tmp_path_factory.mktemp("coded"), skips=True).dataset_dir)


def asked(*texts: str) -> QueryExamples:
    return anonymous_examples(np.array(texts, dtype=object), seed=1)


def context_of(dataset: Dataset, *, seed: int = 1, work_dir: Path | None = None) -> BuildContext:
    return BuildContext(dataset, ENTRIES, seed, work_dir=work_dir, progress=False)


def tower_of_untrained(dataset: Dataset, name: str, monkeypatch: pytest.MonkeyPatch) -> TowerRetriever:
    monkeypatch.setattr(TowerRetriever, "fit", lambda *_, **__: None)
    return tower_of(context_of(dataset), name)


def tower_of(context: BuildContext, name: str) -> TowerRetriever:
    method = context.method(name)
    assert isinstance(method, TowerRetriever)
    return method


@pytest.mark.parametrize("name", NAMES)
def test_training_learns_relations_that_only_clicks_contain(dataset: Dataset, name: str) -> None:
    context = context_of(dataset)
    trained, tuning, titles = tower_of(context, name), context.tuning_examples, item_texts(dataset)
    assert tuning is not None
    found, _ = trained.retrieve(asked(*CODES), 5)
    right = [[COLOURS[row] in titles[item] for item in items] for row, items in enumerate(found)]
    assert np.mean(right) > 0.8
    assert f"{name}: 83%" in context.notes[-1]  # five codes of six have skipped items
    bm25 = context.exhaustive("bm25")
    assert mean_reciprocal_rank(trained, tuning) > 1.5 * mean_reciprocal_rank(bm25, tuning)


@pytest.mark.parametrize("name", NAMES)
def test_queries_and_items_have_the_same_vectors(dataset: Dataset, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    retriever, titles = tower_of_untrained(dataset, name, monkeypatch), item_texts(dataset)
    scores = retriever.scores(asked(*titles))
    np.testing.assert_allclose(np.diag(scores), 1.0, atol=1e-5)
    vectors = retriever.tower(retriever.encode(titles))
    np.testing.assert_allclose(scores, vectors @ tf.transpose(vectors), atol=1e-5)
    known, empty = retriever.scores(asked("zk", ""))
    assert np.isfinite(known).all()
    assert np.isneginf(empty).all()
    assert retriever.index_bytes == vectors.numpy().nbytes


@pytest.mark.parametrize("name", NAMES)
def test_a_step_follows_the_gradient_of_the_loss(dataset: Dataset, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    retriever = tower_of_untrained(dataset, name, monkeypatch)
    tower, recipe = retriever.tower, retriever.recipe
    rng = np.random.default_rng(2)
    table = tower.table.embeddings
    table.assign(rng.normal(0.0, 0.5, table.shape))
    queries = retriever.encode(CODES)
    clicks = retriever._data.clicks[:12]
    query_rows = rng.integers(0, len(CODES), 12).astype(np.int32)
    item_rows = np.concatenate([clicks["item"][:, None], retriever.negatives(clicks, rng)], axis=1).astype(np.int32)
    asked_items = tf.gather(retriever.encode(item_texts(dataset)), np.maximum(item_rows, 0).ravel())
    texts = tf.concat([tf.gather(queries, query_rows), asked_items], axis=0)

    def loss() -> float:
        vectors = tower.vectors(tower.table.lookup(bags(texts)), texts, training=True)
        listed = tf.reshape(vectors[12:], [*item_rows.shape, -1])
        return float(retriever.loss(vectors[:12], listed, tf.constant(item_rows)))

    def slope(variable: tf.Variable, place: tuple[int, ...]) -> float:
        start, losses = variable.numpy(), []
        for change in (0.01, -0.01):
            moved = start.copy()
            moved[place] += change
            variable.assign(moved)
            losses.append(loss())
        variable.assign(start)
        return (losses[0] - losses[1]) / 0.02

    step, expected = retriever.compiled_step(queries), loss()
    rates = [(table, recipe.table_learning_rate), *((each, recipe.learning_rate) for each in tower.dense)]
    before = [variable.numpy() for variable, _ in rates]
    assert float(step(query_rows, item_rows)) == pytest.approx(expected, rel=1e-4)
    after = [variable.numpy() for variable, _ in rates]
    for (variable, _), start in zip(rates, before, strict=True):
        variable.assign(start)
    for (variable, rate), start, end in zip(rates, before, after, strict=True):
        moved = end - start
        # The first step of AdaGrad is rate * gradient / sqrt(accumulator + gradient^2).
        gradient = -moved * np.sqrt(recipe.accumulator / (rate**2 - moved**2))
        for flat in np.argsort(np.abs(gradient).ravel())[-3:]:
            place = tuple(map(int, np.unravel_index(flat, gradient.shape)))
            assert gradient[place] == pytest.approx(slope(variable, place), rel=0.05, abs=2e-4)


@pytest.mark.parametrize("name", NAMES)
def test_cached_weights_give_the_same_scores_for_the_same_dataset_and_seed_only(
    dataset: Dataset, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(tower_of_untrained(dataset, name, monkeypatch))
    monkeypatch.undo()
    monkeypatch.setattr(kind, "recipe", replace(kind.recipe, most_rounds=1))
    queries = asked(*CODES)
    first = tower_of(context_of(dataset, work_dir=tmp_path), name).scores(queries)
    again = tower_of(context_of(dataset), name).scores(queries)
    np.testing.assert_array_equal(again, first)
    monkeypatch.setattr(kind, "fit", lambda *_, **__: pytest.fail("trained again"))
    np.testing.assert_array_equal(tower_of(context_of(dataset, work_dir=tmp_path), name).scores(queries), first)
    cache = tmp_path / "evaluation" / f"{name}.npz"
    assert list(cache.parent.iterdir()) == [cache]
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        tower_of(context_of(dataset, seed=2, work_dir=tmp_path), name)
    cache.write_bytes(cache.read_bytes()[:100])
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        tower_of(context_of(dataset, work_dir=tmp_path), name)
