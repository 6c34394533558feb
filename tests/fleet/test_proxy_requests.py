"""What the proxy makes of unusual requests, what the access log says of failures, and a stress."""

from __future__ import annotations

import collections
import itertools
import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from light_server import LightServer
from messages import member, predict_request, tensor
from odd_servers import OddServer
from test_controller import wait_for
from test_proxy import SHOP, Proxied, failure

from dpsr.serving.fleet.proxy import access_log
from dpsr.serving.fleet.proxy.variants import variant_of
from dpsr.serving.fleet.state import AliasRoute
from dpsr.serving.fleet.up import free_ports
from dpsr.serving.fleet.wire import GetModelStatusRequest

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="no haproxy; make deps-fleet installs it")


class SpecServer(LightServer):
    """Keeps the bytes of the requests that it gets."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.messages: list[bytes] = []
        super().__init__(*arguments, **options)

    def _predict(self, request, context):  # type: ignore[no-untyped-def]
        self.messages.append(request.SerializeToString())
        return super()._predict(request, context)


@pytest.fixture
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    proxied = Proxied(tmp_path_factory.mktemp("p"))
    yield proxied
    proxied.close()


def add(proxied: Proxied, kind: type[LightServer], *models: str) -> Any:
    server = kind("a", proxied.state / "servers" / "a.config", load_seconds=0.0)
    server.hold(*models)
    proxied.servers["a"] = server
    return server


INPUT = member(2, member(1, b"query") + member(2, tensor("red shoes")))


@pytest.mark.parametrize("length", [1, 126, 127, 128, 200])
def test_names_and_the_rest_of_the_spec_pass_whole(proxied: Proxied, length: int) -> None:
    model, alias = "m" * length, "s" * (201 - length)
    server = add(proxied, SpecServer, model)
    proxied.start()
    proxied.route({model: ["a"]}, aliases={alias: AliasRoute(variants={model: 1.0})})
    call = proxied.caller()
    version, label = member(2, b"\x08\x87\xad\x4b"), member(4, b"stable")
    for rest in (
        b"",
        version,
        label,
        member(3, b"serving_default"),
        label + member(3, b"s" * 3000),
        version + member(3, b"x"),
    ):
        for after in (b"", INPUT, INPUT + member(3, b"scores") + member(99, bytes(300_000))):
            wanted = member(1, member(1, model.encode()) + rest) + after
            for name in (model, alias):
                assert call(member(1, member(1, name.encode()) + rest) + after, timeout=10) == b"a"
                assert server.messages.pop() == _canonical(wanted)


def _canonical(message: bytes) -> bytes:
    return bytes(GetModelStatusRequest.FromString(message).SerializeToString())


def test_an_alias_s_name_elsewhere_in_the_message_is_refused(proxied: Proxied) -> None:
    server = add(proxied, OddServer, "v41", "v42")
    proxied.start()
    alias = AliasRoute(variants={"v41": 1.0}, shadow={"v42": 1.0})
    proxied.route({"v41": ["a"], "v42": ["a"]}, aliases={"shop": alias})
    call = proxied.caller()

    def spec(name: str) -> bytes:
        return member(1, name.encode())

    unusual = {
        "the spec after an input": lambda name: INPUT + member(1, spec(name)),
        "the name after the signature": lambda name: member(1, member(3, b"default") + spec(name)) + INPUT,
        "the name after the version": lambda name: member(1, member(2, b"\x08\x07") + spec(name)) + INPUT,
    }
    for message in unusual.values():
        assert call(message("v41"), timeout=5) == b"a"
        code, text = failure(lambda message=message: call(message("shop"), timeout=5))
        assert (code, "model_spec" in text) == ("INVALID_ARGUMENT", True)
    assert server.served == ["v41"] * len(unusual)
    long_form = b"\x0a\x89\x00" + b"\x0a\x84\x00shop\x1a\x00"  # lengths in more bytes than needed are legal
    assert call(long_form + INPUT, timeout=5) == b"a"
    assert set(server.served) <= {"v41", "v42"}


def test_damaged_messages_end_no_haproxy(proxied: Proxied) -> None:
    server = add(proxied, OddServer, "v41", "v42")
    proxied.start()
    alias = SHOP.model_copy(update={"shadow": {"v41": 0.5}})
    proxied.route({"v41": ["a"], "v42": ["a"]}, aliases={"shop": alias})
    call, dice = proxied.caller(), random.Random(7)
    good = predict_request("shop", {"user_id": "u1", "number": 12})
    answers: collections.Counter[str] = collections.Counter()
    for _ in range(400):
        message = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(message))
            message[place : place + dice.randint(0, 2)] = dice.randbytes(dice.randint(0, 3))
        try:
            call(bytes(message), timeout=5)
            answers["OK"] += 1
        except grpc.RpcError as error:
            answers[error.code().name] += 1
    assert answers.keys() <= {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNKNOWN", "INTERNAL"}, answers
    assert call(good, timeout=5) == b"a"
    assert "shop" not in server.served
    proxied.close()
    assert proxied.crashes() == []


def log_lines(proxied: Proxied) -> list[dict[str, Any]]:
    file = proxied.state / "logs" / "access_p.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_the_log_has_the_status_of_every_failure(proxied: Proxied) -> None:
    server = add(proxied, OddServer, "m", "bad", "slow")
    proxied.start()
    models: dict[str, list[str]] = {"m": ["a"], "bad": ["a"], "slow": ["a"], "none": [], "unloaded": ["a"]}
    proxied.route(models)
    call = proxied.caller()
    call(predict_request("m"), timeout=5)
    wanted = [("m", "OK")]
    for model, status in (
        ("bad", "INVALID_ARGUMENT"),
        ("unloaded", "NOT_FOUND"),
        ("none", "UNAVAILABLE"),
        ("nobody", "NOT_FOUND"),
    ):
        assert failure(lambda model=model: call(predict_request(model), timeout=5))[0] == status
        wanted.append((model, status))
    assert failure(lambda: call(predict_request("slow"), timeout=0.5))[0] == "DEADLINE_EXCEEDED"
    wait_for(lambda: len(log_lines(proxied)) > len(wanted))
    # HTTP/2 tells that the client gave up, not why; the server, which knows the deadline too, may answer before it.
    given_up = log_lines(proxied)[-1]["status"]
    assert given_up in ("CANCELLED", "DEADLINE_EXCEEDED")
    wanted.append(("slow", given_up))
    server.kill()
    assert failure(lambda: call(predict_request("m"), timeout=5))[0] == "UNAVAILABLE"
    wanted.append(("m", "UNAVAILABLE"))
    wait_for(lambda: len(log_lines(proxied)) == len(wanted))
    assert [(line["model"], line["status"]) for line in log_lines(proxied)] == wanted


@pytest.mark.parametrize(
    ("status", "end", "named"),
    [
        ("-", "--", "OK"),
        ("0", "--", "OK"),
        ("-", "CD", "CANCELLED"),
        ("13", "CD", "CANCELLED"),  # HAProxy 3
        ("13", "SD", "INTERNAL"),
        ("13", "--", "INTERNAL"),
        ("5", "CD", "NOT_FOUND"),
        ("-", "sD", "DEADLINE_EXCEEDED"),
        ("-", "SD", "UNAVAILABLE"),
    ],
)
def test_the_name_of_a_status_in_the_log(status: str, end: str, named: str) -> None:
    line = f'{{"model":"m","protocol":"grpc","status":"{status}","ms":3,"end":"{end}"}}'
    assert json.loads(access_log.readable(line))["status"] == named


def test_the_log_rotates(proxied: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "MAX_BYTES", 20_000)
    add(proxied, OddServer, "m")
    proxied.start()
    proxied.route({"m": ["a"]})
    call = proxied.caller()
    for number in range(500):
        call(predict_request("m"), timeout=5, metadata=(("x-request-id", f"r{number}"),))
    folder = proxied.state / "logs"
    wait_for(lambda: log_lines(proxied) and log_lines(proxied)[-1]["request_id"] == "r499")
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == ["access_p.jsonl", *(f"access_p.jsonl.{n}" for n in range(1, len(files)))]
    assert 2 < len(files) <= 1 + access_log.BACKUPS
    assert all(file.stat().st_size <= 20_000 for file in files)
    kept = [json.loads(line)["request_id"] for file in reversed(files) for line in file.read_text().splitlines()]
    assert kept == [f"r{number}" for number in range(500 - len(kept), 500)]


@pytest.mark.slow
def test_aliases_shadows_and_kills_at_once_end_no_haproxy_and_fail_no_request(proxied: Proxied) -> None:
    add(proxied, OddServer, "v41", "v42", "dark")
    script = Path(__file__).with_name("light_server.py")
    config = proxied.state / "servers" / "b.config"
    (port,) = free_ports(1)
    command = [sys.executable, str(script), "b", str(config), str(port), "v41", "v42", "dark"]
    process = subprocess.Popen(command)
    victim = collections.namedtuple("Victim", ["address", "kill"])(f"127.0.0.1:{port}", lambda: None)
    proxied.servers["b"] = victim  # type: ignore[assignment]
    alias = SHOP.model_copy(update={"shadow": {"dark": 0.5}})
    stop, failures, answers = threading.Event(), [], collections.Counter[str]()

    def ask(seed: int) -> None:
        dice, call = random.Random(seed), proxied.caller()
        for number in itertools.count():
            if stop.is_set():
                return
            user, request_id = f"user-{dice.randrange(1000)}", f"{seed}-{number}"
            metadata = (("x-request-id", request_id), *([("x-user", user)] if dice.random() < 0.5 else []))
            request = predict_request("shop", {"user_id": user}, padding=dice.choice((0, 100, 20_000)))
            try:
                answer, details = call.with_call(request, timeout=10, metadata=metadata)
                answers[answer.decode()] += 1
                variant = dict(details.initial_metadata())["x-dpsr-variant"]
                if variant != variant_of("shop", user, SHOP.variants):
                    failures.append((request_id, user, variant))
            except grpc.RpcError as error:
                failures.append((request_id, error.code(), error.details()))

    try:
        proxied.start()
        models = {model: ["a", "b"] for model in ("v41", "v42", "dark")}
        proxied.route(models, aliases={"shop": alias})
        callers = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
        for caller in callers:
            caller.start()
        end, turn = time.monotonic() + 15, 0
        while time.monotonic() < end:
            seen = answers["b"]
            wait_for(lambda seen=seen: answers["b"] > seen + 50)
            process.kill()
            process.wait()
            process = subprocess.Popen(command)
            turn += 1
            proxied.route({**models, f"new{turn}": []}, aliases={"shop": alias})  # a reload
            proxied.route({**models, f"new{turn}": []}, aliases={"shop": alias, "other": SHOP})
        stop.set()
        for caller in callers:
            caller.join()
    finally:
        stop.set()
        process.kill()
        process.wait()
    proxied.close()
    # A request cannot be sent again when a part of its answer has left.
    begun = {line.get("request_id") for line in log_lines(proxied) if (line["server"], line["end"]) == ("b", "SD")}
    assert [failure for failure in failures if failure[0] not in begun] == []
    assert turn >= 2
    assert answers.total() > 1000
    assert proxied.crashes() == []
