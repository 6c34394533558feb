"""Clusters that cannot train: every task ends with an error that names the task and the remedy, and none hangs.

The tasks are real processes, each started by hand, so that one can differ from the others; nobody starts them again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import tensorflow as tf

from dpsr.cluster.tasks import Task
from dpsr.config import load_config
from dpsr.data.prepare.job import prepare

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 150.0
"""Seconds in which every task has to end: far above the time-outs below, far below for ever."""
SERVER = """
import json, os, time
import tensorflow as tf
config = json.loads(os.environ["TF_CONFIG"])
task = config["task"]
server = tf.distribute.Server(config["cluster"], job_name=task["type"], task_index=task["index"], protocol="grpc")
time.sleep(1000)
"""


@dataclass
class Started:
    """A task that was started, and where its output goes."""

    process: subprocess.Popen[bytes]
    log: Path

    def end(self) -> tuple[int, str]:
        """Waits for its end; its exit code and its output."""
        code = self.process.wait(PATIENCE)
        return code, self.log.read_text(errors="replace")


@dataclass
class Tasks:
    """A cluster whose tasks are started one by one."""

    folder: Path
    command: Sequence[str]
    addresses: Mapping[str, tuple[str, ...]]
    stack: ExitStack

    def start(
        self,
        job: str,
        index: int = 0,
        *,
        cwd: Path = ROOT,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Started:
        """Starts a task, in another directory, by another command or with other variables if asked so."""
        log = self.folder / f"{job}-{index}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command or self.command,
                env={**os.environ, "TF_CONFIG": Task(job, index, self.addresses).to_tf_config(), **(environment or {})},
                cwd=cwd,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.stack.callback(_end, process)
        return Started(process, log)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def cluster(tmp_path: Path, example: Path) -> Iterator[Callable[..., Tasks]]:
    """Makes a cluster of a chief, a worker and a parameter server; none of its processes is left."""
    with ExitStack() as stack:

        def make(overrides: list[str], **addresses: str) -> Tasks:
            places = dict(zip(("chief", "worker", "ps"), free_addresses(3), strict=True)) | addresses
            command = [sys.executable, "-m", "dpsr.train", "-c", str(example)]
            command += [part for override in overrides for part in ("--set", override)]
            return Tasks(tmp_path, command, {job: (place,) for job, place in places.items()}, stack)

        yield make


def free_addresses(count: int) -> list[str]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    names = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    for probe in probes:
        probe.close()
    return names


@pytest.fixture
def occupied() -> Iterator[str]:
    """The address of another program, which takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def failed(task: Started, *messages: str) -> None:
    """Checks that a task ends with an error that says all of this."""
    code, output = task.end()
    assert code == 1, output
    for message in messages:
        assert message in output


def waits_in_vain(task: Started) -> None:
    """A task whose chief has failed ends by itself, too."""
    failed(task, "has not been there for", "start it, then this task, or raise cluster.start_timeout")


