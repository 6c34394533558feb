"""The HAProxy process: starts it, reloads it without a lost connection, takes over one that runs already."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from dpsr.config.fleet import FleetProxy
from dpsr.serving.fleet.errors import FleetError
from dpsr.serving.fleet.proxy.runtime import RuntimeApi

LEAST_VERSION = (2, 6)
LONGEST_RUN_DIR = 107 - len("/present_grpc.sock.4194304.tmp")
"""Bytes of the directory's name: HAProxy binds a unix socket by a name with its process id, and then renames it."""
_START_SECONDS = 30.0
_PORT_SECONDS = 2.0
"""Time for ports of processes that were ended to become free."""
_STOP_SECONDS = 30.0
_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": str(16 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "MALLOC_TOP_PAD_": str(16 << 20),
}
"""Of glibc: without them HAProxy's large buffers are mapped and unmapped each time, half of its processor time."""

_log = logging.getLogger(__name__)


class HaProxy:
    """HAProxy in master-worker mode; it outlives the process that has started it."""

    def __init__(self, run_dir: Path) -> None:
        """Names the directory of its files.

        Raises:
            FleetError: HAProxy is missing, too old, or built without what a fleet needs.
        """
        self.program = find_haproxy()
        self.config = run_dir / "haproxy.cfg"
        self.api = RuntimeApi(run_dir / "haproxy.sock")
        self._master = RuntimeApi(run_dir / "master.sock")
        self._pid_file = run_dir / "haproxy.pid"
        self._log_file = run_dir / "haproxy.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._known_pid: int | None = None

    def is_running(self) -> bool:
        """Whether the master lives."""
        if self._child is not None:
            return self._child.poll() is None
        pid = self._pid()
        if pid is None:
            return False
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            state = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return False
        # For an instant of a reload, in which the master executes itself anew, there are no words.
        return str(self.config).encode() in words or (not words and b"(haproxy) " in state and b") Z" not in state)

    def start(self, description: str, proxy: FleetProxy) -> None:
        """Starts the master with the configuration file; returns when a worker serves.

        Args:
            description: of the configuration, by which the worker is known.
            proxy: its ports.

        Raises:
            FleetError: a port is taken, or HAProxy ended; the message has its last lines.
        """
        self._end_leftovers()
        for option in ("port", "rest_port", "metrics_port"):
            _await_free_port(proxy.host, getattr(proxy, option), option)
        options = ["-W", "-S", f"{self._master._path},mode,600", "-p", str(self._pid_file), "-f", str(self.config)]
        with self._log_file.open("ab") as log:
            self._child = subprocess.Popen(
                [self.program, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_MALLOC},
                start_new_session=True,  # neither Ctrl-C nor the end of the agent reaches it
            )
        self._wait_for(description)

    def reload(self, description: str) -> None:
        """Starts a worker with the present file; the one before goes on with its connections until they end.

        Raises:
            FleetError: the file is not accepted; the worker before stays.
        """
        check = subprocess.run(
            [self.program, "-c", "-q", "-f", str(self.config)], capture_output=True, text=True, check=False
        )
        if check.returncode:
            raise FleetError(f"{self.config}: HAProxy does not accept it: {check.stderr.strip()[-2000:]}")
        pid = self._pid()
        if pid is None:
            raise FleetError(f"{self._pid_file}: no process to reload")
        os.kill(pid, signal.SIGUSR2)
        self._wait_for(description)

    def stop(self) -> None:
        """Ends HAProxy: it takes no new connection, and requests in flight end first."""
        pid = self._pid()
        if pid is None or not self.is_running():
            return
        os.kill(pid, signal.SIGUSR1)
        deadline = time.monotonic() + _STOP_SECONDS
        while self.is_running() and time.monotonic() < deadline:
            time.sleep(0.05)
        if self.is_running():
            os.kill(pid, signal.SIGTERM)

    def ask_all(self, command: str) -> list[str]:
        """Answers of the present worker and of those before it that still have connections."""
        answers = [self.api.ask(command)]
        for line in self._master.ask("show proc").splitlines():
            words = line.split()
            if len(words) > 2 and words[1] == "worker" and words[2] not in ("0",):
                answers.append(self._master.ask(f"@!{words[0]} {command}"))
        return answers

    def _pid(self) -> int | None:
        """The master's process, the last known one where the file has none: it is empty for an instant of a reload."""
        with suppress(OSError, ValueError, IndexError):
            self._known_pid = int(self._pid_file.read_text().split()[0])
        return self._known_pid

    def _wait_for(self, description: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if not self.is_running():
                raise FleetError(f"HAProxy ended at its start: {self._last_lines()}")
            try:
                if f"description: {description}" in self.api.ask("show info"):
                    self._master.ask("show proc")  # it executes itself anew, and a signal that comes then is lost
                    return
            except FleetError:
                pass  # not listening yet
            time.sleep(0.01)
        raise FleetError(f"HAProxy does not serve {description} after {_START_SECONDS:g} s: {self._last_lines()}")

    def _end_leftovers(self) -> None:
        """Ends workers whose master was killed: they would keep the ports."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if str(self.config).encode() in words and words[0].endswith(b"haproxy"):
                    try:
                        os.kill(int(entry.name), signal.SIGKILL)
                    except ProcessLookupError:
                        continue

    def _last_lines(self) -> str:
        try:
            return "\n".join(self._log_file.read_text(errors="replace").splitlines()[-8:])
        except OSError:
            return ""


def _await_free_port(host: str, port: int, option: str) -> None:
    """Waits shortly for a port.

    HAProxy binds with ``SO_REUSEPORT``, as gRPC servers do: it would start, and get a part of the connections only.

    Raises:
        FleetError: something listens on it.
    """
    if port <= 0:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + _PORT_SECONDS
    while True:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                probe.listen()
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                remedy = "end what listens there, or choose another"
                raise FleetError(f"proxy.{option}: {host}:{port} cannot be had: {error.strerror}; {remedy}") from None
        time.sleep(0.05)


def find_haproxy() -> str:
    """Path of the program.

    Raises:
        FleetError: it is missing, too old, or built without what a fleet needs.
    """
    program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    remedy = "install HAProxy 2.6 or newer, with Lua and the Prometheus exporter (Debian, Ubuntu: make deps-fleet)"
    if program is None:
        raise FleetError(f"no haproxy on the PATH; {remedy}")
    text = subprocess.run([program, "-vv"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)\.(\d+)", text)
    if found is None or (int(found[1]), int(found[2])) < LEAST_VERSION:
        raise FleetError(f"{program} is version {found[0].split()[1] if found else 'unknown'}; {remedy}")
    missing = [name for name in ("+LUA", "+PROMEX", "+OPENSSL") if name not in text]
    if missing:
        raise FleetError(f"{program} is built without {', '.join(name[1:] for name in missing)}; {remedy}")
    return program
