"""The loop: what people report of a version is right in the next one, and the rest stays as good."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
from true_cases import CASES, LEAST_FIXED, Grades, difference, true_cases, true_grades

from dpsr.cli import main
from dpsr.cli.demo import EXAMPLE, SIZES
from dpsr.config import Config, load_config
from dpsr.data.dataset.schema import INTERACTION
from dpsr.data.dataset.tables import Dataset
from dpsr.data.demo_shop.shop import generate
from dpsr.data.judgements.records import BadCase
from dpsr.data.judgements.store import JudgementStore
from dpsr.data.prepare.job import prepare
from dpsr.evaluation.bad_cases import CheckedCases, check_cases
from dpsr.indexing.publish import export
from dpsr.model.feature_tables import feature_tables
from dpsr.model.run_files import CheckpointError
from dpsr.model.trained import load_trained
from dpsr.training.catalogue_scores import CatalogueScores
from dpsr.training.trainer import train


class Trained(NamedTuple):
    """A model and its dataset."""

    config: Config
    dataset: Dataset
    model: Any

    def scores(self) -> CatalogueScores:
        tables = feature_tables(self.config.model, self.dataset)
        return CatalogueScores(self.model, tables, self.dataset.schema.num_items)

    def lists(self, queries: Sequence[str]) -> dict[str, list[str]]:
        """All items for every query, best first."""
        rows = {text: row for row, text in enumerate(self.dataset.query_texts().to_pylist())}
        records = np.zeros((len(queries), INTERACTION.itemsize // 4), np.int32)
        records[:, 0], records[:, 1] = [rows[query] for query in queries], -1
        scores = np.concatenate([block.numpy() for _, block in self.scores().of_records(records)])
        order = np.argsort(-scores, axis=1, kind="stable")
        return {query: self.dataset.item_ids[row].tolist() for query, row in zip(queries, order, strict=True)}

    def ranks(self) -> np.ndarray:
        """Rank of the clicked item of every record of the test split, from 1."""
        records = self.dataset.interactions("test")
        found = []
        for block, scores in self.scores().of_records(records.view(np.int32).reshape(len(records), -1)):
            clicked = scores.numpy()[np.arange(len(block)), block[:, 2]]
            found.append((scores.numpy() > clicked[:, np.newaxis]).sum(axis=1) + 1)
        return np.concatenate(found)


class Loop(NamedTuple):
    """Two versions, and what was reported of the first."""

    first: Trained
    cases: list[BadCase]
    second: Trained


def trained(config: Config) -> Trained:
    dataset = Dataset.load(prepare(config, progress=False))
    train(config, dataset, resume=False, progress=False)
    return Trained(config, dataset, load_trained(config.checkpoint_dir, dataset))


def bad_cases(first: Trained, grades: Grades) -> list[BadCase]:
    """Half of them wrong, half of them missing, in the lists of the first version."""
    known = set(first.dataset.query_texts().to_pylist())
    lists = first.lists([query for query in grades if query in known])
    return [
        BadCase(
            id=number,
            query=case.query,
            kind=case.kind,
            item_id=case.item_id,
            judge="generator",
            version=1,
            rank=lists[case.query].index(case.item_id) + 1,
        )
        for number, case in enumerate(true_cases(lists, grades, CASES), 1)
    ]


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    folder = tmp_path_factory.mktemp("loop")
    items, users, clicks = SIZES["small"]
    generate(folder / "shop", items=items, users=users, interactions=clicks, seed=1)
    text = EXAMPLE.read_text(encoding="utf-8").replace('"build/demo', f'"{folder}')
    store = folder / "judgements.sqlite"
    (folder / "shop.toml").write_text(f'{text}\n[data.judgements]\npath = "{store}"\n', encoding="utf-8")
    config = load_config(folder / "shop.toml")
    JudgementStore(store).close()
    first = trained(config)
    kept = JudgementStore(store)
    cases = [kept.report(case) for case in bad_cases(first, true_grades(folder / "shop"))]
    kept.close()
    prepare(config, progress=False)
    with pytest.raises(CheckpointError, match=r"labelled pairs of the dataset are others .* --no-resume"):
        train(config, Dataset.load(config.dataset_dir), progress=False)
    return Loop(first, cases, trained(load_config(folder / "shop.toml", [f'work_dir="{folder}/second"'])))


def checked(version: Trained, cases: Sequence[BadCase]) -> CheckedCases:
    lists = version.lists(sorted({case.query for case in cases}))
    return check_cases(cases, lists, version.dataset.item_ids.tolist(), version=2, published_at=None)


def test_reported_cases_are_right_in_the_next_version(loop: Loop) -> None:
    assert len(loop.cases) == CASES
    assert {case.kind for case in loop.cases} == {"wrong item", "missing item"}
    assert checked(loop.first, loop.cases).counts["fixed"] == 0
    found = checked(loop.second, loop.cases)
    assert found.counts["fixed"] >= LEAST_FIXED * CASES, found.to_text({})


def test_held_out_clicks_are_found_as_well_as_before(loop: Loop) -> None:
    before, after = (version.ranks() for version in (loop.first, loop.second))
    queries = loop.first.dataset.interactions("test")["query"]
    np.testing.assert_array_equal(queries, loop.second.dataset.interactions("test")["query"])
    for measure in (lambda ranks: ranks <= 100, lambda ranks: np.where(ranks <= 5, 1 / ranks, 0.0)):
        found = difference(measure(after).astype(float), measure(before).astype(float), queries)
        assert found.high >= 0.0, found


@pytest.mark.slow
def test_the_exported_version_answers_them_right(loop: Loop) -> None:
    second = loop.second
    export(second.config, second.dataset, second.model, progress=False)
    (version,) = second.config.model_base_path.iterdir()
    version.rename(version.with_name("2"))
    path = second.config.model_base_path.parents[2] / "shop.toml"
    found = CliRunner().invoke(
        main, ["badcases", "-c", str(path), "--set", f'work_dir="{second.config.work_dir}"', "--json"]
    )
    counts = json.loads(found.output)["counts"]
    assert counts["fixed"] >= LEAST_FIXED * CASES
    assert found.exit_code == (1 if counts["still bad"] else 0)
