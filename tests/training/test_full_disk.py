"""A disk without space, a real one: a file system of 64 KiB."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import pathlib, sys
from dpsr.training import checkpoints
folder = pathlib.Path(sys.argv[1])
checkpoints.write_json(folder / "metrics.json", {"epochs": 1})
(folder / "ckpt-1_temp").mkdir()
try:
    with checkpoints.writing(folder):
        (folder / "ckpt-1_temp" / "part").write_bytes(bytes(1 << 20))
except checkpoints.CheckpointError as error:
    print(error)
assert not (folder / "ckpt-1_temp").exists(), "what was written by half is removed"
try:
    checkpoints.write_json(folder / "metrics.json", {"epochs": "1" * (1 << 20)})
except checkpoints.CheckpointError as error:
    print(error)
print(*(path.name for path in folder.iterdir()), (folder / "metrics.json").read_text())
"""


def test_a_full_disk_is_named_and_leaves_nothing_by_half(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=64k tmpfs {tmp_path} || exit 77"
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", f'{mount}; "$@"', "sh"]
    done = subprocess.run([*command, sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    first, second, *listing = done.stdout.splitlines()
    for error in (first, second):
        assert error.startswith(f"{tmp_path}: the disk is full, and no checkpoint can be written; free some space")
    assert listing[:3] == ["metrics.json {", '  "epochs": 1', "}"], "the file from before is whole"
