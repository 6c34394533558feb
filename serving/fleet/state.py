"""The files through which the controller, the proxies and the operator speak, all below ``state_dir``.

| file | writer | content |
|---|---|---|
| ``routes.json`` | the leading controller | where every model is, and what every alias means (``Routes``) |
| ``proxies/NAME.json`` | each proxy's agent | what it has applied, and what its requests need (``ProxyReport``) |
| ``orders.json`` | ``dpsr fleet promote``, ``drain``, ``move`` | what the operator asked for (``Orders``) |
| ``servers/NAME.config`` | the leading controller | the models of a server, as TensorFlow Serving reads them |
| ``status.json`` | the leading controller | servers, models and problems (``FleetStatus``) |
| ``lease`` | the leading controller | who leads (``lease.py``) |

Every file is replaced as a whole: a reader sees the old or the new one, after a crash too.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Literal, TypeVar

import pydantic

from dpsr.config.section import Section
from dpsr.serving.fleet.errors import FleetError

S = TypeVar("S", bound=Section)


class Endpoint(Section):
    """A server that holds a model."""

    server: str
    """The server's name."""
    state: Literal["ready", "drain"] = "ready"
    """``drain``: it gets no new request, and those in flight end."""


class Address(Section):
    """Where a server listens."""

    grpc: str
    """``HOST:PORT``."""
    rest: str | None = None


class AliasRoute(Section):
    """An alias, with its chain of aliases followed to models."""

    variants: dict[str, float]
    """Model -> share; the shares sum to 1."""
    sticky_header: str | None = None
    sticky_input: str | None = None
    shadow: dict[str, float] = {}
    """Model -> share of the requests that it gets too."""


class Routes(Section):
    """Where the proxies send requests."""

    generation: int = 0
    """Grows with every change."""
    servers: dict[str, Address] = {}
    models: dict[str, tuple[Endpoint, ...]] = {}
    """Every model of the fleet -> servers on which it is AVAILABLE; none for an on-demand model that is not loaded."""
    on_demand: frozenset[str] = frozenset()
    """Models for which a request waits until they are loaded."""
    refused: dict[str, str] = {}
    """On-demand model -> why it cannot be loaded now; its waiting requests get the text."""
    aliases: dict[str, AliasRoute] = {}


class ProxyReport(Section):
    """What a proxy has applied and seen; its agent writes it at least every second."""

    written_at: float
    """Seconds since the epoch."""
    generation: int
    """Of the routes in force."""
    in_flight: dict[str, dict[str, int]] = {}
    """Model -> server -> requests in flight, for endpoints in state ``drain``."""
    wanted: dict[str, float] = {}
    """On-demand model -> time since which a request waits for it."""
    used: dict[str, float] = {}
    """Model -> time of its last request."""
    requests: dict[str, int] = {}
    """Model -> requests since the proxy's start."""
    down: tuple[str, ...] = ()
    """Servers whose health check fails."""


class Move(Section):
    """An order to hold a model on one server in place of another."""

    model: str
    source: str
    target: str


class Orders(Section):
    """What the operator asked for; an order about an alias holds until its entry in ``fleet.toml`` changes."""

    promoted: dict[str, dict[str, float]] = {}
    """Alias -> model or alias -> weight, in place of ``aliases.NAME.variants``."""
    promoted_from: dict[str, dict[str, float]] = {}
    """Alias -> the weights in ``fleet.toml`` at the time of the order."""
    drained: frozenset[str] = frozenset()
    """Servers that shall hold no model."""
    moves: tuple[Move, ...] = ()


class ServerStatus(Section):
    """A server, as the controller sees it."""

    alive: bool
    drained: bool
    """Whether the operator has asked it to hold no model."""
    memory_bytes: int
    used_bytes: int
    """By its models, those that arrive or leave included."""
    models: dict[str, str] = {}
    """Model -> loading, ready, draining or unloading."""


class FleetStatus(Section):
    """What ``dpsr fleet status`` shows."""

    written_at: float
    """Seconds since the epoch."""
    controller: str
    """Host and process id of the leader."""
    generation: int
    """Of the routes."""
    servers: dict[str, ServerStatus]
    proxies: dict[str, int] = {}
    """Proxies that report -> generation of the routes that they have applied."""
    missing: dict[str, int] = {}
    """Resident model -> replicas that it lacks."""
    aliases: dict[str, dict[str, float]] = {}
    """Alias -> model -> share, as the proxies have it."""
    problems: tuple[str, ...] = ()

    def behind(self) -> list[str]:
        """Proxies that have not applied the routes yet."""
        return [name for name, generation in self.proxies.items() if generation < self.generation]

    def is_settled(self) -> bool:
        """Whether every model has its replicas, every proxy the routes, and nothing is wrong."""
        return not (self.missing or self.problems or self.behind())


def write_state(path: Path, state: Section) -> None:
    """Replaces a file of the state directory by the JSON of ``state``."""
    replace_text(path, state.model_dump_json())


def replace_text(path: Path, text: str) -> None:
    """Writes a file beside ``path`` and renames it over ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def read_state(path: Path, kind: type[S], default: S | None = None) -> S | None:
    """Reads a file of the state directory; ``default`` where it is missing.

    Raises:
        FleetError: the file is not what dpsr wrote.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return default
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"])) or "the file"
        raise FleetError(
            f"{path}: {place}: {problem['msg']}; the file was not written by this release of dpsr: remove it. The "
            "fleet makes it anew from fleet.toml and from what the servers say; orders (orders.json) have to be "
            "given again"
        ) from None
