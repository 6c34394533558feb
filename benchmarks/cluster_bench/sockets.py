"""Tasks of a cluster on loopback ports, and what the kernel counts of their connections and processors."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dpsr.cluster.tasks import CHIEF, PS, WORKER, Task

CLOCK = os.sysconf("SC_CLK_TCK")


def free_addresses(workers: int, ps: int) -> dict[str, tuple[str, ...]]:
    probes = [socket.socket() for _ in range(1 + workers + ps)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    names = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    for probe in probes:
        probe.close()
    return {CHIEF: tuple(names[:1]), WORKER: tuple(names[1 : 1 + workers]), PS: tuple(names[1 + workers :])}


@contextmanager
def tasks_running(addresses: dict[str, tuple[str, ...]], command: Sequence[str]) -> Iterator[dict[str, int]]:
    """Workers and parameter servers as processes; yields their process ids by name."""
    tasks = [Task(job, index, addresses) for job in (PS, WORKER) for index in range(len(addresses[job]))]
    processes = {
        task.name: subprocess.Popen(
            command, env={**os.environ, "TF_CONFIG": task.to_tf_config()}, stdout=subprocess.DEVNULL
        )
        for task in tasks
    }
    try:
        yield {name: process.pid for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Counted:
    """Bytes of one connection, as its listening end has them."""

    sent: int
    received: int


def connections(addresses: dict[str, tuple[str, ...]]) -> dict[tuple[str, str], Counted]:
    """Every open connection to a port of the cluster: (task that listens, the other end's port) to its bytes."""
    # By port: where a server listens on IPv6 and IPv4 together, addresses are written in the former's way.
    names = {
        address.rpartition(":")[2]: f"{job} {index}"
        for job, places in addresses.items()
        for index, address in enumerate(places)
    }
    lines = subprocess.run(["ss", "-tinH", "state", "established"], capture_output=True, text=True, check=True).stdout
    found = {}
    for head, details in zip(*[iter(lines.splitlines())] * 2, strict=True):
        local, remote = (address.rpartition(":")[2] for address in head.split()[2:4])
        if local in names:
            sent, received = (re.search(rf"{key}:(\d+)", details) for key in ("bytes_acked", "bytes_received"))
            found[names[local], remote] = Counted(*(int(match[1]) if match else 0 for match in (sent, received)))
    return found


def difference(before: dict, after: dict) -> dict[str, Counted]:
    """What each task's port moved between two looks."""
    moved: dict[str, Counted] = {}
    for (name, remote), now in after.items():
        then, so_far = before.get((name, remote), Counted(0, 0)), moved.get(name, Counted(0, 0))
        moved[name] = Counted(so_far.sent + now.sent - then.sent, so_far.received + now.received - then.received)
    return moved


def processor_seconds(pids: dict[str, int]) -> dict[str, tuple[float, float]]:
    """Of every process, in user code and in the kernel."""
    found = {}
    for name, pid in pids.items():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        found[name] = int(fields[11]) / CLOCK, int(fields[12]) / CLOCK
    return found
