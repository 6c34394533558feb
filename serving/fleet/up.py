"""Starts a fleet's processes on this machine, and starts again what dies: the controller, the proxy, local servers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dpsr.config import FleetConfig
from dpsr.processes import die_with_parent

_LOOK_SECONDS = 0.1
_PAUSE_SECONDS = 0.3
_MAX_PAUSE_SECONDS = 10.0
_SHORT_LIFE_SECONDS = 15.0
"""A process that dies sooner after its start most likely does so again, and is started again after a longer pause."""
_GRACE_SECONDS = 40.0
_SERVER_GIB = 0.75
"""Memory of a local server without a model."""


@dataclass
class Part:
    """One process of the fleet."""

    name: str
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    """Time of the next start, while there is no process."""
    pause: float = _PAUSE_SECONDS


@dataclass
class Supervisor:
    """Keeps the parts running, and ends them in the order of the list."""

    parts: Sequence[Part]
    say: Callable[[str], object]
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Starts every part, restarts those that die, and returns after ``stop``, when all have ended."""
        try:
            while not self._stop.is_set():
                for part in self.parts:
                    self._look_at(part)
                self._stop.wait(_LOOK_SECONDS)
        finally:
            for part in self.parts:
                _end(part)

    def stop(self) -> None:
        """Makes ``run`` end the parts and return; safe in a signal handler."""
        self._stop.set()

    def _look_at(self, part: Part) -> None:
        now = time.monotonic()
        if part.process is None:
            if now >= part.start_at:
                self._start(part, now)
            return
        code = part.process.poll()
        if code is None:
            return
        lived = now - part.started_at
        part.pause = min(2 * part.pause, _MAX_PAUSE_SECONDS) if lived < _SHORT_LIFE_SECONDS else _PAUSE_SECONDS
        part.process, part.start_at = None, now + part.pause
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self.say(f"{part.name}: {how}; starts again in {part.pause:g} s; log {part.log}")

    def _start(self, part: Part, now: float) -> None:
        part.log.parent.mkdir(parents=True, exist_ok=True)
        with part.log.open("ab") as log:
            part.process = subprocess.Popen(
                part.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal reaches the supervisor alone, which ends the parts
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        part.started_at = now
        self.say(f"{part.name}: process {part.process.pid}, log {part.log}")


def _end(part: Part) -> None:
    if part.process is None:
        return
    part.process.terminate()
    try:
        part.process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        part.process.kill()
        part.process.wait()


def local_servers(count: int, state_dir: Path, memory_gib: float | None = None) -> tuple[str, list[Part]]:
    """Servers of this machine.

    Args:
        count: number of them.
        state_dir: the fleet's; logs and config files go below it.
        memory_gib: memory of each; by default a share of what the machine has.

    Returns:
        ``servers={...}`` as an override of ``fleet.toml``, and the processes.
    """
    memory = memory_gib or max(0.8 * _available_gib() / count - _SERVER_GIB, 0.1)
    ports = free_ports(2 * count)
    tables, parts = [], []
    for number in range(count):
        name, grpc_port, rest_port = f"local{number + 1}", ports[2 * number], ports[2 * number + 1]
        tables.append(
            f'{name}={{address="127.0.0.1:{grpc_port}",rest_address="127.0.0.1:{rest_port}",memory_gib={memory:.2f}}}'
        )
        config = state_dir / "servers" / f"{name}.config"
        settings = {"port": grpc_port, "rest_port": rest_port, "model_config_poll_seconds": 0.2}
        command = [sys.executable, "-m", "dpsr.cli", "serve", "--model-config-file", str(config)]
        command += [word for key, value in settings.items() for word in ("--set", f"serving.{key}={value}")]
        parts.append(Part(f"server {name}", command, state_dir / "logs" / f"{name}.log"))
    return f"servers={{{','.join(tables)}}}", parts


def make_parts(config_file: Path, overrides: Sequence[str], state_dir: Path) -> list[Part]:
    """The proxy and the controller of a fleet."""
    options = ["-c", str(config_file), *(word for override in overrides for word in ("--set", override))]
    return [
        Part(name, [sys.executable, "-m", "dpsr.cli", "fleet", name, *options], state_dir / "logs" / f"{name}.log")
        for name in ("proxy", "controller")
    ]


def up(parts: Sequence[Part], say: Callable[[str], object]) -> None:
    """Runs the parts until SIGTERM or SIGINT."""
    supervisor = Supervisor(parts, say)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    supervisor.run()


def free_ports(count: int) -> list[int]:
    """Ports of loopback on which nothing listens."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _available_gib() -> float:
    """Memory that processes can have, that of the page cache included where the kernel tells it."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) / 2**20
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def servers_that_answer(fleet: FleetConfig, seconds: float = 2.0) -> dict[str, bool]:
    """Whether something listens at every server's address."""

    def answers(address: str) -> bool:
        host, _, port = address.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds):
                return True
        except OSError:
            return False

    return {name: answers(server.address) for name, server in fleet.servers.items()}
