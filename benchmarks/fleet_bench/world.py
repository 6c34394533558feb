"""A fleet of this machine: many small models, `dpsr fleet up --local`, and what the operating system says of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from serving_bench.servable import cached, publish

from dpsr.config import FleetConfig, load_fleet_config
from dpsr.errors import DpsrError
from dpsr.serving.fleet.operations import read_status
from dpsr.serving.fleet.state import FleetStatus, Routes, read_state
from dpsr.serving.fleet.up import free_ports

CACHE = Path(__file__).resolve().parents[2] / "build" / "bench" / "serving"


class World:
    """The fleet; its processes end with the ``with`` block."""

    def __init__(
        self,
        folder: Path,
        *,
        servers: int,
        models: dict[str, dict[str, Any]],
        more: str = "",
        server_gib: float | None = None,
    ) -> None:
        """Publishes the models and writes ``fleet.toml``.

        Args:
            folder: an empty folder.
            servers: number of `dpsr serve` processes.
            models: name -> keys of ``[models.NAME]``.
            more: further lines of ``fleet.toml``.
            server_gib: memory of one server; by default what the machine has.
        """
        folder.mkdir(exist_ok=True)
        self.folder, self.servers = folder, servers
        self.server_gib = server_gib
        self.version = cached(CACHE, 200, 16, 1, 10)
        self.file = folder / "fleet.toml"
        self.models: dict[str, dict[str, Any]] = {}
        self.more = more
        self.port, self.rest_port, self.metrics_port = free_ports(3)
        for name, options in models.items():
            self.add(name, options)
        self.write()

    def add(self, name: str, options: dict[str, Any]) -> None:
        """Publishes one more model; ``write`` brings it into the configuration."""
        base_path = self.folder / "models" / name
        base_path.mkdir(parents=True)
        publish(self.version, base_path, 1)
        self.models[name] = options

    def write(self) -> None:
        """Writes ``fleet.toml``, which the running fleet follows."""
        lines = [
            'state_dir = "state"',
            f"proxy = {{port = {self.port}, rest_port = {self.rest_port}, metrics_port = {self.metrics_port}}}",
        ]
        for name, options in self.models.items():
            values = {"base_path": f"models/{name}", **options}
            text = [f"{key} = {str(v).lower() if isinstance(v, bool) else repr(v)}" for key, v in values.items()]
            lines += [f"[models.{name}]", *text]
        part = self.file.with_suffix(".part")
        part.write_text("\n".join([*lines, self.more]))
        part.rename(self.file)

    def __enter__(self) -> World:
        """Starts the fleet; returns when every resident model has its replicas."""
        self._log = (self.folder / "up.log").open("ab")
        command = [sys.executable, "-m", "dpsr.cli", "fleet", "up", "-c", str(self.file), "--local", str(self.servers)]
        command += ["--local-memory", str(self.server_gib)] if self.server_gib else []
        self._up = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)
        self.until(lambda: self.is_complete(), 1200)
        return self

    def __exit__(self, *_: object) -> None:
        """Ends every process."""
        self._up.send_signal(signal.SIGTERM)
        self._up.wait()
        self._log.close()

    @property
    def address(self) -> str:
        """Of the proxy."""
        return f"127.0.0.1:{self.port}"

    @property
    def config(self) -> FleetConfig:
        """What ``fleet.toml`` says."""
        return load_fleet_config(self.file)

    def status(self) -> FleetStatus | None:
        """What the controller says; None while there is none."""
        try:
            return read_status(self.config)
        except DpsrError:
            return None

    def is_complete(self) -> bool:
        """Whether every resident model has its replicas, and every proxy the routes."""
        status = self.status()
        return bool(
            status is not None
            and not status.missing
            and status.proxies
            and set(self.models) <= set(self.routes().models)
            and all(generation >= status.generation for generation in status.proxies.values())
        )

    def routes(self) -> Routes:
        """The routes of the proxies."""
        return read_state(self.folder / "state" / "routes.json", Routes) or Routes()

    def holders(self, model: str) -> list[str]:
        """Servers that are ready for a model."""
        return [end.server for end in self.routes().models.get(model, ()) if end.state == "ready"]

    def until(self, condition: Callable[[], bool], seconds: float) -> float:
        """Waits; returns the seconds.

        Raises:
            SystemExit: the condition did not come; with the end of the fleet's log.
        """
        start = time.perf_counter()
        while not condition():
            if self._up.poll() is not None or time.perf_counter() - start > seconds:
                last = (self.folder / "up.log").read_text(errors="replace")[-2000:]
                raise SystemExit(f"the fleet is not as expected, within {seconds:g} s; its log ends with\n{last}")
            time.sleep(0.1)
        return time.perf_counter() - start

    def processes(self, *words: str) -> list[int]:
        """Processes below `dpsr fleet up` whose command line holds all the words; HAProxy's too."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (OSError, UnicodeDecodeError):
                continue
            if entry.name.isdecimal() and all(word in line for word in words) and "fleet up" not in line:
                found.append(int(entry.name))
        return [pid for pid in found if self._is_ours(pid)]

    def haproxy_workers(self) -> list[int]:
        """HAProxy's processes, the master too."""
        return self.processes("haproxy", "-W")

    def loads(self) -> int:
        """Models that the servers have loaded so far."""
        logs = (self.folder / "state" / "logs").glob("local*.log")
        return sum(log.read_text().count("loaded and warmed") for log in logs)

    def _is_ours(self, pid: int) -> bool:
        try:
            return str(self.folder) in (Path("/proc") / str(pid) / "cmdline").read_bytes().decode()
        except OSError:
            return False

    def kill(self, *words: str) -> float:
        """Kills processes by SIGKILL; returns the time since the epoch."""
        pids = self.processes(*words)
        assert pids, f"no process of {words}"
        now = time.time()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        return now


def cpu_seconds(pids: list[int]) -> float:
    """Processor time of processes so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
