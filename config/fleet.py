"""The configuration of a fleet: servers, models, aliases, and the proxy in front of them (``fleet.toml``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import Field

from dpsr.config.section import PathName, Port, Section

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
Address = Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+):[0-9]{1,5}$")]
"""``HOST:PORT``; an IPv6 address stands in brackets."""
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class FleetServer(Section):
    """One model server: `dpsr serve` or TensorFlow Serving, which reads its models from ``config_file``."""

    address: Address
    """Of the gRPC port."""
    rest_address: Address | None = None
    """Of the REST port; without it the server takes no REST requests."""
    memory_gib: Positive
    """Memory for models, in GiB: what is left beside the process itself."""
    config_file: PathName | None = None
    """Text ``ModelServerConfig`` that the server polls and the controller writes; by default
    ``STATE_DIR/servers/NAME.config``."""


class FleetModel(Section):
    """One model: a directory of versions."""

    base_path: PathName
    """The directory, by the same name on every server."""
    replicas: Annotated[int, Field(ge=1)] = 1
    """Servers that hold the model, all different."""
    on_demand: bool = False
    """Whether the model is loaded at a request for it only, and leaves when others need its memory."""
    memory_gib: Positive | None = None
    """Memory of the loaded model, in GiB; by default from the size of its newest version's files."""
    requests_per_second: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0
    """Expected traffic: what placement balances besides memory."""

    @pydantic.model_validator(mode="after")
    def _on_demand_is_single(self) -> FleetModel:
        if self.on_demand and self.replicas > 1:
            raise ValueError(f"on_demand = true and replicas = {self.replicas}: a model on demand is on one server")
        return self


class FleetAlias(Section):
    """A stable name that points at models: an A/B experiment, where it points at several."""

    variants: Annotated[dict[Name, Positive], Field(min_length=1)]
    """Model or alias -> its weight; shares are weights over their sum."""
    sticky_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = None
    """Request header (gRPC metadata) whose value decides the variant: equal values, equal variant."""
    sticky_input: str | None = None
    """Input of the signature, a string or integer tensor, whose first value decides where the header is missing."""
    shadow: dict[Name, Annotated[float, Field(gt=0.0, le=1.0)]] = {}
    """Model -> share of the requests that it gets too; its answers are dropped."""


class FleetProxy(Section):
    """The address that clients know, and what HAProxy does for it."""

    host: str = "127.0.0.1"
    port: Port = 8500
    """gRPC port."""
    rest_port: Annotated[int, Field(ge=-1, le=65535)] = 8501
    """REST port; -1 turns it off."""
    metrics_port: Annotated[int, Field(ge=-1, le=65535)] = 8404
    """Port of Prometheus metrics, of HAProxy (``/metrics``) and of the aliases (``/aliases``); -1 turns them off."""
    threads: Annotated[int, Field(ge=1, le=63)] | None = None
    """Threads of HAProxy that connections are on; by default one a core."""
    variant_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] = "x-dpsr-variant"
    """Request header that forces a variant of the alias; the answer's header of this name has the variant."""
    connect_seconds: Positive = 1.0
    """Time for a connection to a server; then the request goes to another replica."""
    request_seconds: Positive = 60.0
    """Time for the answer of a server."""
    tls_certificate: PathName | None = None
    """PEM file of certificates and private key in one, as HAProxy reads it: TLS for clients."""
    tls_client_ca: PathName | None = None
    """PEM file of the authority that signs clients' certificates: mutual TLS."""
    server_ca: PathName | None = None
    """PEM file of the authority that signed the servers' certificates: TLS to the servers."""
    server_certificate: PathName | None = None
    """PEM file of the proxy's certificate and key for servers with mutual TLS."""

    @pydantic.model_validator(mode="after")
    def _tls_is_whole(self) -> FleetProxy:
        if self.tls_client_ca and not self.tls_certificate:
            raise ValueError("tls_client_ca needs tls_certificate")
        if self.server_certificate and not self.server_ca:
            raise ValueError("server_certificate needs server_ca")
        return self


class FleetControl(Section):
    """Times and limits of the controller."""

    load_seconds: Positive = 300.0
    """Time for a model to become AVAILABLE; then its load has failed."""
    dead_seconds: Positive = 3.0
    """Time without an answer after which a server counts as dead and its models are loaded elsewhere."""
    wait_seconds: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 30.0
    """Time that a request for an on-demand model waits for its load; 0: UNAVAILABLE at once, with a hint to retry."""
    min_resident_seconds: Positive = 10.0
    """Time that an on-demand model stays loaded at least, so that two models do not push each other out in turn."""
    drain_seconds: Positive = 30.0
    """Time that requests in flight have to end before their model leaves a server."""


class FleetConfig(Section):
    """A whole fleet."""

    state_dir: PathName
    """Directory of the fleet's state, shared by controllers and proxies; relative to ``fleet.toml``."""
    servers: dict[Name, FleetServer] = {}
    models: dict[Name, FleetModel]
    aliases: dict[Name, FleetAlias] = {}
    proxy: FleetProxy = FleetProxy()
    control: FleetControl = FleetControl()

    def config_file(self, server: str) -> Path:
        """The model config file of a server."""
        return Path(self.servers[server].config_file or Path(self.state_dir) / "servers" / f"{server}.config")

    @pydantic.model_validator(mode="after")
    def _names_are_one_kind(self) -> FleetConfig:
        both = sorted(set(self.models) & set(self.aliases))
        if both:
            raise ValueError(f"{', '.join(both)}: the name of a model and of an alias; rename one of them")
        addresses: dict[str, str] = {}
        for name, server in self.servers.items():
            other = addresses.setdefault(server.address, name)
            if other != name:
                raise ValueError(f"servers.{name} and servers.{other} have one address, {server.address}")
        return self

    @pydantic.model_validator(mode="after")
    def _aliases_end_at_models(self) -> FleetConfig:
        for name, alias in self.aliases.items():
            for place, targets in (("variants", alias.variants), ("shadow", alias.shadow)):
                for target in targets:
                    known = target in self.models or (place == "variants" and target in self.aliases)
                    if not known:
                        raise ValueError(
                            f"aliases.{name}.{place} names {target}, which is no model"
                            f"{' or alias' if place == 'variants' else ''} of the fleet; add models.{target} or take "
                            "the name out"
                        )
        for name in self.aliases:
            resolve_alias(self.aliases, name)
        return self


def resolve_alias(aliases: dict[str, FleetAlias], name: str) -> dict[str, float]:
    """Models of an alias and their shares, which sum to 1; aliases among its variants are followed.

    Raises:
        ValueError: the aliases point at one another in a circle.
    """

    def shares(alias: str, path: tuple[str, ...]) -> dict[str, float]:
        if alias in path:
            circle = " -> ".join((*path[path.index(alias) :], alias))
            raise ValueError(f"aliases point at one another in a circle: {circle}; let one of them name a model")
        weights = aliases[alias].variants
        total = sum(weights.values())
        found: dict[str, float] = {}
        for target, weight in weights.items():
            below = shares(target, (*path, alias)) if target in aliases else {target: 1.0}
            for model, share in below.items():
                found[model] = found.get(model, 0.0) + share * weight / total
        return found

    return shares(name, ())
