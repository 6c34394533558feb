"""``dpsr fleet up --local``: real model servers, HAProxy and controller, by the commands that an operator gives."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from test_controller import wait_for

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "serving"))
import tiny_shop

from dpsr.serving.client import PredictClient
from dpsr.serving.errors import ServingError
from dpsr.serving.fleet.up import free_ports

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy; make deps-fleet installs it")

QUERIES = [b"red", b"blue tea"]


def dpsr(*words: object, code: int | None = 0) -> str:
    """Output of a command, which has to end with the exit code; None for any."""
    done = subprocess.run(
        [sys.executable, "-m", "dpsr.cli", *map(str, words)], capture_output=True, text=True, timeout=120, check=False
    )
    assert code in (None, done.returncode), done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Base paths ``v41`` and ``v42`` of versions that differ, ``cold``, and ``empty`` without a version."""
    folder = tmp_path_factory.mktemp("f")
    for version in (1, 2):
        tiny_shop.write(folder / f"v4{version}" / str(version), version)
    shutil.copytree(folder / "v41", folder / "cold")
    (folder / "empty").mkdir()
    return folder


def write(folder: Path, more: str = "") -> Path:
    file = folder / "fleet.toml"
    ports = dict(zip(("port", "rest_port", "metrics_port"), free_ports(3), strict=True))
    models = "".join(f'[models.{name}]\nbase_path = "{name}"\nreplicas = 2\n' for name in ("v41", "v42"))
    text = f'state_dir = "state"\n{models}[models.cold]\nbase_path = "cold"\non_demand = true\n'
    text += "[proxy]\n" + "".join(f"{key} = {value}\n" for key, value in ports.items())
    file.write_text(text + '[aliases.shop]\nvariants = {v41 = 1}\nsticky_header = "x-user"\n' + more)
    return file


@pytest.fixture(scope="module")
def fleet(folder: Path) -> Iterator[Path]:
    file = write(folder)
    log = folder / "up.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "dpsr.cli", "fleet", "up", "-c", str(file), "--local", "2"]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for((folder / "state" / "status.json").exists, 60)
        dpsr("fleet", "status", "-c", file, "--wait", "100")
        yield file
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    assert [line for line in command_lines() if str(folder) in line] == []


def command_lines() -> Iterator[str]:
    """Those of all processes."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            yield file.read_bytes().replace(b"\0", b" ").decode(errors="replace")


def port(file: Path, key: str) -> int:
    return next(int(line.split("=")[1]) for line in file.read_text().splitlines() if line.startswith(f"{key} ="))


def answering(client: PredictClient, model: str) -> int:
    """Number of the version that answers, by its scores."""
    score = client.predict(model, {"query": QUERIES}, timeout=60)["score"]
    return next(number for number in (1, 2) if np.array_equal(score, tiny_shop.expected(QUERIES, number)["score"]))


def test_clients_find_models_aliases_and_models_on_demand_at_one_address(fleet: Path) -> None:
    with PredictClient(f"127.0.0.1:{port(fleet, 'port')}") as client:
        assert [answering(client, model) for model in ("v41", "v42", "shop", "cold")] == [1, 2, 1, 1]
        assert set(client.metadata("shop").signatures) >= {"serving_default", "personalized"}
        assert client.status("v42")[2].state == "AVAILABLE"
        with pytest.raises(ServingError, match=r"Servable not found for request: Latest\(nobody\)"):
            client.predict("nobody", {"query": QUERIES})
        with pytest.raises(ServingError, match="Signature input alias: query"):
            client.predict("v41", {"text": QUERIES})
    request = urllib.request.Request(
        f"http://127.0.0.1:{port(fleet, 'rest_port')}/v1/models/shop:predict",
        data=json.dumps({"instances": ["red"]}).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.headers["x-dpsr-variant"] == "v41"
        (found,) = json.loads(answer.read())["predictions"]
    assert found["item_id"] == [name.decode() for name in tiny_shop.expected([b"red"], 1)["item_id"][0]]


def test_a_promotion_and_a_drained_server(fleet: Path) -> None:
    said = dpsr("fleet", "promote", "-c", fleet, "shop", "v42")
    assert "shop -> v42 100.0%" in said
    with PredictClient(f"127.0.0.1:{port(fleet, 'port')}") as client:
        wait_for(lambda: answering(client, "shop") == 2)
        dpsr("fleet", "drain", "-c", fleet, "local2")
        wait_for(lambda: "local2    drained" in dpsr("fleet", "status", "-c", fleet, code=None))
        assert "2 replicas" in dpsr("fleet", "status", "-c", fleet, code=1)  # one server is left for two replicas
        assert answering(client, "v41") == 1
        dpsr("fleet", "drain", "-c", fleet, "local2", "--undo")
        dpsr("fleet", "status", "-c", fleet, "--wait", "60")
    assert "no server 'nobody' in the fleet (there: local1, local2)" in dpsr(
        "fleet", "drain", "-c", fleet, "nobody", code=1
    )


def test_what_cannot_work_is_named_before_anything_starts(folder: Path, tmp_path: Path) -> None:
    base = (folder / "fleet.toml").read_text().replace('"v4', f'"{folder}/v4').replace('"cold"', f'"{folder}/cold"')
    file = tmp_path / "fleet.toml"

    def refused(text: str, *options: str, code: int = 1) -> str:
        file.write_text(text)
        said = dpsr("fleet", "up", "-c", file, *options, code=code)
        assert not (tmp_path / "state" / "routes.json").exists()
        return said

    assert "add [servers.NAME]" in refused(base)
    empty = f'[models.nothing]\nbase_path = "{folder}/empty"\n'
    assert "empty" in refused(base + empty, "--local", "2")
    assert "nothing" in refused(base + empty, "--local", "2")
    huge = f'[models.huge]\nbase_path = "{folder}/v41"\nmemory_gib = 90000\n'
    assert "huge" in refused(base + huge, "--local", "2")
    (silent,) = free_ports(1)
    server = f'[servers.a]\naddress = "127.0.0.1:{silent}"\nmemory_gib = 9\n'
    one = base.replace("replicas = 2", "replicas = 1")
    assert f"servers.a at 127.0.0.1:{silent}" in refused(one + server)
    assert "aliases.x.variants names y" in refused(base + "[aliases.x]\nvariants = {y = 1}\n", code=2)


def test_the_plan_shows_what_would_be_where(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "fleet.toml"
    servers = "".join(f'[servers.s{n}]\naddress = "10.0.0.{n}:8500"\nmemory_gib = 1\n' for n in (1, 2))
    base = (folder / "fleet.toml").read_text().replace('"v4', f'"{folder}/v4').replace('"cold"', f'"{folder}/cold"')
    file.write_text(base + servers)
    plan = dpsr("fleet", "plan", "-c", file)
    assert "s1" in plan
    assert "v41" in plan
    assert "1 models on demand" in plan