@pytest.mark.parametrize("program", [["dpsr.train"], ["dpsr.cli", "train"]])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"cluster": {"chief": ["a:1"]', "TF_CONFIG: not JSON ("),
        ('{"sparseCluster": {"worker": {"0": "b:1"}}, "task": {"type": "worker", "index": 0}}', "enableDynamicWorker"),
        ('{"task": {"type": "worker", "index": 0}}', "TF_CONFIG of worker 0: no cluster in"),
    ],
)
def test_a_tf_config_that_is_not_understood_ends_the_task(
    text: str, message: str, program: list[str], example: Path, shop: Callable[[str], list[str]]
) -> None:
    """None of them trains alone into the checkpoint directory of its cluster."""
    overrides = shop(f"tf_config_{len(text)}_{program[-1]}")
    command = [sys.executable, "-m", *program, "-c", str(example)]
    command += [part for override in overrides for part in ("--set", override)]
    done = subprocess.run(command, env={**os.environ, "TF_CONFIG": text}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert message in done.stderr
    assert 'as {"cluster": {"chief": ["host0:2222"]' in done.stderr, "shows how it should be"
    assert "Traceback" not in done.stderr
    assert not load_config(example, overrides).checkpoint_dir.exists()


@pytest.mark.parametrize("job", ["chief", "worker", "ps"])
def test_a_port_in_use_ends_the_task(
    job: str, cluster: Callable[..., Tasks], shop: Callable[[str], list[str]], occupied: str
) -> None:
    tasks = cluster(shop(f"port_{job}"), **{job: occupied})
    port = occupied.rpartition(":")[2]
    failed(tasks.start(job), f"{job} 0: cannot listen on port {port}", "give the task another port in TF_CONFIG")


def test_an_unreachable_parameter_server_is_named(
    cluster: Callable[..., Tasks], shop: Callable[[str], list[str]]
) -> None:
    tasks = cluster([*shop("unreachable"), "cluster.start_timeout=2"])
    failed(
        tasks.start("chief"),
        f"cannot reach ps 0 at {tasks.addresses['ps'][0]}, worker 0 at {tasks.addresses['worker'][0]} after 2 s; start",
        "correct their addresses in TF_CONFIG",
    )


@pytest.mark.slow
def test_a_port_of_another_program_is_named_by_the_chief(
    cluster: Callable[..., Tasks], shop: Callable[[str], list[str]], occupied: str
) -> None:
    """It takes connections: that it is not a task shows only when it does not answer."""
    tasks = cluster([*shop("occupied"), "cluster.start_timeout=15"], worker=occupied)
    ps = tasks.start("ps")
    failed(
        tasks.start("chief"),
        f"cannot reach worker 0 at {occupied} (it takes connections, but does not answer: ",
        "another program has its port",
    )
    waits_in_vain(ps)


@pytest.mark.slow
def test_a_task_that_hangs_is_named(cluster: Callable[..., Tasks], shop: Callable[[str], list[str]]) -> None:
    """The kernel takes connections for a process that was stopped."""
    tasks = cluster([*shop("hangs"), "cluster.start_timeout=15"])
    worker, ps = tasks.start("worker"), tasks.start("ps")
    while "listens at" not in ps.log.read_text():
        assert ps.process.poll() is None
    os.kill(ps.process.pid, signal.SIGSTOP)
    failed(tasks.start("chief"), f"cannot reach ps 0 at {tasks.addresses['ps'][0]} (it takes connections, but")
    waits_in_vain(worker)


def other_build(folder: Path) -> Path:
    """A folder whose package ``dpsr`` is this one, but for the op library: the same code in another file."""
    package = folder / "dpsr"
    (package / "ops_cc").mkdir(parents=True)
    for source, target in ((ROOT, package), (ROOT / "ops_cc", package / "ops_cc")):
        for path in source.iterdir():
            if path.name not in ("ops_cc", "_dpsr_ops.so", "build", ".git"):
                (target / path.name).symlink_to(path)
    library = package / "ops_cc" / "_dpsr_ops.so"
    shutil.copyfile(ROOT / "ops_cc" / "_dpsr_ops.so", library)
    with library.open("ab") as stream:
        stream.write(b"built on another day")  # behind the sections: loads and works
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("job", ["worker", "ps"])
def test_another_op_library_on_one_task_is_named(
    job: str, cluster: Callable[..., Tasks], shop: Callable[[str], list[str]], tmp_path: Path
) -> None:
    tasks = cluster([*shop(f"library_{job}"), "cluster.start_timeout=20"])
    other = {"PYTHONPATH": str(other_build(tmp_path / "other"))}
    started = {each: tasks.start(each, environment=other if each == job else None) for each in ("worker", "ps")}
    failed(tasks.start("chief"), f"{job} 0: runs op library ", "install the same build on both")
    for task in started.values():
        waits_in_vain(task)


@pytest.mark.slow
def test_a_task_without_the_op_library_is_named(
    cluster: Callable[..., Tasks], shop: Callable[[str], list[str]]
) -> None:
    """A plain TensorFlow server, as other projects start it for their parameter servers."""
    tasks = cluster([*shop("plain"), "cluster.start_timeout=20"])
    tasks.start("ps", command=[sys.executable, "-c", SERVER])
    worker = tasks.start("worker")
    failed(tasks.start("chief"), "ps 0: does not know the op library of dpsr; start it by the same command")
    waits_in_vain(worker)


@pytest.fixture
def places(shop: Callable[[str], list[str]], example: Path, tmp_path: Path) -> Callable[[str], tuple[list[str], Path]]:
    """Overrides with a relative ``work_dir``, and the directory it is relative to."""

    def make(name: str) -> tuple[list[str], Path]:
        work_dir, *others = shop(name)
        path = Path(work_dir.partition("=")[2])
        return [f"work_dir={path.name}", *others, "cluster.start_timeout=20"], path.parent

    return make


@pytest.mark.slow
def test_another_dataset_under_the_same_path_is_named(
    cluster: Callable[..., Tasks], places: Callable[[str], tuple[list[str], Path]], example: Path, tmp_path: Path
) -> None:
    """The worker runs in another directory, where the same relative path leads to words of another tokenizer."""
    overrides, here = places("another")
    there = tmp_path / "there"
    name = overrides[0].partition("=")[2]
    (there / name / "checkpoints").mkdir(parents=True)
    prepared = load_config(example, [*overrides, f"work_dir={there / name}", "tokenizer.min_count=3"])
    prepare(prepared, progress=False)
    shutil.copyfile(example, prepared.checkpoint_dir / "model.json")
    tasks = cluster(overrides)
    ps, worker = tasks.start("ps", cwd=here), tasks.start("worker", cwd=there)
    failed(
        tasks.start("chief", cwd=here),
        "worker 0: ",
        "is another dataset than the chief's (tokenizer ",
        "give every task the same dataset directory",
    )
    for task in (ps, worker):
        waits_in_vain(task)


@pytest.mark.slow
@pytest.mark.parametrize("job", ["worker", "ps"])
def test_a_work_dir_that_one_task_does_not_see_is_named(
    job: str, cluster: Callable[..., Tasks], places: Callable[[str], tuple[list[str], Path]], tmp_path: Path
) -> None:
    """A parameter server would write its part of a checkpoint where nobody finds it."""
    overrides, here = places(f"unseen_{job}")
    tasks = cluster(overrides)
    started = {each: tasks.start(each, cwd=tmp_path if each == job else here) for each in ("worker", "ps")}
    failed(
        tasks.start("chief", cwd=here),
        f"{job} 0: cannot read what the chief reads (",
        "No such file or directory",
        "give every task the same work_dir",
    )
    for task in started.values():
        waits_in_vain(task)


@pytest.mark.slow
def test_an_evaluator_scores_checkpoints_of_its_own_dataset_alone(
    cluster: Callable[..., Tasks], shop: Callable[[str], list[str]], example: Path, tmp_path: Path
) -> None:
    overrides = [*shop("evaluator"), "training.epochs=1"]
    tasks = cluster(overrides)
    started = [tasks.start(job) for job in ("worker", "ps", "chief", "evaluator")]
    for task in started:
        code, output = task.end()
        assert code == 0, output
    config = load_config(example, overrides)
    scores = json.loads((config.checkpoint_dir / "evaluator" / "metrics.json").read_text())
    steps = json.loads((config.checkpoint_dir / "metrics.json").read_text())["steps"]
    assert scores["best_step"] == scores["checkpoints"][-1]["step"] == steps
    assert tf.train.load_checkpoint(config.checkpoint_dir / "evaluator" / f"best-{steps}").get_variable_to_shape_map()
    dataset = Path(config.work_dir) / "dataset"
    dataset.unlink()
    prepare(load_config(example, [*overrides, "tokenizer.min_count=3"]), progress=False)
    failed(tasks.start("evaluator"), "the checkpoint was trained with tokenizer", "use the dataset of the checkpoint")


@pytest.mark.slow
def test_a_full_disk_at_a_checkpoint_ends_the_training(
    example: Path, shop: Callable[[str], list[str]], tmp_path: Path
) -> None:
    """The ``work_dir`` is a file system of 2 MiB of its own, logs and all; what the user sees is all in the output."""
    overrides = [*shop("full"), "training.epochs=50"]
    work_dir = Path(load_config(example, overrides).work_dir)
    dataset = (work_dir / "dataset").resolve()
    up = [sys.executable, "-m", "dpsr.cli", "cluster", "up", "-c", str(example), "--workers", "1", "--ps", "2"]
    up += [part for override in overrides for part in ("--set", override)]
    mount = f"mount -t tmpfs -o size=2m tmpfs {work_dir} && ln -s {dataset} {work_dir}/dataset"
    listing = f"ls {work_dir}/checkpoints"
    script = [*["unshare", "--mount", "--map-root-user", "sh", "-c"], f'{mount} || exit 77; "$@"; echo $?; {listing}']
    done = subprocess.run([*script, "sh", *up], capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr}")
    # A parameter server is named; what the chief itself could not write is told in its own name.
    problem = r"chief: .*checkpoints( \(written to by ps \d\))?: the disk is full, and no checkpoint can be written"
    assert re.search(problem, done.stdout), done.stdout
    assert "chief 0 failed with exit code 1" in done.stderr
    _, _, after = done.stdout.rpartition("\n1\n")
    assert "model.json" in after
    assert "_temp" not in after, "what was written by half is removed"
