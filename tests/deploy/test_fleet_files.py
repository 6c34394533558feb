"""The files of a fleet agree with each other, with the commands, and with the configuration that they name."""

from __future__ import annotations

import ipaddress
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import grpc
import kubernetes_validate
import pytest
import yaml
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from dpsr.cli import main
from dpsr.config import load_fleet_config
from dpsr.config.loading import load_serving_config

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
FILES = DEPLOY / "fleet"
VERSIONS = ["1.28", "1.37"]
PROCESS_GIB = 0.75
"""Memory of a model server without a model."""
GIB = {"g": 1.0, "Gi": 1.0, "m": 1 / 1024, "Mi": 1 / 1024}


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


FLEET = load_fleet_config(FILES / "fleet.toml")
(COMPOSE,) = documents(FILES / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
CLUSTER = documents(DEPLOY / "kubernetes" / "fleet.yaml")
MONITORING = documents(FILES / "monitoring.yaml")
MANIFESTS = [*CLUSTER, *MONITORING]
(PROMETHEUS,) = documents(FILES / "prometheus.yml")
JOBS = {job["job_name"]: job for job in PROMETHEUS["scrape_configs"]}


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    """Manifests of a kind, by name."""
    return {each["metadata"]["name"]: each for each in MANIFESTS if each["kind"] == kind}


WORKLOADS = {name: each for kind in ("StatefulSet", "Deployment") for name, each in of_kind(kind).items()}


def pod_of(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = WORKLOADS[name]["spec"]["template"]["spec"]
    return spec


def container_of(name: str) -> dict[str, Any]:
    (container,) = pod_of(name)["containers"]
    return dict(container)


def gib(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]+)", text).groups()  # type: ignore[union-attr]
    return int(number) * GIB[unit]


def options_of(words: list[str]) -> tuple[str, dict[str, Any]]:
    """A command line, as the command gets it.

    Returns:
        The command and its options.

    Raises:
        click.UsageError: there is no such command, or it takes no such options.
    """
    command: click.Command | None = main
    name, left = words[0], words[1:]
    assert name == "dpsr"
    while isinstance(command, click.Group):
        name, left = left[0], left[1:]
        command = command.get_command(click.Context(command), name)
    if command is None:
        raise click.UsageError(f"no command {name}")
    with command.make_context(name, left) as context:
        return name, context.params


COMMANDS = {f"compose {name}": each["command"] for name, each in SERVICES.items() if each["image"].startswith("dpsr")}
COMMANDS |= {f"cluster {name}": container_of(name)["command"] for name in WORKLOADS if "command" in container_of(name)}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", MANIFESTS, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_kubernetes_accepts_the_manifests(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("place", COMMANDS)
def test_every_command_is_one_of_dpsr(place: str) -> None:
    name, options = options_of(COMMANDS[place])
    if name == "serve":
        settings = load_serving_config(options["overrides"])
        assert (settings.host, settings.model_config_poll_seconds) == ("0.0.0.0", 1.0)
        assert options["model_config_file"].startswith(f"{FLEET.state_dir}/servers/")
    else:
        assert name in ("controller", "proxy")
        assert options["path"] == "/etc/dpsr/fleet.toml"


def test_the_check_of_commands_sees_what_is_wrong() -> None:
    for words in (["dpsr", "fleet", "router"], ["dpsr", "fleet", "proxy", "--nam", "x"], ["dpsr", "serve", "--hosts"]):
        with pytest.raises(click.UsageError):
            options_of(words)


@pytest.mark.parametrize("server", FLEET.servers)
def test_every_server_of_the_fleet_is_there_with_its_address_and_memory(server: str) -> None:
    entry = FLEET.servers[server]
    host, port = entry.address.split(":")
    rest_host, rest_port = str(entry.rest_address).split(":")
    assert host == rest_host == server
    config_file = str(FLEET.config_file(server))

    _, options = options_of(SERVICES[server]["command"])
    settings = load_serving_config(options["overrides"])
    assert options["model_config_file"] == config_file
    assert (str(settings.port), str(settings.rest_port)) == (port, rest_port)
    _, options = options_of(container_of("dpsr-server")["command"])
    assert options["model_config_file"].replace("$(NAME)", server) == config_file

    service = of_kind("Service")[server]["spec"]
    assert service["selector"] == {"statefulset.kubernetes.io/pod-name": server}
    assert "clusterIP" not in service  # an address that stays
    assert [each["port"] for each in service["ports"]] == [int(port), int(rest_port)]
    headroom = max(PROCESS_GIB, entry.memory_gib / 8)
    assert gib(SERVICES[server]["mem_limit"]) >= entry.memory_gib + headroom
    assert gib(container_of("dpsr-server")["resources"]["limits"]["memory"]) >= entry.memory_gib + headroom


def test_there_are_no_more_servers_than_the_fleet_has() -> None:
    replicas = WORKLOADS["dpsr-server"]["spec"]["replicas"]
    assert set(FLEET.servers) == {f"dpsr-server-{index}" for index in range(replicas)}
    assert set(FLEET.servers) == {name for name, each in SERVICES.items() if options_name(each) == "serve"}
    assert {str(server.rest_address) for server in FLEET.servers.values()} == {
        target for entry in JOBS["dpsr-servers"]["static_configs"] for target in entry["targets"]
    }


def options_name(service: dict[str, Any]) -> str:
    return options_of(service["command"])[0] if service["image"].startswith("dpsr") else ""


def test_names_of_servers_resolve_while_their_containers_stand_still() -> None:
    (range_of_network,) = COMPOSE["networks"]["fleet"]["ipam"]["config"]
    for part in ("controller", "proxy"):
        assert set(SERVICES[part]["extra_hosts"]) == set(FLEET.servers)
        for server, address in SERVICES[part]["extra_hosts"].items():
            assert SERVICES[server]["networks"]["fleet"]["ipv4_address"] == address
            assert ipaddress.ip_address(address) in ipaddress.ip_network(range_of_network["subnet"])
            assert ipaddress.ip_address(address) not in ipaddress.ip_network(range_of_network["ip_range"])


def test_the_ports_of_the_proxy_are_those_of_the_fleet() -> None:
    proxy = FLEET.proxy
    assert proxy.host == "0.0.0.0"
    published = {int(port.rpartition(":")[2]) for port in SERVICES["proxy"]["ports"]}
    assert published == {proxy.port, proxy.rest_port}  # metrics are for the inside
    assert SERVICES["proxy"]["expose"] == [str(proxy.metrics_port)]
    assert [port["containerPort"] for port in container_of("dpsr-proxy")["ports"]] == [
        proxy.port,
        proxy.rest_port,
        proxy.metrics_port,
    ]
    services = of_kind("Service")
    assert [port["port"] for port in services["dpsr-fleet"]["spec"]["ports"]] == [proxy.port, proxy.rest_port]
    assert [port["port"] for port in services["dpsr-proxies"]["spec"]["ports"]] == [proxy.metrics_port]
    for job in ("dpsr-proxies", "dpsr-aliases"):
        (names,) = JOBS[job]["dns_sd_configs"]
        assert names == {"names": ["dpsr-proxies"], "type": "A", "port": proxy.metrics_port}
    assert "dpsr-proxies" in SERVICES["proxy"]["networks"]["fleet"]["aliases"]
    assert f':{proxy.metrics_port}/healthz"' in SERVICES["proxy"]["healthcheck"]["test"][3]
    for probe in ("readinessProbe", "livenessProbe"):
        assert container_of("dpsr-proxy")[probe]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    assert f"EXPOSE {proxy.port} {proxy.rest_port} {proxy.metrics_port}\n" in dockerfile


def test_every_name_that_a_manifest_uses_exists() -> None:
    made_by_hand = re.findall(r"kubectl create (configmap|secret generic) ([\w-]+)", headers())
    configmaps = {name for kind, name in made_by_hand if kind == "configmap"}
    secrets = {name for kind, name in made_by_hand if kind != "configmap"}
    claims = of_kind("PersistentVolumeClaim")
    for name, workload in WORKLOADS.items():
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
        volumes = {volume["name"]: volume for volume in pod_of(name)["volumes"]}
        for volume in volumes.values():
            assert volume.get("configMap", {}).get("name") in {None, *configmaps}
            assert volume.get("persistentVolumeClaim", {}).get("claimName") in {None, *claims}
        for container in [*pod_of(name).get("initContainers", []), *pod_of(name)["containers"]]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
            for entry in container.get("env", []):
                assert entry.get("valueFrom", {}).get("secretKeyRef", {}).get("name") in {None, *secrets}
    selectable = [each["spec"]["template"]["metadata"]["labels"] for each in WORKLOADS.values()]
    selectors = [each["spec"]["selector"] for each in of_kind("Service").values()]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in of_kind("PodDisruptionBudget").values()]
    for selector in selectors:
        if "statefulset.kubernetes.io/pod-name" not in selector:
            assert any(selector.items() <= labels.items() for labels in selectable), selector
    assert of_kind("StatefulSet")["dpsr-server"]["spec"]["serviceName"] in of_kind("Service")
    for name in ("dpsr-fleet-state", "dpsr-fleet-models"):
        assert claims[name]["spec"]["accessModes"] == ["ReadWriteMany"]


