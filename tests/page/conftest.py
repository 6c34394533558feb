"""Puts the tests' own modules on the path, and reads the shop's configuration."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from dpsr.config import Config, load_config


@pytest.fixture(scope="session")
def shop_config(page_shop: Path) -> Config:
    """Configuration of the shop; read-only."""
    return load_config(page_shop)
