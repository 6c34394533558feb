"""What Prometheus and Grafana ask of a fleet is what HAProxy, its script and the servers say of themselves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import yaml
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from dpsr.config import FleetConfig, load_fleet_config
from dpsr.config.fleet import FleetAlias, FleetModel, FleetProxy
from dpsr.serving.fleet.proxy.agent import ProxyAgent
from dpsr.serving.fleet.state import Address, AliasRoute, Endpoint, Routes, write_state
from dpsr.serving.fleet.up import free_ports
from dpsr.serving.fleet.wire import GetModelStatusRequest
from dpsr.serving.metrics import Metrics, ModelFigures, RequestLabels

FILES = Path(__file__).resolve().parent.parent.parent / "deploy" / "fleet"
PROXY_HEALTH = "/healthz"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
PROMETHEUS = yaml.safe_load((FILES / "prometheus.yml").read_text(encoding="utf-8"))
JOBS = {job["job_name"]: job for job in PROMETHEUS["scrape_configs"]}
(GROUP,) = yaml.safe_load((FILES / "alerts.yml").read_text(encoding="utf-8"))["groups"]
BOARD = json.loads((FILES / "grafana" / "fleet.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {f"alert {rule['alert']}": rule["expr"] for rule in GROUP["rules"]}
EXPRESSIONS |= {
    f"panel {panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]
}

needs_haproxy = pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy; make deps-fleet installs it")
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool; make deps-fleet installs it")

Series = dict[str, dict[str, set[str]]]
"""Metric -> label -> values."""


def relabelled(labels: dict[str, str], rules: list[dict[str, Any]]) -> dict[str, str] | None:
    """Labels of a series after Prometheus' rules; None for one that is dropped."""
    for rule in rules:
        text = ";".join(labels.get(name, "") for name in rule["source_labels"])
        found = re.fullmatch(rule["regex"], text)
        if found and rule.get("action") == "drop":
            return None
        if found:
            labels = labels | {rule["target_label"]: found.expand(rule["replacement"].replace("$", "\\"))}
    return labels


def read(job: str, page: str, into: Series) -> None:
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = {"__name__": sample.name, "job": job, "instance": "host:1", **sample.labels}
            for name, value in (relabelled(labels, JOBS[job].get("metric_relabel_configs", [])) or {}).items():
                into[sample.name][name].add(value)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Series:
    """What the three jobs scrape: a proxy with a server that answers and one that is down, and a model server."""
    found: Series = defaultdict(lambda: defaultdict(set))
    state = tmp_path_factory.mktemp("state")
    backend, servicer = grpc.server(ThreadPoolExecutor(2)), health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, backend)
    answers = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
    backend.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", {"Predict": answers}),)
    )
    live = backend.add_insecure_port("127.0.0.1:0")
    backend.start()
    dead, port, metrics_port = free_ports(3)
    variants, shadow = {"shop_v41": 1.0}, {"shop_v41": 1.0}
    routes = Routes(
        generation=1,
        servers={"up": Address(grpc=f"127.0.0.1:{live}"), "down": Address(grpc=f"127.0.0.1:{dead}")},
        models={"shop_v41": (Endpoint(server="up"),), "shop_v42": (Endpoint(server="down"),), "books": ()},
        on_demand=frozenset({"books"}),
        aliases={"shop": AliasRoute(variants=variants, shadow=shadow)},
    )
    write_state(state / "routes.json", routes)
    fleet = FleetConfig(
        state_dir=str(state),
        models={model: FleetModel(base_path="/models", on_demand=model == "books") for model in routes.models},
        aliases={"shop": FleetAlias(variants=variants, shadow=shadow)},
        proxy=FleetProxy(port=port, rest_port=-1, metrics_port=metrics_port, threads=1),
    )
    stop = threading.Event()
    agent = threading.Thread(target=ProxyAgent(fleet, "test", state / "run").run, args=(stop,))
    agent.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            for model in ("shop", "shop_v41", "shop_v42"):
                request = GetModelStatusRequest()
                request.model_spec.name = model
                call = channel.unary_unary(PREDICT)
                code = call.future(request.SerializeToString(), timeout=20, wait_for_ready=True).code()
                assert code == (grpc.StatusCode.UNAVAILABLE if model == "shop_v42" else grpc.StatusCode.OK)
        address = f"http://127.0.0.1:{metrics_port}"
        page = wait_for(
            f"{address}/metrics", 'haproxy_server_status{proxy="grpc:shop_v42",server="down",state="DOWN"} 1'
        )
        read("dpsr-proxies", page, found)
        read("dpsr-aliases", wait_for(f"{address}/aliases", "dpsr_fleet_shadow_requests_total{"), found)
        wait_for(f"{address}{PROXY_HEALTH}", "")
    finally:
        stop.set()
        agent.join()
        backend.stop(None).wait()
    read("dpsr-servers", server_page(), found)
    for job in JOBS:
        found["up"]["job"].add(job)
    found["up"]["instance"].add("host:1")
    return found


