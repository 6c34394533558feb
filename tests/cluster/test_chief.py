"""When the chief starts another coordinator, and when it gives up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dpsr.cluster import chief
from dpsr.cluster.coordinator import DONE, FAILED, RETRY, UNCLEAR, _may_be_a_lost_task
from dpsr.cluster.tasks import ClusterError, Task
from dpsr.config import Config, load_config

TASK = Task("chief", 0, {"chief": ("127.0.0.1:0",), "worker": ("127.0.0.1:1",), "ps": ("127.0.0.1:2",)})


@pytest.fixture
def config(example: Path, tmp_path: Path) -> Config:
    found = load_config(example, [f"work_dir={tmp_path}", "cluster.max_restarts=5"])
    found.checkpoint_dir.mkdir(parents=True)
    return found


@pytest.fixture
def coordinators(monkeypatch: pytest.MonkeyPatch, config: Config) -> Callable[[list[int], bool], list[bool]]:
    """Stands for coordinators that end with these exit codes, each after a new checkpoint or not."""
    monkeypatch.setattr(chief, "_PAUSE_SECONDS", 0.0)

    def make(codes: list[int], write_checkpoints: bool) -> list[bool]:
        remaining: Iterator[int] = iter(codes)
        resumed: list[bool] = []

        def run(_: Config, *, resume: bool, progress: bool) -> int:
            resumed.append(resume)
            if write_checkpoints:
                (config.checkpoint_dir / "checkpoint").write_text(f"ckpt-{len(resumed)}")
            return next(remaining)

        monkeypatch.setattr(chief, "_run_coordinator", run)
        return resumed

    return make


def supervise(config: Config) -> None:
    chief.supervise(TASK, config, resume=False, progress=False)


@pytest.mark.parametrize("code", [RETRY, UNCLEAR, -9, -11, -6])
def test_a_coordinator_that_dies_is_followed_by_one_that_resumes(
    code: int, config: Config, coordinators: Callable[[list[int], bool], list[bool]]
) -> None:
    resumed = coordinators([code, code, DONE], False)
    supervise(config)
    assert resumed == [False, True, True]


def test_lost_tasks_are_survived_max_restarts_times(
    config: Config, coordinators: Callable[[list[int], bool], list[bool]]
) -> None:
    resumed = coordinators(6 * [RETRY], False)
    with pytest.raises(ClusterError, match=r"gave up after 5 restarts \(cluster\.max_restarts\)"):
        supervise(config)
    assert len(resumed) == 6


def test_an_error_that_stays_is_not_retried_max_restarts_times(
    config: Config, coordinators: Callable[[list[int], bool], list[bool]]
) -> None:
    resumed = coordinators([RETRY, UNCLEAR, UNCLEAR, UNCLEAR], False)
    with pytest.raises(ClusterError, match="gave up after 3 errors in a row from the same checkpoint"):
        supervise(config)
    assert len(resumed) == 4


def test_errors_between_new_checkpoints_are_retried(
    config: Config, coordinators: Callable[[list[int], bool], list[bool]]
) -> None:
    coordinators([UNCLEAR, UNCLEAR, UNCLEAR, UNCLEAR, DONE], True)
    supervise(config)


def test_a_failure_is_final(config: Config, coordinators: Callable[[list[int], bool], list[bool]]) -> None:
    resumed = coordinators([FAILED], False)
    with pytest.raises(ClusterError, match="the training failed; the reason is above"):
        supervise(config)
    assert len(resumed) == 1


def test_the_loss_of_a_task_is_told_from_an_error_that_stays() -> None:
    from tensorflow import errors

    lost = [errors.UnavailableError, errors.AbortedError, errors.NotFoundError, errors.FailedPreconditionError]
    stays = [errors.InvalidArgumentError, errors.OutOfRangeError, errors.DataLossError, errors.UnimplementedError]
    assert all(_may_be_a_lost_task(kind(None, None, "")) for kind in lost)
    assert not any(_may_be_a_lost_task(kind(None, None, "")) for kind in stays)
