"""Checkpoints of one graph: as TensorFlow's own, however many there are."""

from pathlib import Path

import pytest
import tensorflow as tf

from dpsr.training.checkpoint_writer import TracedCheckpoint


class State(tf.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = tf.Variable([value, value])


def test_a_manager_keeps_the_last_ones_and_each_has_the_values_of_its_time(tmp_path: Path) -> None:
    state = State(0.0)
    checkpoint = TracedCheckpoint(state=state)
    manager = tf.train.CheckpointManager(checkpoint, str(tmp_path), max_to_keep=2, checkpoint_name="ckpt")
    for step in (1, 2, 3):
        state.value.assign([step, -step])
        assert manager.save(checkpoint_number=step) == str(tmp_path / f"ckpt-{step}")
    assert checkpoint._graph.experimental_get_tracing_count() == 1
    assert {path.stem for path in tmp_path.glob("ckpt-*.index")} == {"ckpt-2", "ckpt-3"}
    assert tf.train.latest_checkpoint(tmp_path) == str(tmp_path / "ckpt-3")
    for step in (2, 3):
        found = State(0.0)
        tf.train.Checkpoint(state=found).restore(str(tmp_path / f"ckpt-{step}")).assert_consumed()
        assert found.value.numpy().tolist() == [step, -step]


def test_a_checkpoint_of_tensorflow_and_one_of_ours_have_the_same_entries(tmp_path: Path) -> None:
    state = State(1.0)
    written = [
        kind(state=state).write(str(tmp_path / kind.__name__)) for kind in (tf.train.Checkpoint, TracedCheckpoint)
    ]
    theirs, ours = (tf.train.load_checkpoint(path) for path in written)
    assert theirs.get_variable_to_shape_map() == ours.get_variable_to_shape_map()
    graph = "_CHECKPOINTABLE_OBJECT_GRAPH"
    assert theirs.get_tensor(graph) == ours.get_tensor(graph)


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(tf.errors.OpError):
        TracedCheckpoint(state=State(1.0)).write("/proc/no/such/place")