def wait_for(address: str, text: str) -> str:
    """A page, as soon as it holds the text."""
    page, deadline = "", time.monotonic() + 30
    while time.monotonic() < deadline:
        with urllib.request.urlopen(address, timeout=10) as answer:
            page = answer.read().decode()
        if text in page:
            return page
        time.sleep(0.1)
    raise AssertionError(f"{address} does not say {text}")


def server_page() -> str:
    metrics = Metrics()
    labels = RequestLabels("shop_v41", "1", "serving_default")
    for code in ("OK", "UNAVAILABLE"):
        metrics.finish(labels, code, 0.01)
    return metrics.page([ModelFigures("shop_v41", [1], 100)]).decode()


class Selector(NamedTuple):
    """A metric in an expression, with its matchers."""

    metric: str
    matchers: list[tuple[str, str, str]]


_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[A-Za-z_:][\w:]*|\d+(?:\.\d+)?|[=!]~|[=!<>]=|\S')
_GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_OPERATORS = {"and", "or", "unless", "bool"}
_FUNCTIONS = {"sum", "max", "min", "count", "topk", "bottomk", "rate", "histogram_quantile", "absent", "vector"}


def parse(expression: str) -> tuple[list[Selector], set[str]]:
    """Metrics of an expression, and the labels that it groups by.

    Raises:
        ValueError: brackets do not match, or a function is unknown.
    """
    tokens = _TOKENS.findall(expression)
    opening, open_ones = {")": "(", "}": "{"}, list[str]()
    for token in tokens:
        if token in opening.values():
            open_ones.append(token)
        elif token in opening and (not open_ones or open_ones.pop() != opening[token]):
            raise ValueError(f"{token} without its counterpart")
    if alone := [*open_ones, *(token for token in tokens if token in ('"', "[", "]"))]:
        raise ValueError(f"{alone[0]} without its counterpart")
    selectors, groups, place = [], set[str](), 0
    while place < len(tokens):
        token, following = tokens[place], tokens[place + 1] if place + 1 < len(tokens) else ""
        place += 1
        if token in _GROUPING:
            end = tokens.index(")", place)
            groups |= set(tokens[place + 1 : end]) - {","}
            place = end
        elif token in _FUNCTIONS and following in ("(", "by", "without"):
            continue
        elif following == "(" and re.match(r"[A-Za-z_]", token) and token not in _OPERATORS:
            raise ValueError(f"{token} is no function")
        elif re.match(r"[A-Za-z_:]", token) and token not in _OPERATORS:
            matchers: list[tuple[str, str, str]] = []
            if following == "{":
                end = tokens.index("}", place)
                inside = [each for each in tokens[place + 1 : end] if each != ","]
                matchers = [(inside[i], inside[i + 1], inside[i + 2][1:-1]) for i in range(0, len(inside), 3)]
                place = end
            selectors.append(Selector(token, matchers))
    return selectors, groups


def concrete(expression: str) -> str:
    """An expression of the board with its variables filled in, as Grafana does for all of them."""
    return re.sub(r"\$(model|alias)\b", ".+", expression.replace("$__rate_interval", "1m"))


