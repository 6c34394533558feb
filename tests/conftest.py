"""Shared fixtures of the whole suite."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.fixture(scope="session")
def dpsr_data() -> Path:
    """The folder of real data; skips the test where it is missing."""
    folder = Path(os.environ.get("DPSR_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set DPSR_DATA")
    return folder
