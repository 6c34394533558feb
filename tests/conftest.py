"""Shared fixtures of the whole suite."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
LIGHT = frozenset((TESTS / "light.txt").read_text(encoding="utf-8").split())
"""Test files that need neither TensorFlow nor a server: what ``make check`` runs."""
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["TF_USE_LEGACY_KERAS"] = "1"  # before tf.keras is first looked at: TensorFlow Recommenders asks for Keras 2
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
    parser.addoption("--light", action="store_true", help="only the files of tests/light.txt, with TensorFlow blocked")


def pytest_configure(config: pytest.Config) -> None:
    """With ``--light``, blocks TensorFlow in this process and in those that it starts."""
    if missing := sorted(name for name in LIGHT if not (TESTS / name).is_file()):
        raise pytest.UsageError(f"tests/light.txt names files that do not exist: {', '.join(missing)}")
    if config.getoption("--light"):
        blocker = str(TESTS / "without_tensorflow")
        sys.path.insert(0, blocker)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [blocker, os.environ.get("PYTHONPATH")]))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``--light``, leaves out every other file, and folders without a light one, whose fixtures may need more."""
    if not config.getoption("--light") or not collection_path.is_relative_to(TESTS) or collection_path == TESTS:
        return None
    name = collection_path.relative_to(TESTS).as_posix()
    wanted = name in LIGHT or any(light.startswith(f"{name}/") for light in LIGHT)
    return None if wanted else True


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
        leaf = ("-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=critical,digitalSignature")
        for name in ("server", "client"):
            alternative = "subjectAltName=DNS:localhost,IP:127.0.0.1"
            new(name, "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", alternative, *leaf)
        new("stranger", *leaf)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"openssl 3 is needed to make certificates: {error}")
    return folder


@pytest.fixture(scope="session")
def page_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration file of the trained shop of ``page/page_shop.py``; read-only, shared by the workers of a run."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "page_shop"
    with (base / "page_shop.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            # In a process of its own: what training holds of memory ends with it.
            script = TESTS / "page" / "page_shop.py"
            subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
            (folder / "ready").touch()
    return folder / "shop.toml"
