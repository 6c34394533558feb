"""Puts the tests' own modules on the path, and makes the small shop once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import small_shop

from dpsr.config import Config


@pytest.fixture(scope="session")
def small_config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Configuration of the small shop, ``shop.toml`` in the folder of its work_dir; read-only."""
    return small_shop.make(tmp_path_factory.mktemp("small_shop"))
