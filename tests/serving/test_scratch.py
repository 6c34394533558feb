"""Folders in the temporary directory: whose they are, and what becomes of those of killed processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dpsr.serving.scratch import ScratchFolder, hold

HOLDER = """
import sys, time
from pathlib import Path
from dpsr.serving.scratch import ScratchFolder, hold
print(ScratchFolder("dpsr-test-", sys.argv[1]).path if len(sys.argv) == 2 else hold(Path(sys.argv[2])), flush=True)
time.sleep(600)
"""


def start(*arguments: object) -> tuple[subprocess.Popen[str], str]:
    """Starts a process that makes a folder, or holds another's; returns the line that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, *map(str, arguments)], stdout=subprocess.PIPE, text=True, cwd="/"
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_folder_is_its_user_s_alone_until_it_is_removed(tmp_path: Path) -> None:
    folder = ScratchFolder("dpsr-test-", str(tmp_path))
    (folder.path / "file").write_text("text")
    assert folder.path.parent == tmp_path
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_directory_is_the_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert ScratchFolder("dpsr-test-").path.parent == tmp_path
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="nothing"):
        ScratchFolder("dpsr-test-")


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    process, path = start(tmp_path)
    (Path(path) / "file").write_text("text")
    (tmp_path / "dpsr-other-1").mkdir()
    (tmp_path / "dpsr-test-file").write_text("text")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "dpsr-test-link").symlink_to(tmp_path / "elsewhere")
    kept = {"dpsr-other-1", "dpsr-test-file", "dpsr-test-link", "elsewhere"}
    mine = ScratchFolder("dpsr-test-", str(tmp_path))
    assert {each.name for each in tmp_path.iterdir()} == kept | {mine.path.name, Path(path).name}
    end(process)
    another = ScratchFolder("dpsr-test-", str(tmp_path))
    assert {each.name for each in tmp_path.iterdir()} == kept | {mine.path.name, another.path.name}


def test_a_folder_lives_as_long_as_anyone_holds_it(tmp_path: Path) -> None:
    process, path = start(tmp_path)
    holder, _ = start(tmp_path, path)
    end(process)
    ScratchFolder("dpsr-test-", str(tmp_path)).remove()
    assert Path(path).is_dir()
    end(holder)
    ScratchFolder("dpsr-test-", str(tmp_path)).remove()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        hold(Path(path))


def test_another_user_s_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / "dpsr-test-left"
    left.mkdir()
    me = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: me + 1)
    with pytest.raises(PermissionError, match="another user"):
        hold(left)
    with pytest.raises(PermissionError, match="another user"):
        ScratchFolder("dpsr-test-", str(tmp_path))  # what it makes is not its own here
    assert left.is_dir()


def test_processes_that_start_together_have_a_folder_each(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        made = pool.starmap(_make, [(str(tmp_path),)] * 40)
        assert len(set(made)) == 40
        assert {str(each) for each in tmp_path.iterdir()} == set(made)


_held: list[ScratchFolder] = []


def _make(parent: str) -> str:
    _held.append(ScratchFolder("dpsr-test-", parent))
    return str(_held[-1].path)
