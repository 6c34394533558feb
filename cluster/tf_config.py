"""Reads ``TF_CONFIG``, the environment variable that says which task of which cluster a process is.

Every launcher (Kubeflow, Vertex AI, Ray, SageMaker, a shell script) writes the variable in a way of its own. What is
not understood is an error: a worker that trained alone would write into the checkpoint directory of the cluster.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from dpsr.cluster.tasks import CHIEF, EVALUATOR, JOBS, PS, WORKER, ClusterError, Task

_EXAMPLE = (
    '{"cluster": {"chief": ["host0:2222"], "worker": ["host1:2222"], "ps": ["host2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
_ALIASES = {"master": CHIEF}
"""Names of jobs in older launchers."""
# Beside `cluster` and `task`: what Kubeflow, Vertex AI, SageMaker and TensorFlow itself add.
_KEYS = ("cluster", "task", "environment", "job", "rpc_layer")
_TASK_KEYS = ("type", "index", "cloud", "trial")
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/,\[\]]+):(?P<port>\d{1,5})")
_SHOWN_CHARACTERS = 300


def task_of_environment(environment: Mapping[str, str]) -> Task | None:
    """Reads ``TF_CONFIG``.

    Returns:
        The task; None where the process trains alone: the variable is not set, is empty or ``{}``, or names a chief
        and no cluster.

    Raises:
        ClusterError: the variable is malformed, or names a task that cannot train alone and no cluster; the message
            says what was found, what is expected and what to do.
    """
    text = environment.get("TF_CONFIG", "").strip()
    if not text:
        return None
    tree = _read_tree(text)
    job, index = _read_task(tree["task"]) if "task" in tree else (None, 0)
    cluster = _read_cluster(tree, "" if job is None else f" of {job} {index}")
    if not tree.get("cluster"):
        if (job, index) not in ((None, 0), (CHIEF, 0)):
            raise _error(
                f" of {job} {index}",
                f"no cluster in {_shown(tree)}; only a chief 0 without a cluster trains alone",
                "add `cluster` with the addresses of all tasks, or unset TF_CONFIG to train on one machine",
            )
        return None
    if job is None:
        raise _error("", f"no `task` in {_shown(tree)}", "add `task` with the `type` and `index` of this process")
    task = Task(job, index, cluster)
    _check_members(task)
    return task


def _error(task: str, problem: str, remedy: str) -> ClusterError:
    return ClusterError(f"TF_CONFIG{task}: {problem}; {remedy}. Expected as {_EXAMPLE}")


def _shown(value: Any) -> str:
    """A value as JSON, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _read_tree(text: str) -> dict[str, Any]:
    """The JSON object of ``TF_CONFIG``, with known keys alone."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        tree = dict(pairs)
        if len(tree) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise _error("", f"the key {twice!r} is there twice in {_shown(text)}", "keep one of the two")
        return tree

    try:
        tree = json.loads(text, object_pairs_hook=once)
    except (json.JSONDecodeError, RecursionError) as error:
        remedy = "quote every name and address with double quotes, and check that each variable in it was replaced"
        raise _error("", f"not JSON ({error}): {_shown(text)}", remedy) from None
    if not isinstance(tree, dict):
        raise _error("", f"expected an object, found {_shown(text)}", "write an object with `cluster` and `task`")
    if "sparseCluster" in tree:
        raise _error(
            "",
            "`sparseCluster` in place of `cluster`, which gives a task only some of the addresses; every task needs "
            "those of all",
            "set enableDynamicWorker: false in the TFJob",
        )
    _check_keys("", tree, _KEYS)
    if tree.get("rpc_layer", "grpc") != "grpc":
        raise _error("", f"rpc_layer is {tree['rpc_layer']!r}, expected 'grpc'", "remove the key")
    return tree


def _check_keys(where: str, found: Iterable[str], known: tuple[str, ...]) -> None:
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(key.lower(), known, n=1)
            raise _error(
                "",
                f"unknown key {where}{key!r}; the keys here are {', '.join(known)}",
                f"rename the key to {close[0]!r}" if close else "remove the key",
            )


def _read_task(task: Any) -> tuple[str, int]:
    """The job and the index of the present process."""
    if not isinstance(task, dict):
        raise _error("", f"`task` is {_shown(task)}, expected an object", "write an object with `type` and `index`")
    _check_keys("task.", task, _TASK_KEYS)
    missing = [key for key in ("type", "index") if key not in task]
    if missing:
        raise _error("", f"`task` is {_shown(task)}, without {missing[0]!r}", f"add task.{missing[0]}")
    job = _job(task["type"], "", "task.type")
    index = task["index"]
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        remedy = f"write {int(index)} without quotes" if _is_quoted_number(index) else "count the tasks of a job from 0"
        raise _error("", f"task.index of this {job} is {index!r}, expected a whole number from 0", remedy)
    return job, index


def _is_quoted_number(value: Any) -> bool:
    return isinstance(value, str) and value.strip().isascii() and value.strip().isdigit()


def _job(name: Any, task: str, where: str) -> str:
    """A known job by its name, or by an older launcher's name for it."""
    job = _ALIASES.get(name, name) if isinstance(name, str) else name
    if job in JOBS:
        return str(job)
    close = difflib.get_close_matches(str(name).lower(), JOBS, n=1)
    raise _error(
        task,
        f"{where} is {name!r}, expected one of {', '.join(JOBS)}",
        f"write {close[0]!r}" if close else "give each process one of these jobs",
    )