@needs_haproxy
@pytest.mark.parametrize("place", EXPRESSIONS)
def test_every_expression_asks_for_what_is_there(place: str, series: Series) -> None:
    selectors, groups = parse(concrete(EXPRESSIONS[place]))
    assert selectors
    for metric, matchers in selectors:
        assert metric in series, metric
        for label, operator, value in matchers:
            values = series[metric].get(label, set())
            if value and operator in ("=", "=~"):
                assert any(re.fullmatch(value, each) if operator == "=~" else value == each for each in values)
            else:
                assert values, f"{metric} has no {label}"
            if label == "code" and not value.endswith("xx") and operator == "=~":
                assert set(value.split("|")) <= {code.name for code in grpc.StatusCode}
    known = {label for metric, _ in selectors for label in series[metric]}
    assert groups <= known


@pytest.mark.parametrize(
    "wrong", ["sum(up", "sum(up))", "median(up)", 'sum(up{job="a)', "rate(up[5m)", "sum(up}) by (job)"]
)
def test_the_check_of_expressions_sees_what_is_wrong(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"counterpart|no function"):
        parse(wrong)


def test_the_models_on_demand_of_the_rules_are_those_of_the_fleet() -> None:
    fleet = load_fleet_config(FILES / "fleet.toml")
    rules = JOBS["dpsr-proxies"]["metric_relabel_configs"]
    marked = {
        name for name in fleet.models if (relabelled({"proxy": f"grpc:{name}"}, rules) or {}).get("on_demand") == "true"
    }
    assert marked == {name for name, model in fleet.models.items() if model.on_demand}


def test_every_alert_says_what_is_wrong_and_how_urgent_it_is() -> None:
    for rule in GROUP["rules"]:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description"}
        _, groups = parse(rule["expr"])
        named = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        assert not groups or named <= groups  # an aggregation keeps no other label


def test_the_board_is_whole() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    cells: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        taken = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not taken & cells, panel["title"]
        cells |= taken
    (source,) = yaml.safe_load((FILES / "grafana" / "datasources.yml").read_text(encoding="utf-8"))["datasources"]
    variables = {variable["name"] for variable in BOARD["templating"]["list"]}
    for panel in PANELS:
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= variables | {"__rate_interval"}
            _, groups = parse(concrete(target["expr"]))
            legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert not groups or legend <= groups, panel["title"]


def test_grafana_finds_the_board_and_prometheus() -> None:
    compose = yaml.safe_load((FILES / "compose.yaml").read_text(encoding="utf-8"))["services"]
    (provider,) = yaml.safe_load((FILES / "grafana" / "dashboards.yml").read_text(encoding="utf-8"))["providers"]
    boards = {volume["target"] for volume in compose["grafana"]["volumes"]}
    assert f"{provider['options']['path']}/fleet.json" in boards
    (source,) = yaml.safe_load((FILES / "grafana" / "datasources.yml").read_text(encoding="utf-8"))["datasources"]
    assert source["url"] == "http://dpsr-prometheus:9090"
    assert "dpsr-prometheus" in compose["prometheus"]["networks"]["fleet"]["aliases"]


@needs_promtool
def test_prometheus_accepts_the_configuration_and_the_expressions_of_the_board(tmp_path: Path) -> None:
    run_promtool("check", "config", str(FILES / "prometheus.yml"))
    rules = [{"record": f"panel:{number}", "expr": concrete(each)} for number, each in enumerate(EXPRESSIONS.values())]
    file = tmp_path / "board.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    run_promtool("check", "rules", str(file))


def run_promtool(*words: str) -> None:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


