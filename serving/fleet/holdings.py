"""Which models every server holds, and the way of a model onto a server and off it.

    loading --AVAILABLE--> ready --not wanted--> draining --no request in flight--> unloading --freed--> (gone)

A model stands in its server's config file while it is loading, ready or draining; proxies send requests to it while it
is ready; it counts against the server's memory until the server has freed it. A server loads one model at a time, so
that its other models answer as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from dpsr.serving.fleet.server_link import ModelState

RETRY_SECONDS = 10.0
MAX_RETRY_SECONDS = 600.0
_SETTLE_SECONDS = 2.0
"""Time for a server to read its config file: until then it may still speak of an earlier load."""


@dataclass
class Holding:
    """One model on one server."""

    state: Literal["loading", "ready", "draining", "unloading"]
    since: float
    """Time at which the state began."""
    generation: int | None = None
    """Of the first routes without new requests for it; None before they are written."""


@dataclass(frozen=True)
class Failure:
    """A load that did not succeed."""

    reason: str
    attempts: int
    retry_at: float


class Holdings:
    """All models on all servers."""

    def __init__(self) -> None:
        """Starts with none; ``adopt`` takes over what a fleet that runs already has."""
        self._of: dict[str, dict[str, Holding]] = {}
        self.failures: dict[tuple[str, str], Failure] = {}
        """Model and server -> its last load, if it failed."""

    def adopt(self, server: str, configured: Mapping[str, str], routed: frozenset[str], now: float) -> None:
        """Takes over the models of a server's config file: those with a route count as ready, the others as loading."""
        self._of[server] = {
            model: Holding("ready" if model in routed else "loading", now) for model in sorted(configured)
        }

    def on(self, server: str) -> dict[str, Holding]:
        """Model -> holding of a server."""
        return self._of.setdefault(server, {})

    def of(self, model: str) -> dict[str, Holding]:
        """Server -> holding of a model."""
        return {server: models[model] for server, models in sorted(self._of.items()) if model in models}

    def in_state(self, model: str, *states: str) -> list[str]:
        """Servers on which a model is in one of the states."""
        return [server for server, holding in self.of(model).items() if holding.state in states]

    def __iter__(self) -> Iterator[tuple[str, str, Holding]]:
        """Server, model and holding of everything."""
        for server, models in sorted(self._of.items()):
            for model, holding in sorted(models.items()):
                yield server, model, holding

    def forget(self, server: str) -> None:
        """Drops what a dead server held."""
        self._of.pop(server, None)

    def is_loading(self, server: str) -> bool:
        """Whether a load is in progress, which the next one waits for."""
        return any(holding.state == "loading" for holding in self.on(server).values())

    def load(self, server: str, model: str, now: float) -> None:
        """Begins a load."""
        self.on(server)[model] = Holding("loading", now)

    def drain(self, server: str, model: str, now: float) -> None:
        """Takes a model out of the routes; it leaves the server when its requests have ended."""
        self.on(server)[model] = Holding("draining", now)

    def restore(self, server: str, model: str, now: float) -> None:
        """Puts a draining model into the routes again."""
        self.on(server)[model] = Holding("ready", now)

    def may_retry(self, server: str, model: str, now: float) -> bool:
        """Whether a load may be tried: it has not failed, or long enough ago."""
        failure = self.failures.get((model, server))
        return failure is None or now >= failure.retry_at

    def advance(
        self,
        server: str,
        states: Mapping[str, ModelState | None],
        now: float,
        *,
        is_drained: Callable[[str, str, Holding], bool],
        load_seconds: float,
    ) -> None:
        """Moves the models of a server on, by what it says of them.

        Args:
            server: the server.
            states: model -> what the server says; models that were not asked for are missing, None is no answer.
            now: the time.
            is_drained: tells of a model, its server and its draining holding whether it may leave.
            load_seconds: time for a load, and for the server to free a model.
        """
        held = self.on(server)
        for model, holding in list(held.items()):
            told, age = states.get(model), now - holding.since
            if holding.state == "loading":
                self._advance_load(server, model, told, age, now, load_seconds)
            elif holding.state == "ready" and told is not None and not told.available:
                held[model] = Holding("loading", now)  # the server has started anew
            elif holding.state == "draining" and is_drained(model, server, holding):
                held[model] = Holding("unloading", now)
            elif holding.state == "unloading" and ((told is not None and not told.loaded) or age > load_seconds):
                del held[model]

    def _advance_load(
        self, server: str, model: str, told: ModelState | None, age: float, now: float, load_seconds: float
    ) -> None:
        if told is not None and told.available:
            self.on(server)[model] = Holding("ready", now)
            self.failures.pop((model, server), None)
            return
        refused = told is not None and told.error and not told.loaded and age > _SETTLE_SECONDS
        if refused or age > load_seconds:
            said = told.error if told is not None and told.error else "the server did not say why"
            reason = said if refused else f"not AVAILABLE within {load_seconds:g} s (control.load_seconds): {said}"
            before = self.failures.get((model, server))
            attempts = before.attempts + 1 if before else 1
            pause = min(RETRY_SECONDS * 2 ** (attempts - 1), MAX_RETRY_SECONDS)
            self.failures[model, server] = Failure(reason, attempts, now + pause)
            self.on(server)[model] = Holding("unloading", now)  # out of the config file, so that others can load
