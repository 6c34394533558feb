"""The tasks of a cluster: their jobs, names and addresses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from dpsr.errors import DpsrError

CHIEF, WORKER, PS, EVALUATOR = "chief", "worker", "ps", "evaluator"
JOBS = (CHIEF, WORKER, PS, EVALUATOR)


class ClusterError(DpsrError, RuntimeError):
    """A cluster that cannot train; the message names the task and what to do."""


@dataclass(frozen=True)
class Task:
    """One process of a cluster, and the addresses of all."""

    job: str
    """One of ``JOBS``."""
    index: int
    """Among the tasks of the same job, from 0."""
    addresses: Mapping[str, tuple[str, ...]]
    """``host:port`` of every task of ``chief``, ``worker`` and ``ps``."""

    @property
    def name(self) -> str:
        """As errors and log files call it: ``worker 1``."""
        return f"{self.job} {self.index}"

    @property
    def address(self) -> str:
        """``host:port`` at which the task listens; an evaluator has none."""
        return self.addresses[self.job][self.index]

    def to_tf_config(self) -> str:
        """The ``TF_CONFIG`` of this task; ``tf_config.task_of_environment`` reads it."""
        cluster = {job: list(addresses) for job, addresses in self.addresses.items()}
        return json.dumps({"cluster": cluster, "task": {"type": self.job, "index": self.index}})


def host_and_port(address: str) -> tuple[str, int]:
    """Splits ``host:port``, also ``[::1]:port``."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
