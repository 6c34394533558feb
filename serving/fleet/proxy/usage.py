"""What HAProxy counts: requests in flight to servers that drain, and the last use of every model."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from dpsr.serving.fleet.proxy.process import HaProxy
from dpsr.serving.fleet.proxy.runtime import RuntimeApi
from dpsr.serving.fleet.state import Routes

_BACKENDS, _SERVERS = 2, 4
"""Kinds of rows of ``show stat``."""


def in_flight(haproxy: HaProxy, routes: Routes) -> dict[str, dict[str, int]]:
    """Model -> server that drains -> requests in flight, in workers before the present one too."""
    found: dict[str, dict[str, int]] = {}
    for model, endpoints in routes.models.items():
        for endpoint in endpoints:
            if endpoint.state == "drain":
                found.setdefault(model, {})[endpoint.server] = 0
    for model, servers in found.items():
        for protocol in ("grpc", "rest"):
            for answer in haproxy.ask_all(f"show stat {protocol}:{model} {_SERVERS} -1"):
                for row in csv.DictReader(io.StringIO(answer.removeprefix("# "))):
                    if row.get("svname") in servers:
                        servers[row["svname"]] += int(row.get("scur") or 0)
    return found


def down(api: RuntimeApi) -> tuple[str, ...]:
    """Servers whose health check fails."""
    rows = api.table(f"show stat servers {_SERVERS} -1")
    return tuple(sorted(row["svname"] for row in rows if (row.get("status") or "").startswith("DOWN")))


def usage(api: RuntimeApi, now: float, before: Mapping[str, float]) -> tuple[dict[str, float], dict[str, int]]:
    """Model -> time of its last request, and model -> requests since the present worker started."""
    used, requests = dict(before), dict[str, int]()
    for row in api.table(f"show stat -1 {_BACKENDS} -1"):
        protocol, separator, model = (row.get("pxname") or "").partition(":")
        if not separator or protocol not in ("grpc", "rest"):
            continue
        requests[model] = requests.get(model, 0) + int(row.get("stot") or 0)
        if (row.get("lastsess") or "-1") != "-1":
            used[model] = max(used.get(model, 0.0), now - int(row["lastsess"]))
    return used, requests