def headers() -> str:
    """The comments of the manifests, with the commands that make what they use."""
    return "".join(
        path.read_text(encoding="utf-8") for path in (DEPLOY / "kubernetes/fleet.yaml", FILES / "monitoring.yaml")
    )


def test_every_file_that_a_container_gets_exists() -> None:
    for name, service in SERVICES.items():
        for volume in service["volumes"]:
            if volume["type"] == "volume":
                assert volume["source"] in COMPOSE["volumes"], name
            elif not volume["source"].startswith("${"):
                assert (FILES / volume["source"]).exists(), name
    for source in re.findall(r"--from-file=(\S+)", headers()):
        assert any((folder / source).exists() for folder in (ROOT, FILES)), source
    for volume in pod_of("dpsr-grafana")["volumes"]:
        for item in volume.get("configMap", {}).get("items", []):
            assert (FILES / "grafana" / item["key"]).is_file()


def test_the_models_are_where_the_fleet_expects_them_and_cannot_be_changed() -> None:
    assert all(model.base_path.startswith("/models/") for model in FLEET.models.values())
    for part in (*FLEET.servers, "controller"):
        (models,) = (each for each in SERVICES[part]["volumes"] if each["target"] == "/models")
        assert models["read_only"] is True
    for name in ("dpsr-server", "dpsr-controller"):
        mounts = {each["mountPath"]: each for each in container_of(name)["volumeMounts"]}
        assert mounts["/models"]["readOnly"] is True
        assert mounts["/state"].get("readOnly", False) is (name == "dpsr-server")


