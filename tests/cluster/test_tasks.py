"""TF_CONFIG: what is read, and what is said about a bad one."""

import json

import pytest

from dpsr.cluster.tasks import ClusterError, task_of_environment

CLUSTER = {"chief": ["a:1"], "worker": ["b:1", "b:2"], "ps": ["[::1]:7"]}


def config(cluster: object = CLUSTER, task: object = None) -> dict[str, str]:
    tree = {"cluster": cluster, "task": {"type": "worker", "index": 1} if task is None else task}
    return {"TF_CONFIG": json.dumps(tree)}


def test_a_task_is_read_and_written_back() -> None:
    task = task_of_environment(config())
    assert task is not None
    assert (task.name, task.address) == ("worker 1", "b:2")
    assert task_of_environment({"TF_CONFIG": task.to_tf_config()}) == task


@pytest.mark.parametrize("text", ["", " ", "{}", '{"cluster": {}, "task": {"type": "chief", "index": 0}}'])
def test_no_cluster_is_one_machine(text: str) -> None:
    assert task_of_environment({"TF_CONFIG": text}) is None


def test_an_evaluator_is_in_no_cluster_spec() -> None:
    task = task_of_environment(config(CLUSTER, {"type": "evaluator", "index": 0}))
    assert task is not None
    assert task.job == "evaluator"


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"TF_CONFIG": "{"}, "TF_CONFIG is not JSON"),
        ({"TF_CONFIG": "[1]"}, "expected an object"),
        (config(task={"type": "worker"}), "expected `task` with `type` and `index`"),
        (
            config(task={"type": "boss", "index": 0}),
            "task.type is 'boss', expected one of chief, worker, ps, evaluator",
        ),
        (config(task={"type": "worker", "index": "x"}), "task.index of this worker is 'x'"),
        (config(task={"type": "worker", "index": 2}), "TF_CONFIG of worker 2: the cluster has only 2 tasks"),
        (
            config({"chief": ["a:1"], "worker": ["b:1", "b:2"]}),
            "worker 1: the cluster has no ps, which holds the tables; add its address",
        ),
        (config(CLUSTER | {"ps": ["host"]}), "the address of ps 0 is 'host', expected host:port"),
        (config(CLUSTER | {"ps": "host:1"}), "cluster.ps is 'host:1', expected a list"),
        (config(CLUSTER | {"ps": ["b:2"]}), "worker 1 and ps 0 have the same address b:2"),
        (config(CLUSTER | {"chief": ["a:1", "a:2"]}), "2 chiefs, expected one"),
        (config(CLUSTER | {"tpu": ["a:9"]}), "unknown job 'tpu'"),
    ],
)
def test_a_malformed_configuration_is_explained(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ClusterError) as error:
        task_of_environment(environment)
    assert message in str(error.value)
