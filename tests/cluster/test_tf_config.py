"""``TF_CONFIG``: what is read, and that whatever is not understood is an error instead of a training of one."""

import json
import random

import pytest

from dpsr.cluster.tasks import JOBS, ClusterError
from dpsr.cluster.tf_config import task_of_environment

CLUSTER = {"chief": ["a:1"], "worker": ["b:1", "b:2"], "ps": ["[::1]:7"]}
CHIEF_TASK = {"type": "chief", "index": 0}
WORKER_TASK = {"type": "worker", "index": 1}


def config(cluster: object = CLUSTER, task: object = WORKER_TASK, **more: object) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task, **more})}


def text(tree: object) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps(tree)}


def test_a_task_is_read_and_written_back() -> None:
    task = task_of_environment(config())
    assert task is not None
    assert (task.name, task.address) == ("worker 1", "b:2")
    assert task_of_environment({"TF_CONFIG": task.to_tf_config()}) == task


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TF_CONFIG": ""},
        {"TF_CONFIG": " "},
        text({}),
        text({"environment": "cloud"}),
        text({"cluster": {}}),
        text({"task": CHIEF_TASK}),
        text({"cluster": {}, "task": {"type": "master", "index": 0}, "environment": "cloud", "job": "{}"}),
    ],
)
def test_no_cluster_and_no_task_but_a_chief_is_one_machine(environment: dict[str, str]) -> None:
    assert task_of_environment(environment) is None


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        # Kubeflow's training operator; its evaluators are in no cluster.
        (config(task={"type": "ps", "index": 0}, environment="cloud"), "ps 0"),
        (config(task={"type": "evaluator", "index": 0}, environment="cloud"), "evaluator 0"),
        (config(CLUSTER | {"evaluator": ["e:1"]}, {"type": "evaluator", "index": 0}), "evaluator 0"),
        # SageMaker, and the older AI Platform, call the chief a master.
        (config({"master": ["a:1"], "worker": ["b:1"], "ps": ["c:1"]}, {"type": "master", "index": 0}), "chief 0"),
        (
            config(task={"type": "worker", "index": 0, "trial": "1", "cloud": "x"}, job="{}", rpc_layer="grpc"),
            "worker 0",
        ),
    ],
)
def test_what_launchers_write_is_read(environment: dict[str, str], name: str) -> None:
    task = task_of_environment(environment)
    assert task is not None
    assert task.name == name
    assert set(task.addresses) == {"chief", "worker", "ps"}


