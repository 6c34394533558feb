"""The stages of a transformer on a real cluster: the losses of one machine, and checkpoints that one machine reads."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.cluster.up import LocalCluster
from dpsr.config import load_config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.training.trainer import train

from ..training.language_shop import SIZES, write_shop

CONFIG = """
name = "shop"
work_dir = "{folder}"

[data]
valid_share = 0.2
items = {{ path = "{folder}/items.csv", text = ["title", "brand"] }}
interactions = {{ path = "{folder}/log.csv" }}

[tokenizer]
min_count = 1
subwords = {{ vocabulary = 120 }}

[model]
text_encoder = "transformer"
dimension = 16
hidden = []
heads = 1
residual = true
shared_tokens = true
transformer = {{ {sizes} }}

[loss]
kind = "softmax"
group_size = 8
mined_negatives = 2

[mlm]
epochs = 2
batch_size = 16
learning_rate = 0.01
accumulate = 2

[training]
optimizer = "adamw"
epochs = 2
batch_size = 32
learning_rate = 0.01
keep_checkpoints = 9
"""


@pytest.mark.slow
def test_stages_on_a_cluster_are_those_of_one_machine(tmp_path: Path) -> None:
    """One worker takes the steps in their order; then one machine goes on from the cluster's last step of ``mlm``."""
    write_shop(tmp_path)
    file = tmp_path / "shop.toml"
    file.write_text(
        CONFIG.format(folder=tmp_path, sizes=", ".join(f"{name} = {value}" for name, value in SIZES.items()))
    )
    prepare(load_config(file), progress=False)
    dataset = Dataset.load(tmp_path / "dataset")
    runs = {}
    for name in ("alone", "clustered", "onwards"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset").symlink_to(tmp_path / "dataset")
        runs[name] = load_config(file, [f"work_dir={tmp_path / name}"])
    expected = train(runs["alone"], dataset, progress=False)["epochs"]
    config = runs["clustered"]
    command = [sys.executable, "-m", "dpsr.train", "-c", str(file), "--set", f"work_dir={config.work_dir}"]
    with LocalCluster(command, workers=1, ps=1, logs=tmp_path / "logs") as cluster:
        assert cluster.wait() == 0, (tmp_path / "logs" / "chief-0.log").read_text()
    found = json.loads((config.checkpoint_dir / "metrics.json").read_text())["epochs"]
    assert [epoch["stage"] for epoch in found] == 2 * ["mlm"] + 2 * ["training"]
    for ours, theirs in zip(found, expected, strict=True):
        for figure in ("train_loss", "valid_loss"):
            np.testing.assert_allclose(ours[figure], theirs[figure], rtol=5e-3)
    onwards = runs["onwards"].checkpoint_dir
    shutil.copytree(config.checkpoint_dir, onwards)
    first_steps = -(-(dataset.schema.num_items - dataset.schema.num_items // 20) // config.mlm.batch_size)
    after_mlm = str(onwards / f"ckpt-{2 * first_steps}")
    tf.compat.v1.train.update_checkpoint_state(str(onwards), after_mlm)
    again = train(runs["onwards"], dataset, progress=False)["epochs"]
    assert again[:2] == found[:2]
    for ours, theirs in zip(again[2:], found[2:], strict=True):
        np.testing.assert_allclose(ours["train_loss"], theirs["train_loss"], rtol=5e-3)
