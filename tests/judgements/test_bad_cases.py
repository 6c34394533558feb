"""``dpsr badcases``: states of reports, asked of an exported version and of a running server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from dpsr.cli import main
from dpsr.config import load_config
from dpsr.data.judgements.records import BadCase
from dpsr.data.judgements.store import JudgementStore
from dpsr.data.prepare.job import prepare
from dpsr.evaluation.bad_cases import CheckedCases, check_cases
from dpsr.serving import READY_PREFIX

IDS = [f"i{number}" for number in range(20)]
LISTS = {"up": IDS[:15], "down": IDS[:4:-1]}


def case(kind: Any, item: str, *, query: str = "up", **more: Any) -> BadCase:
    return BadCase(**{"id": 1, "query": query, "kind": kind, "item_id": item, "judge": "a", **more})


@pytest.mark.parametrize(
    ("found", "state", "rank"),
    [
        (case("wrong item", "i9", version=1), "still bad", 10),
        (case("wrong item", "i10", version=1), "fixed", 11),
        (case("wrong item", "i16", version=1), "fixed", None),
        (case("missing item", "i9", version=1), "fixed", 10),
        (case("missing item", "i10", version=1), "still bad", 11),
        (case("missing item", "i16", version=1), "still bad", None),
        (case("missing item", "i16", version=2), "new", None),
        (case("wrong item", "i0", version=3), "new", 1),
        (case("wrong item", "i0", version=2, query="down"), "fixed", None),
        (case("wrong item", "i0", reported_at=99.0), "still bad", 1),
        (case("wrong item", "i0", reported_at=100.0), "new", 1),
        (case("missing item", "x", version=1), "gone", None),
        (case("wrong item", "x", version=1), "gone", None),
    ],
)
def test_a_case_is_right_by_the_best_ten_and_new_until_a_version_is_made(found: BadCase, state: str, rank: int) -> None:
    (checked,) = check_cases([found], LISTS, IDS, version=2, published_at=100.0).cases
    assert (checked.state, checked.rank) == (state, rank)


def test_without_a_version_and_a_time_a_report_is_older() -> None:
    found = check_cases([case("wrong item", "i0", reported_at=1e12)], LISTS, IDS, version=2, published_at=None)
    assert found.counts == {"still bad": 1, "new": 0, "fixed": 0, "gone": 0}


def test_the_table_shows_what_is_bad_first_and_titles_as_text() -> None:
    cases = [case("missing item", "i3", rank=12, version=1), case("wrong item", "i0", rank=2, version=1)]
    text = check_cases(cases, LISTS, IDS, version=2, published_at=None).to_text({"i0": "<b>mug</b>", "i3": "cup"})
    bad, fixed = text.splitlines()[2:4]
    assert bad.split() == ["still", "bad", "up", "wrong", "<b>mug</b>", "2", "1"]
    assert fixed.split() == ["fixed", "up", "missing", "cup", "12", "4"]
    assert text.splitlines()[-1].startswith("version 2, 2 bad cases: 1 still bad (")
    assert CheckedCases(2, ()).to_text({}) == "no bad case is reported"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared shop whose two versions know two queries: version 2 answers each with the other's list."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("shop")
    pq.write_table(pa.table({"item_id": IDS, "title": [f"thing {item}" for item in IDS]}), folder / "items.parquet")
    log = {"query": ["up", "down"] * 50, "item_id": IDS * 5}
    pq.write_table(pa.table(log), folder / "log.parquet")
    (folder / "shop.toml").write_text(
        f'name = "t"\nwork_dir = "{folder}/work"\n[data.items]\npath = "{folder}/items.parquet"\n'
        f'[data.interactions]\npath = "{folder}/log.parquet"\n[data.judgements]\npath = "{folder}/judgements.sqlite"\n'
        "[tokenizer]\nmin_count = 1\n[serving]\nport = 0\nrest_port = -1\n",
        encoding="utf-8",
    )
    JudgementStore(folder / "judgements.sqlite").close()
    config = load_config(folder / "shop.toml")
    prepare(config, progress=False)

    class Versions(tf.Module):
        def __init__(self, first: list[str], second: list[str]) -> None:
            super().__init__()
            self.lists = tf.constant([first, second])

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="query")])
        def serving_default(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"item_id": tf.gather(self.lists, tf.cast(query == "down", tf.int32))}

    up, down = LISTS["up"], [*LISTS["down"][:13], "", ""]
    for version, lists in ((1, (up, down)), (2, (down, up))):
        module = Versions(*lists)
        tf.saved_model.save(module, str(config.model_base_path / str(version)), signatures=module.serving_default)
    return folder


@contextmanager
def reported(shop: Path, *cases: BadCase) -> Iterator[None]:
    """The given cases alone."""
    store = JudgementStore(shop / "judgements.sqlite")
    kept = [store.report(each) for each in cases]
    try:
        yield
    finally:
        for each in kept:
            store.withdraw(each.id)
        store.close()


def badcases(shop: Path, *options: str) -> tuple[int, str]:
    found = CliRunner().invoke(main, ["badcases", "-c", str(shop / "shop.toml"), *options])
    return found.exit_code, found.output


OLD = [case("wrong item", "i0", version=1, rank=1), case("missing item", "i19", version=1)]  # right in version 2


def test_the_newest_exported_version_is_asked_and_what_is_still_bad_fails(shop: Path) -> None:
    with reported(shop, *OLD, case("missing item", "i2", version=1, rank=3), case("wrong item", "i19", version=2)):
        code, output = badcases(shop, "--json")
        found = json.loads(output)
        assert code == 1
        assert (found["version"], found["counts"]) == (2, {"still bad": 1, "new": 1, "fixed": 2, "gone": 0})
        assert [each["state"] for each in found["cases"]] == ["fixed", "fixed", "still bad", "new"]
        assert [(each["rank"], each["rank_now"]) for each in found["cases"]] == [
            (1, None),
            (None, 1),
            (3, None),
            (None, 1),
        ]
        code, output = badcases(shop)
        assert code == 1
        assert "thing i2" in output
    with reported(shop, *OLD, case("wrong item", "i19", version=2), case("wrong item", "sold out", version=1)):
        code, output = badcases(shop)
        assert code == 0
        assert output.splitlines()[-1].startswith("version 2, 4 bad cases: 1 new (")
    assert badcases(shop) == (0, "no bad case is reported\n")


def test_a_running_server_is_asked_by_its_newest_version(shop: Path) -> None:
    command = [sys.executable, "-m", "dpsr.cli", "serve", "-c", str(shop / "shop.toml")]
    with (shop / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ)
    try:
        assert server.stdout is not None
        target = next(line for line in server.stdout if line.startswith(READY_PREFIX)).split()[-1]
        with reported(shop, *OLD, case("missing item", "i2", version=1)):
            code, output = badcases(shop, "--target", target, "--json")
            assert code == 1
            assert json.loads(output)["counts"] == {"still bad": 1, "new": 0, "fixed": 2, "gone": 0}
    finally:
        server.terminate()
        server.wait()
    with reported(shop, *OLD):
        code, output = badcases(shop, "--target", target)
        assert code == 1
        assert "see whether a server runs there" in output


def test_what_is_missing_is_said(shop: Path, tmp_path: Path) -> None:
    text = (shop / "shop.toml").read_text(encoding="utf-8")
    (tmp_path / "shop.toml").write_text(
        text.replace("[data.judgements]\n", "#").replace('path = "' + str(shop / "judgements"), "#")
    )
    found = CliRunner().invoke(main, ["badcases", "-c", str(tmp_path / "shop.toml")])
    assert found.exit_code == 2
    assert "data.judgements is missing" in found.output
    (tmp_path / "shop.toml").write_text(text.replace('name = "t"', 'name = "other"'))
    found = CliRunner().invoke(main, ["badcases", "-c", str(tmp_path / "shop.toml")])
    assert found.exit_code == 1
    assert "holds no version; run `dpsr export`" in found.output
