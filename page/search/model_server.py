"""Calls of the page to a model server, a stock one or the alias of a fleet."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import grpc
import numpy as np

from dpsr.config import Config
from dpsr.data.dataset.schema import Schema
from dpsr.data.judgements.records import Column
from dpsr.indexing.signature import FILTER_PREFIX, MODE_INPUT, filter_input
from dpsr.page.contract import Range
from dpsr.page.errors import PageError, PassingError
from dpsr.page.search.fusion import ServerList
from dpsr.page.search.users import Profile, personal_inputs
from dpsr.serving.client import Metadata, PredictClient
from dpsr.serving.errors import ServingError
from dpsr.serving.long_queries import ask_those_that_fit
from dpsr.serving.unreachable import why_unreachable

VARIANT_HEADER = "x-dpsr-variant"
_NO_VARIANT = "dpsr-page-asks-for-the-variants"
"""No model's name: an alias refuses it and says which variants it has; a server does not read the header."""
_VARIANTS = re.compile(r"is no variant of .* \((?P<names>[^()]*)\)$")
_OUTPUTS = ("item_id", "score", "head", "source")
_STALE = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
_PASSING = (
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
)
_REMEDY = "`dpsr serve` starts one; one with TLS is asked by --ca, with mutual TLS also by --cert and --key"
Filters = Mapping[str, str | Range]


class _Key(NamedTuple):
    """What decides which model answers."""

    model: str
    version: int | None
    label: str | None
    variant: str | None

    @property
    def spec(self) -> dict[str, Any]:
        headers = () if self.variant is None else ((VARIANT_HEADER, self.variant),)
        return {"version": self.version, "label": self.label, "headers": headers}


