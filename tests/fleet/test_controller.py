"""The controller, with real gRPC servers on loopback that follow their config files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from light_server import LightServer

from dpsr.config import load_fleet_config
from dpsr.serving.fleet.controller import control
from dpsr.serving.fleet.errors import FleetError
from dpsr.serving.fleet.operations import order_drain, order_move, order_promotion, read_status
from dpsr.serving.fleet.state import FleetStatus, ProxyReport, Routes, read_state, write_state


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Polls until the condition holds, and returns its value; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the awaited state did not come"
        time.sleep(0.02)
    return value


class LocalFleet:
    """Light servers and a controller in threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "fleet.toml"
        self.state = folder / "state"
        self.servers: dict[str, LightServer] = {}
        self._stops: list[tuple[threading.Event, threading.Thread]] = []
        self._proxy: tuple[threading.Event, threading.Thread] | None = None

    def add_server(self, name: str, **options: Any) -> LightServer:
        server = LightServer(name, self.state / "servers" / f"{name}.config", **options)
        self.servers[name] = server
        return server

    def write(self, models: dict[str, dict[str, Any]], *, memory: float = 1.0, more: str = "") -> None:
        """Writes ``fleet.toml``; every model's base path has a version."""
        lines = ['state_dir = "state"', "control.dead_seconds = 1.0", "control.min_resident_seconds = 0.2"]
        for name, server in self.servers.items():
            lines += [f"[servers.{name}]", f'address = "{server.address}"', f"memory_gib = {memory}"]
        for name, options in models.items():
            version = self.folder / "models" / name / "1"
            version.mkdir(parents=True, exist_ok=True)
            (version / "saved_model.pb").write_bytes(b"a graph")
            values = {"base_path": f"models/{name}", "memory_gib": 0.1, **options}
            lines += [
                f"[models.{name}]",
                *(
                    f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"
                    for key, value in values.items()
                ),
            ]
        self.file.write_text("\n".join([*lines, more]))

    def start(self) -> threading.Event:
        stop = threading.Event()
        fleet = load_fleet_config(self.file)
        arguments = (self.file, fleet, lambda: load_fleet_config(self.file), stop.is_set)
        thread = threading.Thread(target=control, args=arguments, daemon=True)
        thread.start()
        self._stops.append((stop, thread))
        return stop

    def stop(self) -> None:
        for stop, thread in self._stops:
            stop.set()
            thread.join()
        self._stops = []

    def close(self) -> None:
        self.stop()
        for server in self.servers.values():
            server.kill()

    @property
    def config(self) -> Any:
        return load_fleet_config(self.file)

    def routes(self) -> Routes:
        return read_state(self.state / "routes.json", Routes) or Routes()

    def ready(self, model: str) -> list[str]:
        return [end.server for end in self.routes().models.get(model, ()) if end.state == "ready"]

    def status(self) -> FleetStatus:
        return read_status(self.config)

    def report(self, **values: Any) -> None:
        """Writes the report of a proxy that has applied the present routes."""
        report = {"written_at": time.time(), "generation": self.routes().generation, **values}
        write_state(self.state / "proxies" / "test.json", ProxyReport(**report))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[LocalFleet]:
    fleet = LocalFleet(tmp_path)
    yield fleet
    fleet.close()


def all_ready(fleet: LocalFleet, replicas: dict[str, int]) -> bool:
    return all(len(fleet.ready(model)) == count for model, count in replicas.items())


def test_models_come_up_with_their_replicas_one_load_at_a_time(fleet: LocalFleet) -> None:
    for name in "abc":
        fleet.add_server(name)
    replicas = {f"m{number}": 1 + number % 2 for number in range(8)}
    fleet.write({model: {"replicas": count} for model, count in replicas.items()})
    fleet.start()
    wait_for(lambda: all_ready(fleet, replicas))
    for model, count in replicas.items():
        holders = [name for name, server in fleet.servers.items() if model in server.available()]
        assert sorted(fleet.ready(model)) == holders
        assert len(holders) == count
    assert sum(len(server.loads) for server in fleet.servers.values()) == sum(replicas.values())
    wait_for(lambda: not fleet.status().missing)
    assert fleet.status().problems == ("no proxy reports: clients reach nothing; start one by: dpsr fleet proxy",)
    wait_for(lambda: fleet.report() or fleet.status().is_settled())
    behind = fleet.routes().generation - 1
    wait_for(lambda: fleet.report(generation=behind, down=("b",)) or fleet.status().behind() == ["test"])
    assert "proxy test sends nothing to server b: its health check fails there" in fleet.status().problems
    assert not fleet.status().is_settled()


