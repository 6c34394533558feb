"""Who is who in a cluster: the ``TF_CONFIG`` of a task."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dpsr.errors import DpsrError

CHIEF, WORKER, PS, EVALUATOR = "chief", "worker", "ps", "evaluator"
_JOBS = (CHIEF, WORKER, PS, EVALUATOR)
_ADDRESS = re.compile(r"^(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/]+):(?P<port>\d{1,5})$")
_EXAMPLE = (
    '{"cluster": {"chief": ["host0:2222"], "worker": ["host1:2222"], "ps": ["host2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


class ClusterError(DpsrError, RuntimeError):
    """A cluster that cannot train; the message names the task and what to do."""


@dataclass(frozen=True)
class Task:
    """One process of a cluster, and the addresses of all."""

    job: str
    index: int
    addresses: Mapping[str, tuple[str, ...]]
    """``host:port`` of every task of ``chief``, ``worker`` and ``ps``."""

    @property
    def name(self) -> str:
        """As errors and log files call it: ``worker 1``."""
        return f"{self.job} {self.index}"

    @property
    def address(self) -> str:
        """Where this task listens; an evaluator does not."""
        return self.addresses[self.job][self.index]

    def to_tf_config(self) -> str:
        """The ``TF_CONFIG`` of this task."""
        cluster = {job: list(addresses) for job, addresses in self.addresses.items()}
        return json.dumps({"cluster": cluster, "task": {"type": self.job, "index": self.index}})


def task_of_environment(environment: Mapping[str, str]) -> Task | None:
    """Reads ``TF_CONFIG``; None where it is not set, or tells of no cluster.

    Raises:
        ClusterError: it is malformed; says what is wrong with it, and for which task.
    """
    text = environment.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise ClusterError(f"TF_CONFIG is not JSON ({error}); expected as {_EXAMPLE}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("cluster", {}), dict):
        raise ClusterError(f"TF_CONFIG = {text}: expected an object with an object `cluster`, as {_EXAMPLE}")
    if not tree.get("cluster"):
        return None
    return _parse(tree, text)


def _parse(tree: dict[str, Any], text: str) -> Task:
    job, index = _task(tree, text)
    addresses: dict[str, tuple[str, ...]] = {}
    for name, tasks in tree["cluster"].items():
        known = CHIEF if name == "master" else name
        if known not in _JOBS:
            raise ClusterError(f"TF_CONFIG of {job} {index}: unknown job {name!r}; the jobs are {', '.join(_JOBS)}")
        if known != EVALUATOR:
            addresses[known] = tuple(_address(known, place, task, job, index) for place, task in _tasks(name, tasks))
    for needed, why in ((CHIEF, "the task that coordinates"), (WORKER, "which trains"), (PS, "which holds the tables")):
        if not addresses.get(needed):
            raise ClusterError(
                f"TF_CONFIG of {job} {index}: the cluster has no {needed}, {why}; add its address, or "
                "train on one machine without TF_CONFIG"
            )
    if len(addresses[CHIEF]) > 1:
        raise ClusterError(f"TF_CONFIG of {job} {index}: the cluster has {len(addresses[CHIEF])} chiefs, expected one")
    if job != EVALUATOR and index >= len(addresses[job]):
        raise ClusterError(
            f"TF_CONFIG of {job} {index}: the cluster has only {len(addresses[job])} tasks of this job, "
            "counted from 0; correct task.index, or add its address"
        )
    _check_unique(addresses, job, index)
    return Task(job, index, addresses)


def _task(tree: dict[str, Any], text: str) -> tuple[str, int]:
    task = tree.get("task")
    if not isinstance(task, dict) or not {"type", "index"} <= task.keys():
        raise ClusterError(f"TF_CONFIG = {text}: expected `task` with `type` and `index`, as {_EXAMPLE}")
    job = CHIEF if task["type"] == "master" else task["type"]
    if job not in _JOBS:
        raise ClusterError(f"TF_CONFIG: task.type is {task['type']!r}, expected one of {', '.join(_JOBS)}")
    index = task["index"]
    if isinstance(index, str) and index.isdigit():
        index = int(index)
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise ClusterError(f"TF_CONFIG: task.index of this {job} is {index!r}, expected a number from 0")
    return job, index


def _tasks(job: str, tasks: Any) -> list[tuple[int, Any]]:
    if isinstance(tasks, str) or not isinstance(tasks, list):
        raise ClusterError(f"TF_CONFIG: cluster.{job} is {tasks!r}, expected a list of host:port")
    return list(enumerate(tasks))


def _address(job: str, place: int, address: Any, own_job: str, own_index: int) -> str:
    match = _ADDRESS.match(address) if isinstance(address, str) else None
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ClusterError(
            f"TF_CONFIG of {own_job} {own_index}: the address of {job} {place} is {address!r}, expected host:port"
        )
    return str(address)


def _check_unique(addresses: Mapping[str, tuple[str, ...]], job: str, index: int) -> None:
    seen: dict[str, str] = {}
    for name, tasks in addresses.items():
        for place, address in enumerate(tasks):
            if address in seen:
                raise ClusterError(
                    f"TF_CONFIG of {job} {index}: {seen[address]} and {name} {place} have the same address {address}; "
                    "every task listens on a port of its own"
                )
            seen[address] = f"{name} {place}"


def host_and_port(address: str) -> tuple[str, int]:
    """Splits ``host:port``, also ``[::1]:port``."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