class ModelServer:
    """Asks a server for lists; thread-safe."""

    def __init__(
        self, config: Config, schema: Schema, target: str, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        """Opens a connection, which is made at the first call.

        Args:
            config: names the model.
            schema: of the dataset.
            target: ``host:port``.
            credentials: for a server with TLS.
        """
        self._name, self._schema, self._target = config.name, schema, target
        self._client = PredictClient(target, credentials=credentials)
        self._described: dict[_Key, Metadata] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def described(self, column: Column, *, again: bool = False) -> Metadata:
        """The version that answers a column, and its signatures; ``again`` asks the server also if they are known.

        Raises:
            PageError: the server refuses, or is not there.
        """
        key = self._key(column)
        with self._lock:
            known = None if again else self._described.get(key)
        if known is None:
            with self._told():
                known = self._client.metadata(key.model, **key.spec)
            with self._lock:
                self._described[key] = known
        return known

    def versions(self) -> list[int]:
        """The versions that the server can be asked for, newest first.

        Raises:
            PageError: the server refuses, or is not there.
        """
        with self._told():
            states = self._client.status(self._name)
        return [version for version, status in states.items() if status.state == "AVAILABLE"]

    def variants(self) -> list[str]:
        """The variants of the model where its name is the alias of a fleet; none where it is a model."""
        try:
            self._client.status(self._name, headers=((VARIANT_HEADER, _NO_VARIANT),))
        except ServingError as error:
            if found := _VARIANTS.search(error.message):
                return found["names"].split(", ")
        return []

    def lists(
        self,
        queries: Sequence[str],
        column: Column,
        filters: Filters,
        profile: Profile | None = None,
        *,
        mode: str | None = None,
    ) -> list[ServerList]:
        """The lists of several queries by one call, as long as the servable makes them.

        Args:
            queries: their texts.
            column: which model answers.
            filters: column -> value or bounds.
            profile: of the user; a servable that does not personalize answers without.
            mode: as the input ``mode``; None: as the servable is configured.

        Raises:
            PageError: the server refuses, is not there, or cannot be asked for this.
        """
        with self._told():
            return self._of_current(queries, column, filters, profile, mode)

    def lists_of_many(
        self, queries: Sequence[str], column: Column, *, mode: str | None = None
    ) -> list[ServerList | None]:
        """The lists of several queries as ``lists`` has them; None for a query that is longer than the server takes.

        Raises:
            PageError: as ``lists``.
        """
        with self._told():
            return ask_those_that_fit(queries, lambda some: self._of_current(some, column, {}, None, mode))

    def _of_current(
        self, queries: Sequence[str], column: Column, filters: Filters, profile: Profile | None, mode: str | None
    ) -> list[ServerList]:
        """The lists of the version that answers now."""
        key, described = self._key(column), self.described(column)
        try:
            return self._asked(key, described, queries, filters, profile, mode)
        except ServingError as error:
            if error.code in _STALE:  # perhaps a swap to a version with other inputs
                newer = self.described(column, again=True)
                if newer.version != described.version:
                    return self._asked(key, newer, queries, filters, profile, mode)
            raise

    def _asked(
        self,
        key: _Key,
        described: Metadata,
        queries: Sequence[str],
        filters: Filters,
        profile: Profile | None,
        mode: str | None,
    ) -> list[ServerList]:
        signatures = described.signatures
        name = "filtered" if filters else "serving_default"
        if profile is not None and "personalized" in signatures:
            name = "personalized"
        if name not in signatures:
            raise PageError(
                f"version {described.version} of {key.model} has no signature {name!r}, which this asks for"
            )
        signature = signatures[name]
        inputs: dict[str, Any] = {"query": list(queries)}
        if name == "personalized" and profile is not None:
            inputs |= personal_inputs(profile, self._schema, len(queries))
        inputs |= filter_inputs(filters, signature.inputs)
        if mode is not None:
            if MODE_INPUT not in signature.inputs:
                raise PageError(
                    f"mode {mode}: version {described.version} of {key.model} finds items in one way alone; publish "
                    'one with index.mode = "hybrid" or [index.memory]'
                )
            inputs[MODE_INPUT] = [mode]
        outputs = [output for output in _OUTPUTS if output in signature.outputs]
        answer = self._client.answer(key.model, inputs, signature=name, outputs=outputs, **key.spec)
        if answer.version != described.version:
            with self._lock:
                self._described.pop(key, None)
        return [_list(answer.outputs, row, answer.version) for row in range(len(queries))]

    def _key(self, column: Column) -> _Key:
        if column.version is not None and column.label is not None:
            raise PageError("a column asks for a version or for a label; leave one of them out")
        return _Key(column.model or self._name, column.version, column.label, column.variant)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Says what to do where no server answers."""
        try:
            yield
        except ServingError as error:
            if error.code == grpc.StatusCode.UNAVAILABLE:
                raise PassingError(f"{self._target}: {why_unreachable(error, _REMEDY)}") from None
            kind = PassingError if error.code in _PASSING else PageError
            raise kind(f"{self._target}: {error.message}") from None


def filter_inputs(filters: Filters, offered: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The inputs of a Predict call that restrict its items; one value each, which holds for all queries.

    Args:
        filters: column -> value or bounds.
        offered: the inputs of the signature.

    Raises:
        PageError: the signature cannot filter so.
    """
    values: dict[str, list[Any]] = {}
    for column, wanted in filters.items():
        equal, least, most = (filter_input(f"{bound}{column}") for bound in ("", "min_", "max_"))
        if isinstance(wanted, Range) and least in offered and most in offered:
            values[least] = [-math.inf if wanted.least is None else wanted.least]
            values[most] = [math.inf if wanted.most is None else wanted.most]
        elif isinstance(wanted, str) and equal in offered:
            values[equal] = [wanted]
        else:
            known = sorted(name.removeprefix(FILTER_PREFIX) for name in offered if name.startswith(FILTER_PREFIX))
            kind = "a range" if isinstance(wanted, Range) else "one value"
            raise PageError(
                f"filter {column}: the server cannot filter by {kind} of it (its filters: {', '.join(known) or 'none'})"
            )
    return values


def _list(outputs: Mapping[str, np.ndarray], row: int, version: int) -> ServerList:
    item_ids, scores = outputs["item_id"][row], outputs["score"][row]
    none = np.full(len(item_ids), -1, np.int32)
    heads = outputs["head"][row] if "head" in outputs else none
    sources = outputs["source"][row] if "source" in outputs else np.zeros_like(none)
    found = ServerList(item_ids, scores, heads, sources, version)
    kept = item_ids != (-1 if item_ids.dtype == np.int64 else b"")
    return found if kept.all() else found.take(kept)
