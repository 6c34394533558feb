"""A job that fails or is killed at any step leaves a whole dataset, the old or the new one, and the next job works."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dpsr.data.dataset.locks import exclusive
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare

from .conftest import Raw, random_raw

PROGRAM = """
import json, resource, signal, sys
from dpsr.config import parse_config
from dpsr.data.dataset import spill
from dpsr.data.prepare.job import prepare
spill.BUCKET_RECORDS = 50
limit = int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
prepare(parse_config(json.loads(sys.argv[1]), "test"), progress=False)
"""


def start(raw: Raw, limit: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, raw.config().model_dump_json(), str(limit)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def digests(root: Path) -> dict[str, str]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("at", ["scratch/log", "scratch/users.00001", "interactions/train/part-00000.bin"])
def test_a_killed_job_can_be_run_again(tmp_path: Path, at: str) -> None:
    raw = random_raw(tmp_path, rows=40_000)
    raw.write()
    work = tmp_path / "work"
    process = start(raw)
    deadline = time.monotonic() + 120
    while not (work / "dataset.partial" / at).exists():
        assert process.poll() is None, f"ended before it wrote {at}"
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()  # type: ignore[union-attr]
    assert sorted(path.name for path in work.iterdir()) == ["dataset.lock", "dataset.partial"]
    root = prepare(raw.config(), progress=False)
    assert [path.name for path in work.iterdir()] == ["dataset"]
    assert digests(root) == digests(prepare(raw.config("other"), progress=False))


def test_a_job_killed_between_the_renames_leaves_the_dataset_before(raw: Raw) -> None:
    root = prepare(raw.config(), progress=False)
    before = digests(root)
    root.rename(root.with_name("dataset.old"))
    raw.items = []
    (raw.directory / "items.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="has no rows and no columns"):
        prepare(raw.config(), progress=False)
    assert digests(root) == before
    assert [path.name for path in root.parent.iterdir()] == ["dataset"]


class Step:
    """Counts the calls that replace a directory, and lets one of them fail, before or after it was carried out."""

    CALLS = ((os, "rename"), (os, "fsync"), (shutil, "rmtree"))

    def __init__(self, patch: pytest.MonkeyPatch, failing: int, *, after: bool) -> None:
        self.calls: list[str] = []
        for module, name in self.CALLS:
            patch.setattr(module, name, self.failing_call(getattr(module, name), name, failing, after))

    def failing_call(self, call: Callable[..., Any], name: str, failing: int, after: bool) -> Callable[..., Any]:
        def replacement(*arguments: Any, **options: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) - 1 != failing:
                return call(*arguments, **options)
            if after:
                call(*arguments, **options)
            raise OSError(errno.EIO, f"injected failure of {name}")

        return replacement


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("append", [False, True])
def test_a_failure_at_any_step_leaves_the_old_or_the_new_dataset(tmp_path: Path, append: bool, after: bool) -> None:
    raw = random_raw(tmp_path, rows=60)
    raw.write()
    root = prepare(raw.config(), progress=False)
    old = root.with_name("copy")
    shutil.copytree(root, old)
    for row in raw.interactions:
        row["timestamp"] += timedelta(days=1)
        row["query"] += " new"
    raw.items[0]["title"] = "another title"
    raw.write()
    shutil.copytree(old, root.parent / "expected" / "dataset")
    new = digests(prepare(raw.config("work/expected"), append=append, progress=False))
    before, seen, failing = digests(old), Counter[str](), 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            step = Step(patch, failing, after=after)
            with suppress(OSError):
                prepare(raw.config(), append=append, progress=False)
        found = Dataset.load(root)
        assert digests(found.directory) in (before, new), (failing, step.calls)
        if len(step.calls) <= failing:
            break
        seen[step.calls[failing]] += 1
        for path in root.parent.iterdir():
            if path.name not in ("copy", "expected"):
                shutil.rmtree(path)
        shutil.copytree(old, root)
        failing += 1
    assert seen["rename"] >= 3
    assert seen["fsync"] >= len(new) + 1
    assert seen["rmtree"] >= 1
    assert sorted(path.name for path in root.parent.iterdir()) == ["copy", "dataset", "expected"]


KILLED = """
import json, os, shutil, signal, sys
from dpsr.config import parse_config
from dpsr.data.prepare.job import prepare
awaited = [call for call, number in json.loads(sys.argv[2]) for _ in range(number)]
after = sys.argv[3] == "after"
for module, name in ((os, "rename"), (os, "fsync"), (os, "unlink")):
    def killing(*arguments, call=getattr(module, name), name=name, **options):
        if awaited[:1] == [name]:
            del awaited[0]
            if not awaited:
                if after:
                    call(*arguments, **options)
                os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    setattr(module, name, killing)
