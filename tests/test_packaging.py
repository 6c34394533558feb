"""The wheel: everything that is needed, nothing that is not."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dpsr.errors import DpsrError
from dpsr.ops_cc import library

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    return path


@pytest.mark.slow
def test_the_wheel_has_what_is_needed_and_nothing_else(wheel: Path) -> None:
    assert not wheel.name.endswith("-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    needed = {
        "dpsr/__init__.py",
        "dpsr/config/loading.py",
        "dpsr/examples/demo_shop.toml",
        "dpsr/evaluation/report/templates/page.html",
        "dpsr/evaluation/report/templates/style.css",
        "dpsr/cli/__main__.py",
        "dpsr/py.typed",
        "dpsr/ops_cc/_build_info.py",
        "dpsr/ops_cc/_dpsr_ops.so",
        "dpsr/ops_cc/library.py",
        "dpsr/page/static/index.html",
        "dpsr/page/static/main.js",
        "dpsr/serving/engine/_session.pyi",
        "dpsr/serving/fleet/proxy/fleet.lua",
        "dpsr/tokenizer_cc/_tokenizer.pyi",
        "dpsr/tokenizer_cc/tokenize_op.py",
    }
    assert needed <= names, needed - names
    for module in ("serving/engine/_session", "tokenizer_cc/_tokenizer"):
        assert any(name.startswith(f"dpsr/{module}.cpython") for name in names), module
    suffixes = {Path(name).suffix for name in names if name.startswith("dpsr/")}
    assert suffixes == {".css", ".html", ".js", ".lua", ".py", ".pyi", ".so", ".svg", ".toml", ".typed"}
    assert not {name.split("/")[1] for name in names} & {"tests", "benchmarks", "build", "setup.py", "core"}


@pytest.mark.slow
def test_the_installed_wheel_works_elsewhere(wheel: Path, tmp_path: Path) -> None:
    """Unpacked as pip would, before the checkout on the path, and run from another directory."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    script = """
import pathlib, sys, tempfile
import dpsr, tensorflow as tf
from dpsr.ops_cc import library
from dpsr.tokenizer_cc import VocabularyBuilder
from dpsr.tokenizer_cc.tokenize_op import TokenizeLayer
assert pathlib.Path(library.LIBRARY).is_relative_to(sys.argv[1]), library.LIBRARY
builder = VocabularyBuilder(max_vocabulary=9, min_count=1, oov_buckets=2, bigrams=True, trigrams=True)
builder.add(["steel sink"])
path = pathlib.Path(tempfile.mkdtemp()) / "tokenizer.model"
builder.build().save(path)
library.load_all()
import dpsr.serving.engine.loader
assert TokenizeLayer(path)(tf.constant(["steel sink"])).values.shape == [12]
"""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(site)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_template_of_the_page_is_package_data(tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    templates = {path.name for path in (ROOT / "evaluation" / "report" / "templates").iterdir()}
    assert {path.name for path in (tmp_path / "dpsr/evaluation/report/templates").iterdir()} == templates
    assert {"page.html", "style.css"} <= templates


def test_the_library_needs_no_path_of_this_machine() -> None:
    dynamic = subprocess.run(["readelf", "-d", str(library.LIBRARY)], capture_output=True, text=True, check=True).stdout
    assert "RPATH" not in dynamic
    assert "RUNPATH" not in dynamic
    assert "libtensorflow_framework.so.2" in dynamic


@pytest.mark.parametrize(
    ("distribution", "version", "message"),
    [
        ("tensorflow", "2.19.1", r"was compiled against TensorFlow 2\.20\.\d+, but TensorFlow 2\.19\.1 is installed"),
        ("protobuf", "7.0.0", r"protobuf 7\.0\.0 is installed, expected 6\.\*"),
        ("scann", "1.4.1", r"scann 1\.4\.1 is installed, expected 1\.4\.2\.\*"),
    ],
)
def test_misfits_are_named(monkeypatch: pytest.MonkeyPatch, distribution: str, version: str, message: str) -> None:
    installed = library.importlib.metadata.version
    monkeypatch.setattr(
        library.importlib.metadata, "version", lambda name: version if name == distribution else installed(name)
    )
    library.load.cache_clear()
    library.load_all.cache_clear()
    try:
        with pytest.raises(library.LibraryError, match=message):
            library.load_all()
    finally:
        library.load.cache_clear()
        library.load_all.cache_clear()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "_dpsr_ops.so")
    library.load.cache_clear()
    try:
        with pytest.raises(library.LibraryError, match="the op library is not built; run: pip install"):
            library.load()
    finally:
        library.load.cache_clear()


def test_a_damaged_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "_dpsr_ops.so").write_bytes(b"no library")
    monkeypatch.setattr(library, "LIBRARY", tmp_path / "_dpsr_ops.so")
    library.load.cache_clear()
    try:
        with pytest.raises(library.LibraryError, match=r"_dpsr_ops\.so: cannot be loaded: .*; build it again"):
            library.load()
    finally:
        library.load.cache_clear()


def test_native_errors_can_be_caught_as_both() -> None:
    """The command line prints a DpsrError as one line; an optional import catches an ImportError."""
    assert issubclass(library.LibraryError, DpsrError)
    assert issubclass(library.LibraryError, ImportError)


def test_a_missing_module_is_named() -> None:
    script = """
import sys
sys.modules["dpsr.tokenizer_cc._tokenizer"] = None
from dpsr.errors import DpsrError
try:
    import dpsr.tokenizer_cc
except DpsrError as error:
    sys.exit(str(error))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "the C++ module of the tokenizer cannot be imported" in done.stderr
    assert "build it: pip install" in done.stderr


@pytest.mark.slow
def test_the_stubs_are_those_of_the_module(tmp_path: Path) -> None:
    """Every name, argument and default of ``_tokenizer.pyi``, but for the metaclass that pybind11 gives classes."""
    (tmp_path / "allowed").write_text(
        "dpsr.tokenizer_cc._tokenizer.SubwordTokenizer\ndpsr.tokenizer_cc._tokenizer.Tokenizer\n"
        "dpsr.tokenizer_cc._tokenizer.VocabularyBuilder\n"
    )
    (tmp_path / "dpsr").symlink_to(ROOT)
    command = [sys.executable, "-m", "mypy.stubtest", "dpsr.tokenizer_cc._tokenizer", "--allowlist", "allowed"]
    options = ["--mypy-config-file", str(ROOT / "pyproject.toml")]
    environment = {**os.environ, "MYPYPATH": str(tmp_path)}
    done = subprocess.run([*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tokenizer_needs_no_tensorflow() -> None:
    script = (
        "import sys; from dpsr.tokenizer_cc import Tokenizer, subwords, tokenize; sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
