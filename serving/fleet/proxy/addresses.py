"""Names of servers -> IP addresses: HAProxy's runtime API takes no names, and a file with an unknown one is refused."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from dpsr.serving.fleet.state import Address, Endpoint, Routes


def resolved(routes: Routes) -> tuple[Routes, dict[str, str]]:
    """Routes whose servers have IP addresses, without the servers that have none.

    Returns:
        The routes, and server -> why its name has no address.
    """
    servers: dict[str, Address] = {}
    unknown: dict[str, str] = {}
    for name, address in routes.servers.items():
        try:
            rest = None if address.rest is None else _resolve(address.rest)
            servers[name] = Address(grpc=_resolve(address.grpc), rest=rest)
        except OSError as error:
            unknown[name] = f"servers.{name}: the name in {address.grpc} has no address ({error}); mend it or the DNS"
    return routes.model_copy(update={"servers": servers, "models": _without(routes, unknown)}), unknown


def _without(routes: Routes, unknown: Mapping[str, str]) -> Mapping[str, tuple[Endpoint, ...]]:
    return {
        model: tuple(endpoint for endpoint in endpoints if endpoint.server not in unknown)
        for model, endpoints in routes.models.items()
    }


def _resolve(address: str) -> str:
    host, _, port = address.rpartition(":")
    family, _, _, _, found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    return f"[{found[0]}]:{port}" if family == socket.AF_INET6 else f"{found[0]}:{port}"
