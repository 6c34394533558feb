"""The manifests are valid by their schemas, agree with each other, and give every task the TF_CONFIG that it needs."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from dpsr.cluster.tf_config import task_of_environment
from dpsr.config import parse_config

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
TFJOB_SCHEMA = json.loads((Path(__file__).parent / "tfjob.schema.json").read_text(encoding="utf-8"))
# The oldest version whose schema the library has and that knows the pod index label of stateful sets, and the newest.
VERSIONS = ["1.28", "1.37"]


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


COMMON = documents(DEPLOY / "kubernetes" / "common.yaml")
TRAINING = documents(DEPLOY / "kubernetes" / "training.yaml")
TFJOB = documents(DEPLOY / "tfjob.yaml")


def check_tfjob(job: dict[str, Any], version: str) -> None:
    jsonschema.Draft202012Validator(TFJOB_SCHEMA).validate(job)
    for replica, of_replica in job["spec"]["tfReplicaSpecs"].items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": replica.lower()}}
        template = of_replica["template"]
        pod["metadata"] |= template.get("metadata", {})
        kubernetes_validate.validate(pod | {"spec": template["spec"]}, version, strict=True)


def templates(kinds: tuple[str, ...] = ("StatefulSet", "Job")) -> dict[str, dict[str, Any]]:
    """Of every task: type to pod template."""
    found = {}
    for document in TRAINING:
        if document["kind"] in kinds:
            template = document["spec"]["template"]
            found[template["metadata"]["labels"]["dpsr/task"]] = template
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "document", [*COMMON, *TRAINING], ids=lambda each: f"{each['kind']}-{each['metadata']['name']}"
)
def test_kubernetes_accepts_the_manifests(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_operator_accepts_the_job(version: str) -> None:
    (job,) = TFJOB
    check_tfjob(job, version)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("spec", "runPolicy", "cleanPodPolicy"), "Sometimes"),
        (("spec", "runPolicy", "backOffLimit"), 3),
        (("spec", "tfReplicaSpecs", "Master"), {"template": {"spec": {}}}),
        (("spec", "tfReplicaSpecs", "Chief", "replicas"), 2),
        (("spec", "tfReplicaSpecs", "PS", "restartPolicy"), "onfailure"),
        (("spec", "tfReplicaSpecs", "PS", "template", "spec", "containers", 0, "imag"), "x"),
        (("spec", "tfReplicaSpecs", "Worker", "template", "spec", "volumes", 0, "name"), 7),
    ],
)
def test_the_check_of_the_job_sees_what_is_wrong(path: tuple[str | int, ...], wrong: Any) -> None:
    job = copy.deepcopy(TFJOB[0])
    place: Any = job
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = wrong
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check_tfjob(job, VERSIONS[-1])


def test_the_operator_finds_container_and_port() -> None:
    replicas = TFJOB[0]["spec"]["tfReplicaSpecs"]
    assert set(replicas) == {"Chief", "Worker", "PS", "Evaluator"}
    for replica in replicas.values():
        (container,) = replica["template"]["spec"]["containers"]
        assert container["name"] == "tensorflow"
        assert {"name": "tfjob-port", "containerPort": 2222} in container["ports"]


def test_both_ways_run_the_same_pods() -> None:
    replicas = TFJOB[0]["spec"]["tfReplicaSpecs"]
    plain = templates()
    assert {name.lower() for name in replicas} == set(plain)
    for name, replica in replicas.items():
        theirs, ours = (copy.deepcopy(each["spec"]) for each in (replica["template"], plain[name.lower()]))
        for spec in (theirs, ours):
            for key in ("restartPolicy", "subdomain"):
                spec.pop(key, None)
            for key in ("env", "ports"):
                spec["containers"][0].pop(key, None)
        assert theirs == ours


def pod_environments(task: str) -> list[dict[str, str]]:
    """The environment of every pod of a task type, put together as the kubelet does."""
    configmaps = {each["metadata"]["name"]: each["data"] for each in TRAINING if each["kind"] == "ConfigMap"}
    (owner,) = (each for each in TRAINING if each["metadata"]["name"] == f"dpsr-{task}" and "template" in each["spec"])
    is_set = owner["kind"] == "StatefulSet"
    count = owner["spec"]["replicas" if is_set else "completions"]
    field = (
        "metadata.labels['apps.kubernetes.io/pod-index']"
        if is_set
        else "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    )
    environments = []
    for index in range(count):
        environment: dict[str, str] = {}
        for entry in owner["spec"]["template"]["spec"]["containers"][0]["env"]:
            if "value" in entry:
                known = dict(environment)
                value = re.sub(r"\$\((\w+)\)", lambda match, known=known: known[match[1]], entry["value"])
            elif "fieldRef" in entry["valueFrom"]:
                assert entry["valueFrom"]["fieldRef"]["fieldPath"] == field
                value = str(index)
            else:
                reference = entry["valueFrom"]["configMapKeyRef"]
                value = configmaps[reference["name"]][reference["key"]]
            environment[entry["name"]] = value
        environments.append(environment)
    return environments


def test_every_plain_pod_gets_its_own_place_in_one_cluster() -> None:
    seen = {}
    for task in ("chief", "worker", "ps", "evaluator"):
        for index, environment in enumerate(pod_environments(task)):
            tree = json.loads(environment["TF_CONFIG"])
            assert tree["task"] == {"type": task, "index": index}
            parsed = task_of_environment(environment)
            assert parsed is not None
            assert parsed.name == f"{task} {index}"
            seen[task, index] = tree["cluster"]
    (cluster,) = {json.dumps(each) for each in seen.values()}
    addresses = json.loads(cluster)
    assert {task: len(names) for task, names in addresses.items()} == {"chief": 1, "worker": 2, "ps": 2}
    assert {(task, index) for task, names in addresses.items() for index in range(len(names))} == {
        place for place in seen if place[0] != "evaluator"
    }


def test_every_address_is_a_pod_of_a_headless_service() -> None:
    services = {each["metadata"]["name"]: each["spec"] for each in TRAINING if each["kind"] == "Service"}
    cluster = json.loads(pod_environments("ps")[0]["TF_CONFIG"])["cluster"]
    for task, names in cluster.items():
        for index, name in enumerate(names):
            host, port = name.split(":")
            pod, service = host.split(".")
            assert (pod, service) == (f"dpsr-{task}-{index}", f"dpsr-{task}")
            assert services[service]["clusterIP"] == "None"
            assert services[service]["publishNotReadyAddresses"] is True
            assert services[service]["selector"] == {"dpsr/task": task}
            assert {"name": "grpc", "port": int(port)} in services[service]["ports"]
    for task, template in templates(("Job",)).items():
        assert template["spec"].get("subdomain") == (f"dpsr-{task}" if task in cluster else None)
    for task, template in templates(("StatefulSet",)).items():
        assert template["metadata"]["labels"]["dpsr/task"] == task


def test_pods_have_no_rights_that_they_do_not_need() -> None:
    for template in templates().values():
        spec = template["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        (container,) = spec["containers"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert template["metadata"]["labels"]["app.kubernetes.io/part-of"] == "dpsr-training"
    (policy,) = (each["spec"] for each in COMMON if each["kind"] == "NetworkPolicy")
    assert policy["podSelector"]["matchLabels"] == {"app.kubernetes.io/part-of": "dpsr-training"}


def test_the_configuration_in_the_config_map_is_one() -> None:
    (files,) = (each["data"] for each in COMMON if each["kind"] == "ConfigMap")
    for name, text in files.items():
        config = parse_config(tomllib.loads(text), name)
        assert config.work_dir.startswith("/data/")
        (container,) = TFJOB[0]["spec"]["tfReplicaSpecs"]["PS"]["template"]["spec"]["containers"]
        assert container["command"][-1] == f"/etc/dpsr/{name}"


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_runs_as_the_user_of_the_pods() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    context = templates()["ps"]["spec"]["securityContext"]
    assert f"\nUSER {context['runAsUser']}:{context['runAsGroup']}\n" in text