def test_a_dead_server_s_models_come_up_elsewhere_and_nothing_else_moves(fleet: LocalFleet) -> None:
    for name in "abc":
        fleet.add_server(name)
    models = [f"m{number}" for number in range(9)]
    fleet.write({model: {} for model in models})
    fleet.start()
    wait_for(lambda: all_ready(fleet, dict.fromkeys(models, 1)))
    before = {model: fleet.ready(model)[0] for model in models}
    lost = max(fleet.servers, key=lambda name: len(fleet.servers[name].available()))
    fleet.servers[lost].kill()
    wait_for(lambda: all(fleet.ready(model) not in ([], [lost]) for model in models))
    for model in models:
        assert before[model] in (lost, fleet.ready(model)[0])
    wait_for(lambda: f"server {lost} does not answer" in fleet.status().problems)
    fleet.servers[lost].start()
    wait_for(lambda: fleet.report() or fleet.status().is_settled())
    wait_for(lambda: all_ready(fleet, dict.fromkeys(models, 1)))


def test_a_new_controller_goes_on_where_the_last_one_ended(fleet: LocalFleet) -> None:
    fleet.add_server("a"), fleet.add_server("b")
    models = [f"m{number}" for number in range(6)]
    fleet.write({model: {} for model in models})
    fleet.start()
    wait_for(lambda: all_ready(fleet, dict.fromkeys(models, 1)))
    routes, loads = fleet.routes(), [list(server.loads) for server in fleet.servers.values()]
    fleet.stop()
    fleet.start()
    first = fleet.status().written_at
    wait_for(lambda: fleet.status().written_at > first + 1)
    assert fleet.routes() == routes
    assert [server.loads for server in fleet.servers.values()] == loads


def test_of_two_controllers_one_leads(fleet: LocalFleet) -> None:
    fleet.add_server("a")
    fleet.write({"m": {}})
    stop = fleet.start()
    wait_for(lambda: fleet.ready("m"))
    second = fleet.start()
    fleet.write({"m": {}, "n": {}})
    wait_for(lambda: fleet.ready("n"))
    stop.set()
    fleet.write({"m": {}, "n": {}, "o": {}})
    wait_for(lambda: fleet.ready("o"))
    assert not second.is_set()
    assert fleet.servers["a"].loads == ["m", "n", "o"]


def test_a_move_waits_for_the_requests_in_flight_at_every_proxy(fleet: LocalFleet) -> None:
    fleet.add_server("a"), fleet.add_server("b")
    fleet.write({"m": {}})
    fleet.start()
    (source,) = wait_for(lambda: fleet.ready("m"))
    target = "b" if source == "a" else "a"
    wait_for(lambda: (fleet.state / "status.json").exists() and fleet.status().servers[source].models)
    fleet.report(in_flight={})
    order_move(fleet.config, "m", source, target)
    wait_for(lambda: fleet.ready("m") == [target])
    drains = [end.server for end in fleet.routes().models["m"] if end.state == "drain"]
    assert drains == [source]
    for _ in range(5):  # the proxy has the routes, and a request in flight
        fleet.report(in_flight={"m": {source: 1}})
        time.sleep(0.1)
        assert "m" in fleet.servers[source].available()
    fleet.report(in_flight={"m": {source: 0}})
    wait_for(lambda: "m" not in fleet.servers[source].available())
    assert fleet.ready("m") == [target]
    wait_for(lambda: not fleet.status().servers[source].models)


def test_a_drained_server_is_emptied_and_filled_again(fleet: LocalFleet) -> None:
    for name in "abc":
        fleet.add_server(name)
    models = [f"m{number}" for number in range(6)]
    fleet.write({model: {"replicas": 2} for model in models})
    fleet.start()
    wait_for(lambda: all_ready(fleet, dict.fromkeys(models, 2)))
    order_drain(fleet.config, "a", undo=False)
    wait_for(lambda: not fleet.servers["a"].available())
    assert all_ready(fleet, dict.fromkeys(models, 2))
    order_drain(fleet.config, "a", undo=True)
    wait_for(lambda: fleet.servers["a"].available())


def test_a_server_leaves_the_configuration_when_the_others_hold_its_models(fleet: LocalFleet) -> None:
    fleet.add_server("a"), fleet.add_server("b", load_seconds=0.3)
    models: dict[str, dict[str, Any]] = {"m0": {}, "m1": {}, "m2": {}}
    fleet.write(models)
    fleet.start()
    wait_for(lambda: all_ready(fleet, dict.fromkeys(models, 1)))
    gone = fleet.servers.pop("a")
    assert gone.available()
    try:
        fleet.write(models)
        while gone.available():
            assert all(fleet.ready(model) for model in models)
            time.sleep(0.01)
        wait_for(lambda: set(fleet.routes().servers) == {"b"})
        assert all(fleet.ready(model) == ["b"] for model in models)
    finally:
        gone.kill()


