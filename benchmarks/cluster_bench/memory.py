"""Memory of the processes of a cluster over time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from dpsr.cluster.up import LocalCluster

KIB = 1 << 10


@dataclass(frozen=True)
class Sample:
    """Memory of a process at one moment, in bytes."""

    seconds: float
    name: str
    pid: int
    life: int
    """0 for the task's first process."""
    anonymous: int
    """What the process has allocated."""
    resident: int
    """The same, and the pages of files that it has mapped: libraries, and the dataset."""


class Memory:
    """Samples of every task of a cluster, the chief's coordinator among them."""

    def __init__(self) -> None:
        """Starts with none."""
        self.samples: list[Sample] = []

    def look(self, cluster: LocalCluster, seconds: float) -> None:
        """Takes a sample of every process, at most once a second."""
        if self.samples and seconds - self.samples[-1].seconds < 1.0:
            return
        for name, entry in cluster.processes.items():
            pids = {name: entry.process.pid}
            if name == "chief 0":
                pids |= dict(zip(["coordinator"], children(entry.process.pid), strict=False))
            for each, pid in pids.items():
                found = memory_of(pid)
                if found is not None:
                    self.samples.append(Sample(seconds, each, pid, entry.restarts, *found))

    def show_lives(self) -> None:
        """The memory that each task's processes came to, first and later ones."""
        rows = []
        for name in sorted({sample.name for sample in self.samples}):
            most: dict[int, int] = {}
            for sample in self.samples:
                if sample.name == name:
                    most[sample.pid] = max(most.get(sample.pid, 0), sample.anonymous)
            sizes = [f"{size / KIB**2:.0f}" for size in most.values()]
            rows.append([name, len(sizes), ", ".join(sizes)])
        print("\nmost MiB of allocated memory of each process, one after the other")
        print(tabulate(rows, headers=["task", "processes", "MiB"], disable_numparse=True))


def children(pid: int) -> list[int]:
    try:
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def memory_of(pid: int) -> tuple[int, int] | None:
    """Allocated and resident bytes; None if the process is gone."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return tuple(int(status[key].split()[0]) * KIB for key in ("RssAnon", "VmRSS"))
    except (OSError, KeyError):
        return None