def test_containers_have_no_rights_that_they_do_not_need_and_a_limit_of_memory() -> None:
    for service in SERVICES.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert gib(service["mem_limit"]) > 0
        assert set(service["healthcheck"]) == {"test", "interval", "timeout", "retries", "start_period"}
    for name in WORKLOADS:
        spec = pod_of(name)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert gib(container["resources"]["limits"]["memory"]) >= gib(container["resources"]["requests"]["memory"])
        assert "livenessProbe" in spec["containers"][0]


def test_parts_that_must_not_be_alone_are_two_and_go_one_by_one() -> None:
    for name in ("dpsr-controller", "dpsr-proxy"):
        assert WORKLOADS[name]["spec"]["replicas"] >= 2
        assert of_kind("PodDisruptionBudget")[name]["spec"]["maxUnavailable"] == 1
    assert of_kind("PodDisruptionBudget")["dpsr-server"]["spec"]["maxUnavailable"] == 1
    _, options = options_of(container_of("dpsr-proxy")["command"])
    assert options["name"] == "$(NAME)"
    (variable,) = container_of("dpsr-proxy")["env"]
    assert variable == {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}


def test_a_stop_leaves_time_for_the_requests_in_flight() -> None:
    for server in FLEET.servers:
        _, options = options_of(SERVICES[server]["command"])
        drain = load_serving_config(options["overrides"]).drain_seconds
        assert int(SERVICES[server]["stop_grace_period"].removesuffix("s")) > drain
        assert pod_of("dpsr-server")["terminationGracePeriodSeconds"] > drain


def test_images_are_pinned_alike_and_the_fleet_has_its_own() -> None:
    ours = {"dpsr-fleet:latest"}
    in_compose = {each["image"] for each in SERVICES.values()} - ours
    in_cluster = {each["image"] for name in WORKLOADS for each in pod_of(name)["containers"]} - ours
    assert in_compose == in_cluster
    assert all(re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", image) for image in in_compose)
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    stages = re.findall(r"^FROM (\S+) AS (\w+)$", dockerfile, flags=re.MULTILINE)
    assert ("base", SERVICES["proxy"]["build"]["target"]) in stages
    assert stages[-1][0] == "base"  # a build without a target has no HAProxy
    fleet_stage = dockerfile.split(" AS fleet\n")[1].split("\nFROM ")[0]
    user = SERVICES["proxy"]["user"]
    assert f"\nUSER {user}\n" in fleet_stage
    assert user.split(":")[0] == str(pod_of("dpsr-proxy")["securityContext"]["runAsUser"])
    assert " haproxy " in fleet_stage
    assert f"dpsr {FLEET.state_dir} " in fleet_stage  # a new volume takes its owner from the image


@pytest.fixture
def health_server() -> Iterator[tuple[health.HealthServicer, int]]:
    server, servicer = grpc.server(ThreadPoolExecutor(2)), health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, port
    server.stop(None).wait()


def test_the_health_check_of_a_server_asks_the_server(health_server: tuple[health.HealthServicer, int]) -> None:
    servicer, port = health_server
    kind, python, flag, script = SERVICES["dpsr-server-0"]["healthcheck"]["test"]
    assert (kind, python, flag) == ("CMD", "python", "-c")
    states = health_pb2.HealthCheckResponse
    for state, works in ((states.NOT_SERVING, False), (states.SERVING, True)):
        servicer.set("", state)
        done = subprocess.run(
            [sys.executable, "-c", script.replace(":8500", f":{port}")], capture_output=True, check=False
        )
        assert (done.returncode == 0) is works, done.stderr.decode()


def test_the_health_check_of_a_controller_looks_at_the_age_of_its_status(tmp_path: Path) -> None:
    status = tmp_path / "status.json"
    in_compose = SERVICES["controller"]["healthcheck"]["test"][1]
    in_cluster = container_of("dpsr-controller")["livenessProbe"]["exec"]["command"][2]
    for check in (in_compose, in_cluster):
        assert "/state/status.json" in check
        status.unlink(missing_ok=True)
        assert run_check(check, status) != 0
        status.write_text("{}")
        assert run_check(check, status) == 0
        os.utime(status, (time.time() - 90, time.time() - 90))
        assert run_check(check, status) != 0


def run_check(check: str, status: Path) -> int:
    command = check.replace(f"{FLEET.state_dir}/status.json", str(status))
    return subprocess.run(["sh", "-c", command], capture_output=True, check=False).returncode
