"""A job that is killed or finds the disk full leaves nothing that a later one would trip over."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
    assert [path.name for path in work.iterdir()] == ["dataset.partial"]
    root = prepare(raw.config(), progress=False)
    assert [path.name for path in work.iterdir()] == ["dataset"]
    assert digests(root) == digests(prepare(raw.config("other"), progress=False))


def test_a_job_killed_between_the_renames_leaves_the_dataset_before(raw: Raw) -> None:
    root = prepare(raw.config(), progress=False)
    before = digests(root)
    root.rename(root.with_name("dataset.old"))
    raw.items = []
    (raw.directory / "items.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="not a Parquet file"):
        prepare(raw.config(), progress=False)
    assert digests(root) == before
    assert [path.name for path in root.parent.iterdir()] == ["dataset"]


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
