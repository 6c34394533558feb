from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dpsr.indexing.versions import publish, remove_old_versions, staging_directory

WRITES_FOR_EVER = """
import signal, sys
from pathlib import Path
from dpsr.indexing.versions import staging_directory
with staging_directory(Path(sys.argv[1])) as staging:
    (staging / "servable").mkdir()
    (staging / "servable" / "half").write_text("half")
    print(staging, flush=True)
    signal.pause()
"""


def publish_one(base: Path, content: str) -> Path:
    with staging_directory(base) as staging:
        (staging / "servable").mkdir()
        (staging / "servable" / "file").write_text(content)
        return publish(staging / "servable", base)


def names(base: Path) -> set[str]:
    return {path.name for path in base.iterdir()}


def test_versions_count_up_from_one(tmp_path: Path) -> None:
    base = tmp_path / "servables" / "shop"
    assert [publish_one(base, text).name for text in "abc"] == ["1", "2", "3"]
    assert [(base / version / "file").read_text() for version in "123"] == ["a", "b", "c"]
    assert names(base) == {"1", "2", "3"}


def test_the_next_version_follows_the_largest_and_other_names_do_not_count(tmp_path: Path) -> None:
    for name in ("9", "10", "latest", "7.bak", ".hidden", "²"):
        (tmp_path / name).mkdir()
    assert publish_one(tmp_path, "").name == "11"


def test_a_version_taken_in_between_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = os.rename

    def late(source: Path, target: Path) -> None:
        if Path(target).name == "1":
            (tmp_path / "1").mkdir()
            (tmp_path / "1" / "file").write_text("other")
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert publish_one(tmp_path, "mine").name == "2"
    assert (tmp_path / "1" / "file").read_text() == "other"


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with staging_directory(tmp_path) as staging:
            (staging / "half").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert names(tmp_path) == set()


def test_a_killed_process_leaves_no_version_and_the_next_export_cleans_up(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES_FOR_EVER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    staging = Path(process.stdout.readline().strip())

    assert publish_one(tmp_path, "").name == "1"
    assert (staging / "servable" / "half").exists(), "the directory of a running export was removed"

    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert names(tmp_path) == {"1", staging.name}
    assert staging.name.startswith(".")
    assert publish_one(tmp_path, "").name == "2"
    assert names(tmp_path) == {"1", "2"}


def test_the_newest_versions_stay(tmp_path: Path) -> None:
    for name in ("1", "2", "9", "10", "11", "notes", ".tmp-elsewhere-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    removed = remove_old_versions(tmp_path, 2)
    assert {path.name for path in removed} == {"1", "2", "9"}
    assert {path.name for path in tmp_path.iterdir()} == {"10", "11", "notes", ".tmp-elsewhere-1"}
    assert (tmp_path / "11" / "file").exists()


@pytest.mark.parametrize("keep", [0, 3, 4])
def test_none_is_removed_that_is_to_be_kept(keep: int, tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        (tmp_path / name).mkdir()
    assert remove_old_versions(tmp_path, keep) == []
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2", "3"}
