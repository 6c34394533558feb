"""The make targets on machines with and without gtest; the compiler's search path stands in for the machine."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORES = ("ops_cc/core", "serving/engine/native", "tokenizer_cc/core")


def make(core: str, *arguments: str) -> str:
    """Standard output of a successful ``make`` in the directory of a core."""
    command = ["make", "--no-print-directory", "-C", str(ROOT / core), *arguments]
    # Without the variables of an outer make, as `make test`.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("target", ["test", "sanitize", "skipped"])
def test_without_gtest_the_targets_succeed_and_say_what_they_skip(core: str, target: str) -> None:
    printed = make(core, target, "CPPFLAGS=-nostdinc -nostdinc++")
    assert printed.startswith(f"SKIPPED: the C++ unit tests of {ROOT / core} need gtest")
    assert "make deps-cc" in printed


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("clang++") is None, reason="libFuzzer needs clang++")
@pytest.mark.parametrize("core", CORES)
def test_fuzzers_find_nothing_in_half_a_minute_each(core: str, tmp_path: Path) -> None:
    make(core, "fuzz", "FUZZ_SECONDS=30", f"OUT={tmp_path}")


@pytest.mark.parametrize("core", CORES)
def test_with_gtest_the_tests_are_compiled_and_run(core: str, tmp_path: Path) -> None:
    (tmp_path / "gtest").mkdir()
    (tmp_path / "gtest" / "gtest.h").touch()
    flags = f"CPPFLAGS=-nostdinc -nostdinc++ -I{tmp_path}"
    # A dry run into an empty directory: the commands are printed, and no compiler sees the empty header.
    printed = make(core, "--dry-run", "test", flags, f"OUT={tmp_path}/out")
    assert "SKIPPED" not in printed
    assert "-c" in printed
    assert printed.splitlines()[-1] == f"{tmp_path}/out/core_test --gtest_brief=1"
    assert make(core, "skipped", flags) == ""
