"""Estimates of memory from the files of a servable."""

import subprocess
import sys
from pathlib import Path

import pytest

from dpsr.serving.fleet.errors import FleetError
from dpsr.serving.fleet.sizes import model_bytes

MIB = 1 << 20


def write(version: Path, *, graph: int, data: int = 0, asset: int = 0, extra: int = 0) -> Path:
    """A version with files of these sizes; returns its base path."""
    for name, size in (
        ("saved_model.pb", graph),
        ("variables/variables.data-00000-of-00001", data),
        ("assets/tokenizer.model", asset),
        ("assets.extra/items.arrow", extra),
    ):
        (version / name).parent.mkdir(parents=True, exist_ok=True)
        with (version / name).open("wb") as file:
            file.truncate(size)
    return version.parent


@pytest.mark.parametrize(
    ("graph", "data", "measured"),
    [
        (57_305, 2_875, 3.4),
        (300_058, 5_650_150, 28.5),
        (60_663, 6_490_470, 15.4),
        (60_879, 61_686_090, 127.0),
        # docs/servable.md: 1,000,000 items float32, 15,000,000 items int8; MB on the disk, process less 600 MiB.
        (300_000, 300_000_000, 640.0),
        (300_000, 1_620_000_000, 3_186.0),
    ],
)
def test_estimates_are_near_what_loaded_servables_take(tmp_path: Path, graph: int, data: int, measured: float) -> None:
    base = write(tmp_path / "model" / "1", graph=graph, data=data)
    estimate = model_bytes(base) / MIB
    assert 0.95 * measured <= estimate <= 1.15 * measured + 2.0


def test_the_newest_version_counts(tmp_path: Path) -> None:
    base = write(tmp_path / "model" / "9", graph=1000, data=50 * MIB)
    nine = model_bytes(base)
    write(base / "10", graph=1000, data=10 * MIB)
    ten = model_bytes(base)
    assert ten < nine
    write(base / "11", graph=1000, data=90 * MIB)
    (base / "11" / "saved_model.pb").unlink()  # a server would not load it
    (base / ".tmp-host-1").mkdir()
    assert model_bytes(base) == ten


def test_assets_count_and_what_no_server_loads_does_not(tmp_path: Path) -> None:
    plain = model_bytes(write(tmp_path / "plain" / "1", graph=1000, data=5 * MIB))
    assert model_bytes(write(tmp_path / "asset" / "1", graph=1000, data=5 * MIB, asset=MIB)) > plain + MIB
    assert model_bytes(write(tmp_path / "extra" / "1", graph=1000, data=5 * MIB, extra=99 * MIB)) == plain


def test_weights_inside_the_graph_count_as_data(tmp_path: Path) -> None:
    base = write(tmp_path / "frozen" / "1", graph=1 << 30)
    assert 2.0 < model_bytes(base) / (1 << 30) < 2.5


def test_a_directory_without_a_servable_is_named_with_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"nowhere: holds no servable, there is no such directory; .*`dpsr export`"):
        model_bytes(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(FleetError, match=r"file: holds no servable, it is a file"):
        model_bytes(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FleetError, match=r"empty: .* no folder there has an integer name, found: nothing; publish"):
        model_bytes(tmp_path / "empty")
    (tmp_path / "empty" / "notes").mkdir()
    with pytest.raises(FleetError, match=r"found: notes;"):
        model_bytes(tmp_path / "empty")
    (tmp_path / "broken" / "3").mkdir(parents=True)
    with pytest.raises(FleetError, match=r"broken: .* version 3 has no saved_model.pb; publish one with `dpsr export`"):
        model_bytes(tmp_path / "broken")


def test_a_version_in_place_of_a_base_path_is_told_apart(tmp_path: Path) -> None:
    base = write(tmp_path / "shop" / "7", graph=1000)
    with pytest.raises(FleetError, match=rf"is a version itself, .*: name {base}$"):
        model_bytes(base / "7")


def test_the_import_needs_no_tensorflow() -> None:
    modules = "placement", "packing", "eviction", "sizes", "simulation", "plan_text"
    imports = ", ".join(f"dpsr.serving.fleet.{name}" for name in modules)
    code = f"import sys, {imports}; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
