"""Where judgements are kept and learnt from: one file, unless the configuration says otherwise."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from page_process import NO_SERVER, bare_configuration, running_page

from dpsr.cli import main
from dpsr.config import load_config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.judgements.records import Book, Judgement
from dpsr.data.judgements.store import JudgementStore


@pytest.mark.parametrize(
    ("overrides", "kept", "learnt"),
    [
        ([], "work/judgements.sqlite", None),
        (["data.judgements={}"], "work/judgements.sqlite", "work/judgements.sqlite"),
        (["data.judgements={}", "page.judgements={folder}/a"], "a", "a"),
        (["data.judgements.path={folder}/b"], "work/judgements.sqlite", "b"),
        (["data.judgements.path={folder}/b", "page.judgements={folder}/a"], "a", "b"),
    ],
)
def test_what_is_learnt_from_is_what_the_page_keeps_unless_it_is_named(
    tmp_path: Path, overrides: list[str], kept: str, learnt: str | None
) -> None:
    config = load_config(bare_configuration(tmp_path), [each.replace("{folder}", str(tmp_path)) for each in overrides])
    assert config.page_judgements == tmp_path / kept
    assert config.learnt_judgements == (None if learnt is None else tmp_path / learnt)


def test_prepare_and_badcases_read_what_the_page_keeps(tmp_path: Path) -> None:
    ids = [f"i{number}" for number in range(20)]
    pq.write_table(pa.table({"item_id": ids, "title": [f"thing {item}" for item in ids]}), tmp_path / "items.parquet")
    pq.write_table(pa.table({"query": ["up", "down"] * 10, "item_id": ids}), tmp_path / "log.parquet")
    text = bare_configuration(tmp_path).read_text(encoding="utf-8")
    for name in ("items", "log"):
        text = text.replace(f'"{name}.parquet"', f'"{tmp_path}/{name}.parquet"')
    file = tmp_path / "shop.toml"
    file.write_text(f"{text}[data.judgements]\n[tokenizer]\nmin_count = 1\n", encoding="utf-8")
    config = load_config(file)
    done = CliRunner().invoke(main, ["prepare", "-c", str(file)])
    assert (done.exit_code, "data.judgements.path" in done.output) == (1, True), "there is none yet"
    store = JudgementStore(config.page_judgements)
    store.add_book(Book(name="book"))
    store.judge(Judgement(book="book", judge="ann", query="up", item_id="i3", grade=2))
    store.close()
    done = CliRunner().invoke(main, ["prepare", "-c", str(file)])
    assert done.exit_code == 0, done.output
    assert Dataset.load(config.dataset_dir).labels()["label"].tolist() == [2.0]
    done = CliRunner().invoke(main, ["badcases", "-c", str(file)])
    assert "holds no version" in done.output, "the store was read"


@pytest.mark.parametrize("same", [True, False])
def test_the_page_says_that_another_file_is_learnt_from(tmp_path: Path, same: bool) -> None:
    folder = tmp_path / "work"
    other = folder / ".." / "work" / "judgements.sqlite" if same else tmp_path / "other.sqlite"
    with running_page(bare_configuration(tmp_path), *NO_SERVER, "--set", f"data.judgements.path={other}") as page:
        page.process.terminate()
        assert page.process.stdout is not None
        said = page.process.stdout.read()
        assert said == ("" if same else f"`dpsr prepare` learns from another file: data.judgements.path is {other}\n")
        assert page.process.wait(30) == 0
