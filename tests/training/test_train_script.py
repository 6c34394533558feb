"""``python train.py``: the training of a prepared dataset from the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dpsr.config import load_config
from dpsr.data.prepare.job import prepare

ROOT = Path(__file__).resolve().parents[2]


def run_script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "train.py", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A shop of 30 items and 200 clicks, each query naming its item."""
    words = [f"thing{row} kind{row % 7}" for row in range(30)]
    items = ["item_id,title", *(f"{row},{title}" for row, title in enumerate(words))]
    clicks = ["query,item_id", *(f"thing{row % 30},{row % 30}" for row in range(200))]
    (tmp_path / "items.csv").write_text("\n".join(items) + "\n")
    (tmp_path / "clicks.csv").write_text("\n".join(clicks) + "\n")
    path = tmp_path / "shop.toml"
    path.write_text(
        f"""
        name = "shop"
        work_dir = "{tmp_path / "run"}"
        data.items = {{ path = "{tmp_path / "items.csv"}" }}
        data.interactions = {{ path = "{tmp_path / "clicks.csv"}" }}
        tokenizer = {{ min_count = 1, oov_buckets = 16 }}
        model = {{ dimension = 16 }}
        loss = {{ group_size = 8 }}
        training = {{ batch_size = 16 }}
        """
    )
    return path


def test_train_script(config_file: Path) -> None:
    config = load_config(config_file)
    prepare(config)
    done = run_script("--config", config_file, "--set", "training.epochs=2")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((config.checkpoint_dir / "metrics.json").read_text())
    assert [epoch["epoch"] for epoch in metrics["epochs"]] == [1, 2]
    refused = run_script("--config", config_file, "--set", "model.heads=1")
    assert refused.returncode == 1
    assert "model.heads = 2 there, 1 here" in refused.stderr


def test_errors_are_one_message(config_file: Path) -> None:
    missing = run_script("--config", config_file)
    assert missing.returncode == 1
    assert "dpsr prepare" in missing.stderr
    assert "Traceback" not in missing.stderr
    wrong = run_script("--config", config_file, "--set", "loss.kind=cosine")
    assert wrong.returncode == 2
    assert "loss.kind = 'cosine'" in wrong.stderr
    assert run_script().returncode == 2