@pytest.mark.parametrize(
    ("environment", "messages"),
    [
        # No cluster, and a task that cannot train alone.
        (text({"task": {"type": "worker", "index": 0}}), ["of worker 0: no cluster in", "unset TF_CONFIG to train on"]),
        (text({"task": {"type": "ps", "index": 1}}), ["of ps 1: no cluster in"]),
        (text({"cluster": {}, "task": {"type": "evaluator", "index": 0}}), ["of evaluator 0: no cluster in"]),
        (text({"task": {"type": "chief", "index": 1}}), ["of chief 1: no cluster in", "only a chief 0"]),
        (
            text({"sparseCluster": {"worker": {"1": "b:2"}, "ps": ["c:1"]}, "task": WORKER_TASK}),
            ["`sparseCluster` in place of `cluster`", "set enableDynamicWorker: false in the TFJob"],
        ),
        (text({"clutser": CLUSTER, "task": CHIEF_TASK}), ["unknown key 'clutser'", "rename the key to 'cluster'"]),
        (text({"Cluster": CLUSTER, "task": CHIEF_TASK}), ["unknown key 'Cluster'", "rename the key to 'cluster'"]),
        (text({"cluster_spec": CLUSTER, "Task": CHIEF_TASK}), ["unknown key 'cluster_spec'"]),
        (
            config(tracking="7"),
            ["unknown key 'tracking'; the keys here are cluster, task, environment, job, rpc_layer"],
        ),
        (config(rpc_layer="grpc+gdr"), ["rpc_layer is 'grpc+gdr', expected 'grpc'"]),
        # No object, or not the objects that they should be.
        ({"TF_CONFIG": "{"}, ["TF_CONFIG: not JSON ("]),
        ({"TF_CONFIG": "{'cluster': {}}"}, ["TF_CONFIG: not JSON (", "double quotes"]),
        ({"TF_CONFIG": '{"task": {"type": "worker", "index": }}'}, ["not JSON (", "each variable in it was replaced"]),
        ({"TF_CONFIG": "[" * 100_000}, ["TF_CONFIG: not JSON ("]),
        ({"TF_CONFIG": '{"cluster": {"ps": ["a:1"], "ps": ["b:1"]}}'}, ["the key 'ps' is there twice"]),
        ({"TF_CONFIG": "[1]"}, ["expected an object, found [1]"]),
        ({"TF_CONFIG": "null"}, ["expected an object, found null"]),
        (
            config(json.dumps(CLUSTER)),
            ["of worker 1: `cluster` is a string: {", "write an object of lists of host:port"],
        ),
        (config([CLUSTER]), ["of worker 1: `cluster` is not an object: [{"]),
        (config(None), ["of worker 1: `cluster` is not an object: null"]),
        # The task.
        (text({"cluster": CLUSTER}), ["no `task` in", "add `task` with the `type` and `index`"]),
        (config(task=None), ["`task` is null, expected an object"]),
        (config(task={}), ["`task` is {}, without 'type'; add task.type"]),
        (config(task={"type": "worker"}), ["without 'index'; add task.index"]),
        (config(task={"type": "worker", "idx": 0}), ["unknown key task.'idx'", "rename the key to 'index'"]),
        (
            config(task={"type": "boss", "index": 0}),
            ["task.type is 'boss', expected one of chief, worker, ps, evaluator"],
        ),
        (config(task={"type": "Worker", "index": 0}), ["task.type is 'Worker'", "write 'worker'"]),
        (config(task={"type": ["ps"], "index": 0}), ["task.type is ['ps'], expected one of"]),
        (config(task={"type": "worker", "index": "1"}), ["task.index of this worker is '1'", "write 1 without quotes"]),
        (config(task={"type": "worker", "index": "x"}), ["task.index of this worker is 'x', expected a whole number"]),
        (config(task={"type": "worker", "index": 1.0}), ["task.index of this worker is 1.0, expected a whole number"]),
        (config(task={"type": "worker", "index": True}), ["task.index of this worker is True"]),
        (config(task={"type": "worker", "index": -1}), ["task.index of this worker is -1"]),
        (config(task={"type": "worker", "index": None}), ["task.index of this worker is None"]),
        (
            config(task={"type": "worker", "index": 2}),
            ["of worker 2: task.index is 2, and the cluster has 2 worker tasks, counted from 0; correct task.index"],
        ),
        (config(task={"type": "evaluator", "index": 1}), ["the cluster has 1 evaluator task", "start one evaluator"]),
        # The cluster.
        (
            config({"chief": ["a:1"], "worker": ["b:1", "b:2"]}),
            ["of worker 1: the cluster has no ps, which holds the tables; found 1 chief, 2 worker; add its address"],
        ),
        (config({"worker": ["b:1", "b:2"]}), ["of worker 1: the cluster has no chief, the task that coordinates"]),
        (config({"chief": ["a:1"]}, CHIEF_TASK), ["of chief 0: the cluster has no worker, which trains"]),
        (config({"chief": ["a:1"], "ps": ["c:1"]}), ["of worker 1: the cluster has no worker"]),
        (config(CLUSTER | {"ps": []}), ["the cluster has no ps"]),
        (config({"evaluator": ["e:1"]}), ["the cluster has no chief, the task that coordinates; found no job"]),
        (config(CLUSTER | {"chief": ["a:1", "a:2"]}), ["the cluster has 2 chiefs, expected one"]),
        (config(CLUSTER | {"master": ["a:2"]}), ["the cluster has both 'master' and 'chief'"]),
        (config(CLUSTER | {"evaluator": ["e:1", "e:2"]}), ["the cluster has 2 evaluators, expected at most one"]),
        (config(CLUSTER | {"tpu": ["a:9"]}), ["a job of the cluster is 'tpu', expected one of chief, worker, ps"]),
        (config(CLUSTER | {"wroker": ["a:9"]}), ["a job of the cluster is 'wroker'", "write 'worker'"]),
        # The addresses.
        (config(CLUSTER | {"ps": "host:1"}), ["cluster.ps is host:1, expected a list of host:port"]),
        (config(CLUSTER | {"ps": {"0": "host:1"}}), ['cluster.ps is {"0": "host:1"}, expected a list']),
        (config(CLUSTER | {"ps": 2}), ["cluster.ps is 2, expected a list"]),
        (
            config(CLUSTER | {"ps": ["host"]}),
            ["the address of ps 0 is 'host', expected host:port; add the port, as host:"],
        ),
        (config(CLUSTER | {"ps": [""]}), ["the address of ps 0 is '', expected host:port"]),
        (config(CLUSTER | {"ps": [2222]}), ["the address of ps 0 is '2222', expected host:port; write a string"]),
        (config(CLUSTER | {"ps": ["host:"]}), ["the address of ps 0 is 'host:'", "a port from 1 to 65535"]),
        (config(CLUSTER | {"ps": ["host:0"]}), ["the address of ps 0 is 'host:0'", "a port from 1 to 65535"]),
        (config(CLUSTER | {"ps": ["host:65536"]}), ["the address of ps 0 is 'host:65536'"]),
        (config(CLUSTER | {"ps": ["host:http"]}), ["the address of ps 0 is 'host:http'"]),
        (config(CLUSTER | {"ps": ["::1:7"]}), ["the address of ps 0 is '::1:7'", "[in brackets] for IPv6"]),
        (
            config(CLUSTER | {"ps": ["grpc://host:1"]}),
            ["the address of ps 0 is 'grpc://host:1'", "leave out the scheme"],
        ),
        (
            config(CLUSTER | {"ps": ["c:1,d:1"]}),
            ["the address of ps 0 is 'c:1,d:1'", "each address as a string of its"],
        ),
        (config(CLUSTER | {"ps": [" c:1"]}), ["the address of ps 0 is ' c:1'"]),
        (config(CLUSTER | {"ps": ["c:1\n"]}), ["the address of ps 0 is 'c:1\\n'"]),
        (config(CLUSTER | {"ps": ["b:2"]}), ["of worker 1: worker 1 and ps 0 have the same address b:2"]),
        (config(CLUSTER | {"worker": ["b:1", "B:01"]}), ["worker 0 and worker 1 have the same address B:01"]),
    ],
)
def test_what_is_not_understood_is_an_error(environment: dict[str, str], messages: list[str]) -> None:
    with pytest.raises(ClusterError) as error:
        task_of_environment(environment)
    for message in [*messages, 'Expected as {"cluster": {"chief": ["host0:2222"]']:
        assert message in str(error.value)
    assert len(str(error.value)) < 1000


