"""Arrays that graphs read from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.data.batches.arrays import MappedArray, arrays_in_files, graph_array


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_files_of_earlier_runs_are_removed_and_those_in_use_are_not(tmp_path: Path) -> None:
    with arrays_in_files(tmp_path):
        first = graph_array(np.arange(5, dtype=np.int32))
        shared = graph_array(np.arange(7, dtype=np.int32))
    before = names(tmp_path)
    assert before == {Path(first.path).name, Path(shared.path).name}
    np.save(tmp_path / "used.npy", np.arange(64, dtype=np.float32))
    for leftover in ("0123456789abcdef.bin", "0123456789abcdef.4711", "unused.npy"):
        (tmp_path / leftover).write_bytes(b"left by a run that died")
    (tmp_path / "scratch").mkdir()
    with arrays_in_files(tmp_path):
        again = graph_array(np.arange(7, dtype=np.int32))
        mapped = graph_array(np.load(tmp_path / "used.npy", mmap_mode="r"))
        assert names(tmp_path) > before, "nothing is removed before the arrays of the run are known"
    assert names(tmp_path) == {Path(shared.path).name, "used.npy", "scratch"}
    np.testing.assert_array_equal(tf.convert_to_tensor(again), np.arange(7))
    np.testing.assert_array_equal(tf.convert_to_tensor(mapped), np.arange(64))


def test_a_run_that_fails_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "old.bin").touch()
    with pytest.raises(RuntimeError, match="no parameter server"), arrays_in_files(tmp_path):
        raise RuntimeError("no parameter server")
    assert names(tmp_path) == {"old.bin"}


def test_an_array_outside_of_any_scope_is_a_constant(tmp_path: Path) -> None:
    assert not isinstance(graph_array(np.arange(5, dtype=np.int32)), MappedArray)
    with arrays_in_files(tmp_path / "absent"):
        pass
    assert not (tmp_path / "absent").exists()


def mappings(path: Path) -> int:
    return sum(line.rstrip().endswith(str(path)) for line in Path("/proc/self/maps").read_text().splitlines())


def test_a_file_is_mapped_once_for_all_graphs_of_a_process(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    np.save(path, np.arange(1000, dtype=np.int64))
    array = graph_array(np.load(path, mmap_mode="r"))
    assert isinstance(array, MappedArray)
    graphs = [tf.function(lambda place, factor=factor: tf.gather(array, place) * factor) for factor in (1, 2, 3)]
    assert [int(graph(tf.constant(7))) for graph in graphs] == [7, 14, 21]
    assert mappings(path) == 1
    # A file that takes the place of another is another one; who has mapped the first keeps it.
    np.save(tmp_path / "other.npy", np.arange(1000, dtype=np.int64) * 10)
    (tmp_path / "other.npy").replace(path)
    assert int(graphs[0](tf.constant(7))) == 7
    assert int(tf.function(lambda place: tf.gather(array, place))(tf.constant(7))) == 70