prepare(parse_config(json.loads(sys.argv[1]), "test"), progress=False)
"""


@pytest.mark.parametrize(
    ("calls", "when", "survivor"),
    [
        ({"fsync": 3}, "before", "old"),
        ({"rename": 1}, "before", "old"),
        ({"rename": 1}, "after", "old"),  # the old dataset is aside, the new one is not at its place yet
        ({"rename": 2}, "after", "new"),
        ({"rename": 3}, "after", "new"),
        ({"rename": 3, "unlink": 5}, "after", "new"),  # five files of the old dataset are removed
    ],
)
def test_a_process_killed_at_a_step_leaves_the_old_or_the_new_dataset(
    raw: Raw, calls: dict[str, int], when: str, survivor: str
) -> None:
    root = prepare(raw.config(), progress=False)
    expected = {"old": digests(root)}
    raw.items[0]["title"] = "another title"
    raw.write()
    expected["new"] = digests(prepare(raw.config("other"), progress=False))
    command = [sys.executable, "-c", KILLED, raw.config().model_dump_json(), json.dumps(list(calls.items())), when]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert digests(Dataset.load(root).directory) == expected[survivor]
    assert digests(prepare(raw.config(), progress=False)) == expected["new"]
    assert [path.name for path in root.parent.iterdir()] == ["dataset"]


def test_of_two_jobs_at_once_the_second_is_told_who_is_first(tmp_path: Path) -> None:
    raw = random_raw(tmp_path, rows=40_000)
    raw.write()
    lock = tmp_path / "work/dataset.lock"
    first = start(raw)
    deadline = time.monotonic() + 120
    while not (lock.exists() and lock.read_text()):
        assert first.poll() is None, "ended before it had the lock"
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    first.send_signal(signal.SIGSTOP)  # so that it cannot end before the second comes
    second = start(raw)
    _, errors = second.communicate()
    assert second.returncode == 1
    assert f"DatasetError: {tmp_path}/work/dataset: process {first.pid} on {socket.gethostname()} writes" in errors
    first.send_signal(signal.SIGCONT)
    _, errors = first.communicate()
    assert first.returncode == 0, errors
    assert [path.name for path in lock.parent.iterdir()] == ["dataset"]
    assert digests(lock.parent / "dataset") == digests(prepare(raw.config("other"), progress=False))


def test_a_lock_is_held_by_one_thread_at_a_time(tmp_path: Path) -> None:
    inside = 0

    def hold(_: int) -> int:
        nonlocal inside
        with exclusive(tmp_path / "lock", wait=True):
            inside += 1
            most = inside
            time.sleep(0.0005)
            inside -= 1
        return most

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(hold, range(200))) == {1}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit", [20_000, 60_000])
def test_a_full_disk_is_an_error_that_leaves_the_dataset_before(tmp_path: Path, limit: int) -> None:
    raw = random_raw(tmp_path)
    raw.write()
    root = prepare(raw.config(), progress=False)
    before = digests(root)
    process = start(raw, limit)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "DatasetError" in errors
    assert "dataset.partial: no more could be written" in errors
    assert digests(root) == before
    assert [path.name for path in root.parent.iterdir()] == ["dataset"]
    assert Dataset.load(root).schema.num_items == 50


def test_all_rows_of_duplicate_ids_are_listed(raw: Raw) -> None:
    raw.items += raw.items[:7]
    raw.write()
    with pytest.raises(ValueError, match="7 values of item_id occur more than once"):
        prepare(raw.config(), progress=False)
    listed = (raw.directory / "work/dataset.rejected/items.jsonl").read_text().splitlines()
    file = str(raw.directory / "items.parquet")
    rows = [*range(7), *range(50, 57)]
    assert [json.loads(line) for line in listed] == [
        {"file": file, "row": row + 1, "reason": "duplicate item_id", "value": f"i{row % 50}"} for row in rows
    ]
    assert os.listdir(raw.directory / "work") == ["dataset.rejected"]