def test_a_damaged_configuration_never_trains_alone() -> None:
    """With any value replaced, or any key removed or misspelt, a whole cluster is read or an error raised."""
    source = random.Random(1)
    junk = [None, 0, -1, 2, 1.5, True, "", "0", "x", "a:1", "b", [], {}, ["a:1"], {"0": "a:1"}, [[]]]
    for _ in range(3000):
        tree = json.loads(config(task={"type": source.choice(JOBS[1:]), "index": 0})["TF_CONFIG"])
        place = tree
        while isinstance(place, dict | list) and place:
            key = source.choice(list(place) if isinstance(place, dict) else range(len(place)))
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or source.random() < 0.4:
                _damage(source, place, key, junk)
                break
            place = inner
        try:
            task = task_of_environment({"TF_CONFIG": json.dumps(tree)})
        except ClusterError:
            continue
        assert task is not None, tree
        assert task.index < len(task.addresses.get(task.job, [""])), tree
        assert all(task.addresses[job] for job in ("chief", "worker", "ps")), tree


def _damage(source: random.Random, place: dict | list, key: object, junk: list) -> None:
    kind = source.randrange(3) if isinstance(place, dict) else 0
    if kind == 0:
        place[key] = source.choice(junk)
    elif kind == 1:
        del place[key]
    else:
        place[str(key)[::-1]] = place.pop(key)