BACKEND = '{instance="p1",proxy="grpc:m",protocol="grpc",model="m"%s}'
FAULTS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "FleetServerDown": ({'up{job="dpsr-servers",instance="s"}': "0x60"}, {"job": "dpsr-servers", "instance": "s"}),
    "FleetProxyDown": ({'up{job="dpsr-proxies",instance="p2"}': "0x60"}, {"job": "dpsr-proxies", "instance": "p2"}),
    "FleetNoProxy": ({'up{job="dpsr-proxies",instance="p1"}': "_x60"}, {}),
    "FleetAgentDown": (
        {'up{job="dpsr-aliases",instance="p1"}': "0x60"},
        {"job": "dpsr-aliases", "instance": "p1"},
    ),
    "FleetModelDown": ({"haproxy_backend_active_servers" + BACKEND % "": "0x60"}, {"model": "m"}),
    "FleetEndpointDown": (
        {"haproxy_server_status" + BACKEND % ',server="s",state="DOWN"': "1x60"},
        {"instance": "p1", "proxy": "grpc:m", "protocol": "grpc", "model": "m", "server": "s", "state": "DOWN"},
    ),
    "FleetProxyBehind": (
        {
            "haproxy_backend_active_servers" + BACKEND % "": "2x60",
            "haproxy_backend_active_servers" + (BACKEND % "").replace("p1", "p2"): "1x60",
        },
        {"model": "m"},
    ),
    "FleetServerErrors": (
        {
            'dpsr_requests_total{instance="s",model="m",code="OK"}': "0+95x60",
            'dpsr_requests_total{instance="s",model="m",code="UNAVAILABLE"}': "0+5x60",
        },
        {"model": "m"},
    ),
    "FleetProxyErrors": (
        {
            "haproxy_backend_http_requests_total" + BACKEND % "": "0+100x60",
            "haproxy_backend_http_responses_total" + BACKEND % ',code="5xx"': "0+5x60",
        },
        {"model": "m"},
    ),
    "FleetSlow": (
        {
            'dpsr_request_seconds_bucket{model="m",le="0.2"}': "0+90x60",
            'dpsr_request_seconds_bucket{model="m",le="0.5"}': "0+100x60",
            'dpsr_request_seconds_bucket{model="m",le="+Inf"}': "0+100x60",
        },
        {"model": "m"},
    ),
}
HEALTHY = {
    'up{job="dpsr-servers",instance="s"}': "1x60",
    'up{job="dpsr-proxies",instance="p1"}': "1x60",
    'up{job="dpsr-aliases",instance="p1"}': "1x60",
    "haproxy_backend_active_servers" + BACKEND % "": "1x60",
    "haproxy_backend_active_servers" + (BACKEND % ',on_demand="true"').replace('model="m"', 'model="d"'): "0x60",
    "haproxy_server_status" + BACKEND % ',server="s",state="DOWN"': "0x60",
    'dpsr_requests_total{instance="s",model="m",code="OK"}': "0+95x60",
    'dpsr_requests_total{instance="s",model="m",code="INVALID_ARGUMENT"}': "0+50x60",
    "haproxy_backend_http_requests_total" + BACKEND % "": "0+100x60",
    'dpsr_request_seconds_bucket{model="m",le="0.2"}': "0+100x60",
    'dpsr_request_seconds_bucket{model="m",le="+Inf"}': "0+100x60",
}


@needs_promtool
def test_each_alert_fires_at_its_fault_and_none_without_one(tmp_path: Path) -> None:
    assert set(FAULTS) == {rule["alert"] for rule in GROUP["rules"]}
    rules = {rule["alert"]: rule for rule in GROUP["rules"]}
    (tmp_path / "alerts.yml").write_text(
        yaml.safe_dump({"groups": [{**GROUP, "rules": [{**rule, "annotations": {}} for rule in GROUP["rules"]]}]})
    )
    tests = []
    for fault, (change, labels) in {"": ({}, {}), **FAULTS}.items():
        expected = [{"exp_labels": labels | rules[fault]["labels"]}] if fault else []
        tests.append(
            {
                "interval": "30s",
                "input_series": [{"series": name, "values": each} for name, each in {**HEALTHY, **change}.items()],
                "alert_rule_test": [
                    {"eval_time": "25m", "alertname": name, "exp_alerts": expected if name == fault else []}
                    for name in ([fault] if fault else FAULTS)
                ],
            }
        )
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": ["alerts.yml"], "evaluation_interval": "30s", "tests": tests}))
    run_promtool("test", "rules", str(file))
