"""Shared fixtures of the whole suite."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# With the variable a command whose output waits in a buffer would look as if each line reached its reader.
os.environ.pop("PYTHONUNBUFFERED", None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--target`` and ``--rest-target``: run the conformance tables against another server."""
    for name, variable in (("--target", "DPSR_SERVING_TARGET"), ("--rest-target", "DPSR_SERVING_REST_TARGET")):
        parser.addoption(
            name,
            metavar="HOST:PORT",
            default=os.environ.get(variable, ""),
            help=f"the server that tests/serving/test_conformance*.py speak to; by default {variable}, or one of ours",
        )


@pytest.fixture(scope="session")
def dpsr_data() -> Path:
    """The folder of real data; skips the test where it is missing."""
    folder = Path(os.environ.get("DPSR_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set DPSR_DATA")
    return folder


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ca``, and ``server`` and ``client`` signed by it; ``stranger`` signed by itself."""
    folder = tmp_path_factory.mktemp("keys")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    def new(name: str, *more: str) -> None:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        openssl("req", "-x509", *curve, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}", *more)

    try:
        new("ca", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
        for name in ("server", "client"):
            new(name, "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        new("stranger")
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"openssl 3 is needed to make certificates: {error}")
    return folder