def test_an_alias_changes_when_its_new_model_answers(fleet: LocalFleet) -> None:
    slow = fleet.add_server("a", load_seconds=1.0)
    alias = "[aliases.shop]\nvariants = {one = 1}"
    fleet.write({"one": {}}, more=alias)
    fleet.start()
    wait_for(lambda: fleet.ready("one"))
    fleet.write({"one": {}, "two": {}}, more=alias)
    order_promotion(fleet.config, "shop", {"one": 3, "two": 1})
    while "two" not in slow.available():
        assert fleet.routes().aliases["shop"].variants == {"one": 1.0}
        time.sleep(0.02)
    wait_for(lambda: fleet.routes().aliases["shop"].variants == {"one": 0.75, "two": 0.25})
    fleet.write({"one": {}, "two": {}}, more=alias.replace("one = 1", "two = 1"))
    wait_for(lambda: fleet.routes().aliases["shop"].variants == {"two": 1.0})


def test_a_broken_model_is_named_and_keeps_nothing_else_out(fleet: LocalFleet) -> None:
    server = fleet.add_server("a")
    server.broken["bad"] = "models/bad/1: no such op"
    fleet.write({"bad": {"requests_per_second": 100.0}, "good": {}})
    fleet.start()
    wait_for(lambda: fleet.ready("good"))
    assert fleet.ready("bad") == []
    wait_for(lambda: any("model bad on server a: models/bad/1: no such op" in p for p in fleet.status().problems))
    wait_for(lambda: fleet.status().missing == {"bad": 1})


def test_an_unusable_configuration_changes_nothing(fleet: LocalFleet) -> None:
    fleet.add_server("a")
    fleet.write({"m": {}})
    fleet.start()
    wait_for(lambda: fleet.ready("m"))
    fleet.file.write_text(fleet.file.read_text() + "\n[aliases.x]\nvariants = {nobody = 1}\n")
    state = fleet.state / "status.json"
    wait_for(
        lambda: (
            (s := read_state(state, FleetStatus)) and any("aliases.x.variants names nobody" in p for p in s.problems)
        )
    )
    assert fleet.ready("m") == ["a"]


def test_on_demand_models_come_at_a_request_and_the_least_recently_used_leave(fleet: LocalFleet) -> None:
    server = fleet.add_server("a")
    models = [f"m{number}" for number in range(6)]
    on_demand = {model: {"on_demand": True, "memory_gib": 0.3} for model in models}
    fleet.write({"resident": {"memory_gib": 0.3}, **on_demand}, memory=1.0)
    fleet.start()
    wait_for(lambda: fleet.ready("resident"))
    assert server.loads == ["resident"]
    used: dict[str, float] = {}
    for model in [*models, "m5", "m4", "m0"]:
        since = time.time()

        def answers(model: str = model, since: float = since) -> bool:
            fleet.report(wanted={} if fleet.ready(model) else {model: since}, used=used)
            return bool(fleet.ready(model))

        wait_for(answers)
        time.sleep(0.3)  # min_resident_seconds has passed, so that the time of the last use decides
        used[model] = time.time()
        assert fleet.ready("resident") == ["a"]
    assert server.most_at_once <= 3
    assert server.loads == ["resident", *models, "m0"]
    wait_for(lambda: server.available() == {"resident", "m4", "m0"})


def test_an_on_demand_model_that_fits_nowhere_is_refused_with_the_reason(fleet: LocalFleet) -> None:
    fleet.add_server("a")
    fleet.write({"resident": {"memory_gib": 0.5}, "big": {"on_demand": True, "memory_gib": 0.6}}, memory=1.0)
    fleet.start()
    wait_for(lambda: fleet.ready("resident"))
    fleet.report(wanted={"big": time.time()})
    wait_for(lambda: "big needs 0.60 GiB" in fleet.routes().refused.get("big", ""))


def test_orders_name_what_is_wrong(fleet: LocalFleet) -> None:
    fleet.add_server("a")
    fleet.write({"m": {}, "n": {"on_demand": True}}, more="[aliases.shop]\nvariants = {m = 1}")
    with pytest.raises(FleetError, match="no alias 'm'"):
        order_promotion(fleet.config, "m", {"n": 1.0})
    with pytest.raises(FleetError, match="circle: shop -> shop"):
        order_promotion(fleet.config, "shop", {"shop": 1.0})
    with pytest.raises(FleetError, match="never been up"):
        order_move(fleet.config, "m", "a", "a")
    with pytest.raises(FleetError, match="loaded on demand"):
        order_move(fleet.config, "n", "a", "a")
    fleet.start()
    wait_for(lambda: (fleet.state / "status.json").exists() and fleet.status().servers["a"].models)
    with pytest.raises(FleetError, match=r"no server 'x' in the fleet \(there: a\)"):
        order_drain(fleet.config, "x", undo=False)
    with pytest.raises(FleetError, match=r"no server 'x' in the fleet \(there: a\)"):
        order_move(fleet.config, "m", "a", "x")
    with pytest.raises(FleetError, match="model m is on server a already"):
        order_move(fleet.config, "m", "a", "a")