def _read_cluster(tree: dict[str, Any], task: str) -> dict[str, tuple[str, ...]]:
    """The addresses of every job but the evaluator's, which listens nowhere; empty without a cluster."""
    cluster = tree.get("cluster", {})
    if not isinstance(cluster, dict):
        kind = "a string" if isinstance(cluster, str) else "not an object"
        raise _error(task, f"`cluster` is {kind}: {_shown(cluster)}", "write an object of lists of host:port, unquoted")
    addresses: dict[str, tuple[str, ...]] = {}
    for name, places in cluster.items():
        job = _job(name, task, "a job of the cluster")
        if job in addresses:
            raise _error(task, f"the cluster has both {name!r} and {job!r}", "keep one of the two")
        if not isinstance(places, list):
            raise _error(task, f"cluster.{name} is {_shown(places)}, expected a list of host:port", "write a list")
        addresses[job] = tuple(_address(job, number, place, task) for number, place in enumerate(places))
    evaluators = addresses.pop(EVALUATOR, ())
    if len(evaluators) > 1:
        raise _error(task, f"the cluster has {len(evaluators)} evaluators, expected at most one", "start only one")
    return addresses


def _address(job: str, number: int, address: Any, task: str) -> str:
    match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
    if match is not None and 0 < int(match["port"]) < 65536:
        return str(address)
    if not isinstance(address, str):
        remedy = "write a string"
    elif "://" in address:
        remedy = "leave out the scheme"
    elif "," in address:
        remedy = "write each address as a string of its own"
    elif match is None and ":" not in address:
        remedy = f"add the port, as {address.strip() or 'host'}:2222"
    else:
        remedy = "give a host name or IP address, [in brackets] for IPv6, and a port from 1 to 65535"
    raise _error(task, f"the address of {job} {number} is {_shown(address)!r}, expected host:port", remedy)


def _check_members(task: Task) -> None:
    """Checks that the cluster can train, and that the task is one of its members."""
    of = f" of {task.name}"
    for needed, why in ((CHIEF, "the task that coordinates"), (WORKER, "which trains"), (PS, "which holds the tables")):
        if not task.addresses.get(needed):
            raise _error(
                of,
                f"the cluster has no {needed}, {why}; found {_counts(task.addresses)}",
                "add its address, or unset TF_CONFIG to train on one machine",
            )
    if len(task.addresses[CHIEF]) > 1:
        raise _error(of, f"the cluster has {len(task.addresses[CHIEF])} chiefs, expected one", "keep one of them")
    members = 1 if task.job == EVALUATOR else len(task.addresses[task.job])
    if task.index >= members:
        raise _error(
            of,
            f"task.index is {task.index}, and the cluster has {members} {task.job} task{'s' * (members > 1)}, counted "
            "from 0",
            "start one evaluator" if task.job == EVALUATOR else "correct task.index, or add the address of this task",
        )
    _check_unique(task)


def _counts(addresses: Mapping[str, tuple[str, ...]]) -> str:
    return ", ".join(f"{len(places)} {job}" for job, places in addresses.items()) or "no job"


def _check_unique(task: Task) -> None:
    seen: dict[tuple[str, int], str] = {}
    for job, places in task.addresses.items():
        for number, address in enumerate(places):
            host, _, port = address.lower().rpartition(":")
            other = seen.setdefault((host, int(port)), f"{job} {number}")
            if other != f"{job} {number}":
                raise _error(
                    f" of {task.name}",
                    f"{other} and {job} {number} have the same address {address}",
                    "every task listens on a port of its own",
                )
