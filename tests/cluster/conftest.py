"""A small prepared shop for clusters of real processes."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from dpsr.config import load_config
from dpsr.data.demo_shop.shop import generate
from dpsr.data.prepare.job import prepare

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "dpsr_h.toml"
SMALL = [
    "model.dimension=16",
    "model.hidden=[16]",
    "loss.group_size=32",
    "training.batch_size=64",
    "training.token_dropout=0",
    "training.epochs=2",
]


@pytest.fixture(scope="session")
def example() -> Path:
    """The configuration that the runs of ``shop`` override."""
    return EXAMPLE


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """A prepared shop; gives the overrides of a run of its own name."""
    folder = tmp_path_factory.mktemp("shop")
    generate(folder / "shop", items=300, users=60, interactions=4000, seed=1)
    tables = tomllib.loads(EXAMPLE.read_text())["data"]
    paths = [f"data.{name}.path={folder / 'shop' / name}.parquet" for name in tables]
    prepare(load_config(EXAMPLE, [f"work_dir={folder}", *paths]), progress=False)

    def overrides(name: str) -> list[str]:
        run = folder / name
        run.mkdir()
        (run / "dataset").symlink_to(folder / "dataset")
        return [f"work_dir={run}", *paths, *SMALL]

    return overrides
