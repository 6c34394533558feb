"""A cluster of processes of one machine on loopback ports, for trying out training on a cluster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from dpsr.cluster.tasks import CHIEF, EVALUATOR, PS, WORKER, ClusterError, Task
from dpsr.processes import die_with_parent

_HOST = "127.0.0.1"
_LOOK_SECONDS = 0.2
_GRACE_SECONDS = 10.0
_RESTART_SECONDS = 2.0
_SHORT_LIFE_SECONDS = 15.0
"""A task that dies sooner after its start most likely does so again, and is restarted after a pause."""


@dataclass
class _Process:
    """A task, and its present process."""

    task: Task
    log: Path
    process: subprocess.Popen[bytes]
    started_at: float
    restarts: int = 0
    short_lives: int = 0
    """Processes in a row, up to the last one, that died soon after their start."""
    ended: bool = False
    start_at: float | None = None
    """Time of the next start, after a death."""


def _print_now(line: str) -> None:
    print(line, flush=True)  # a pipe would hold the line back until the end


class LocalCluster:
    """The processes of a cluster; at the end of its ``with`` block all of them have ended."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        workers: int,
        ps: int,
        evaluator: bool = False,
        logs: Path,
        max_restarts: int = 20,
        say: Callable[[str], None] = _print_now,
    ) -> None:
        """Starts every task.

        Args:
            command: the command of every task, which reads its ``TF_CONFIG``.
            workers: number of workers.
            ps: number of parameter servers.
            evaluator: start an evaluator too.
            logs: folder for the output of every task, a file each.
            max_restarts: the most restarts of each task.
            say: takes the status lines, each when it is due; by default to the standard output, pipes included.
        """
        self._command = list(command)
        self._max_restarts = max_restarts
        self._say = say
        self._is_stopped = False
        logs.mkdir(parents=True, exist_ok=True)
        ports = _free_ports(1 + workers + ps)
        addresses = {
            CHIEF: _addresses(ports[:1]),
            WORKER: _addresses(ports[1 : 1 + workers]),
            PS: _addresses(ports[1 + workers :]),
        }
        tasks = [Task(job, index, addresses) for job in (PS, WORKER, CHIEF) for index in range(len(addresses[job]))]
        tasks += [Task(EVALUATOR, 0, addresses)] * evaluator
        self.processes: dict[str, _Process] = {}
        for task in tasks:
            log = logs / f"{task.job}-{task.index}.log"
            log.unlink(missing_ok=True)
            self.processes[task.name] = _Process(task, log, self._start(task, log), time.monotonic())
            where = "" if task.job == EVALUATOR else f" at {task.address}"
            self._say(f"{task.name}: process {self.processes[task.name].process.pid}{where}, log {log}")

    def __enter__(self) -> LocalCluster:
        """The cluster itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends every process by SIGTERM, or by SIGKILL after the time of grace."""
        for entry in self.processes.values():
            _signal_group(entry.process, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        for entry in self.processes.values():
            try:
                entry.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal_group(entry.process, signal.SIGKILL)
                entry.process.wait()

    def wait(self) -> int | None:
        """Waits for the end of the training, and restarts tasks that die.

        Returns:
            The chief's exit code; None if ``stop`` was called.

        Raises:
            ClusterError: a task died more than ``max_restarts`` times; names it.
        """
        while not self._is_stopped:
            time.sleep(_LOOK_SECONDS)
            for entry in self.processes.values():
                if not entry.ended:
                    self._look_at(entry)
            chief, evaluator = self.processes[f"{CHIEF} 0"], self.processes.get(f"{EVALUATOR} 0")
            if chief.ended and (chief.process.returncode or evaluator is None or evaluator.ended):
                return chief.process.returncode
        return None

    def stop(self) -> None:
        """Makes ``wait`` return within a fraction of a second; safe in a signal handler."""
        self._is_stopped = True

    def _look_at(self, entry: _Process) -> None:
        if entry.start_at is not None:
            if time.monotonic() >= entry.start_at:
                self._start_again(entry)
            return
        code = entry.process.poll()
        if code is None:
            return
        entry.ended = code == 0 or (code > 0 and entry.task.job in (CHIEF, EVALUATOR))
        is_last = not entry.ended and entry.restarts >= self._max_restarts
        now = time.monotonic()
        pause = 0.0 if entry.ended or is_last else self._pause(entry, now - entry.started_at)
        then = f"; starts again{f' in {pause:g} s' if pause else ''}" if not (entry.ended or is_last) else ""
        self._say(f"{entry.task.name}: {_how(code)}{then}")
        if code > 0:
            self._say(_last_lines(entry.log))
        if is_last:
            raise ClusterError(
                f"{entry.task.name}: gave up, it {_how(code)} after {entry.restarts} restarts "
                f"(cluster.max_restarts = {self._max_restarts}); {entry.log} says what it did. Run the same command to "
                "resume from the last checkpoint"
            )
        entry.start_at = now + pause

    def _pause(self, entry: _Process, lived: float) -> float:
        """Seconds before a task is restarted: none at first, more with every early death in a row."""
        pause = _RESTART_SECONDS * min(entry.short_lives, 5) if lived < _SHORT_LIFE_SECONDS else 0.0
        entry.short_lives = entry.short_lives + 1 if lived < _SHORT_LIFE_SECONDS else 0
        return pause

    def _start_again(self, entry: _Process) -> None:
        self._command = [part for part in self._command if part != "--no-resume"]
        entry.process, entry.start_at = self._start(entry.task, entry.log), None
        entry.started_at = time.monotonic()
        entry.restarts += 1

    def _start(self, task: Task, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as stream:
            return _spawn(self._command, {**os.environ, "TF_CONFIG": task.to_tf_config()}, stream)


def up(
    config_file: str,
    overrides: Sequence[str],
    *,
    workers: int,
    ps: int,
    evaluator: bool,
    resume: bool,
    logs: Path,
    max_restarts: int,
) -> None:
    """Trains on a cluster of processes of this machine; prints a line when a task starts, dies or ends.

    Raises:
        ClusterError: the chief failed, or a task died too often; the last lines of its log are printed.
    """
    command = [sys.executable, "-m", "dpsr.train", "--config", config_file]
    command += [part for override in overrides for part in ("--set", override)]
    command += [] if resume else ["--no-resume"]
    # No exception within a start: a process that is not in the list yet would not be ended.
    early: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: early.append(received))
    with LocalCluster(
        command, workers=workers, ps=ps, evaluator=evaluator, logs=logs, max_restarts=max_restarts
    ) as cluster:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: cluster.stop())
        if early:
            cluster.stop()
        code = cluster.wait()
        if code is None:
            print("stopping every task", flush=True)
    if code is None:
        raise ClusterError("interrupted; run the same command to resume from the last checkpoint")
    if code:
        raise ClusterError(f"chief 0 failed with exit code {code}; see {logs}")


def _how(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _spawn(command: Sequence[str], environment: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Starts a task in a process group of its own, which a Ctrl-C in the terminal does not reach."""
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=partial(die_with_parent, os.getpid()),
    )


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if process.poll() is None:
        os.killpg(process.pid, number)


def _free_ports(count: int) -> list[int]:
    """Ports that are free at this moment."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((_HOST, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _addresses(ports: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{_HOST}:{port}" for port in ports)


def _last_lines(log: Path, count: int = 5) -> str:
    return "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-count:])
