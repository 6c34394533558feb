"""``dpsr search``: one Predict call, shown as a table of items with their texts."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dpsr.cli.tls import TlsFiles
from dpsr.config import Config, ConfigError
from dpsr.indexing.signature import FILTER_PREFIX, MODE_INPUT, SOURCES, filter_input, item_key, modes_of, profile_inputs

if TYPE_CHECKING:
    import numpy as np

    from dpsr.data.dataset.schema import Schema

COMPARE = "compare"
"""The mode of ``dpsr search`` that asks for all of them."""
_FILTER_INPUT = re.compile(f"^{FILTER_PREFIX}(min_|max_)?")


def search(
    config: Config,
    queries: Sequence[str],
    *,
    target: str | None,
    count: int,
    profile: Sequence[str] = (),
    history: Sequence[str] = (),
    filters: Sequence[str] = (),
    mode: str | None = None,
    tls: TlsFiles | None = None,
) -> str:
    """Asks a running server for the best items of every query.

    Args:
        config: names the model, its dataset and, by default, its server.
        queries: query texts.
        target: ``host:port`` of the server; None is the configured one.
        count: items to show.
        profile: ``column=value`` each; with any of these or a history the personalized signature is called.
        history: item ids, oldest first.
        filters: ``column=value`` or ``column=from..to`` each, either end of which may be left out.
        mode: ``dense``, ``lexical``, ``hybrid`` or ``memory``: what answers; ``compare``: all that the configuration
            has, side by side; None: as the servable is configured.
        tls: the files for a server with TLS.

    Returns:
        One table for each query.

    Raises:
        ConfigError: a profile column that the dataset does not have, an id of the history that is none, a filter that
            the server does not have, or a mode where it finds items by their vectors alone.
        ServingError: the server refused, or is not there.
    """
    from dpsr.data.dataset.tables import load_schema
    from dpsr.serving.client import PredictClient

    inputs, signature = _inputs(load_schema(config.dataset_dir), queries, profile, history)
    address = target or f"{config.serving.host}:{config.serving.port}"
    with (
        PredictClient(address, credentials=tls.credentials() if tls else None) as client,
        told_how_to_serve(address, named=target is not None),
    ):
        if filters:
            signature = "filtered" if signature == "serving_default" else signature
        if filters or mode:
            signatures = client.metadata(config.name).signatures
            offered = signatures[signature].inputs if signature in signatures else ()
            inputs |= _filters(filters, offered)
            if mode and MODE_INPUT not in offered:
                raise ConfigError(
                    f"--mode {mode}: the server finds items by their vectors alone; publish a version that has "
                    'more, with index.mode = "hybrid" or [index.memory] and `dpsr export`'
                )
        compared = modes_of(config.index.mode, memory=config.index.memory is not None)
        if mode == COMPARE and not compared:
            raise ConfigError(
                f'--mode {COMPARE}: index.mode = "{config.index.mode}" has one searcher; set it as the version on the '
                "server was published, or name a mode"
            )
        modes = compared if mode == COMPARE else (mode,)
        answers = [
            client.predict(config.name, inputs | ({MODE_INPUT: [each]} if each else {}), signature=signature)
            for each in modes
        ]
    shown = {item_key(item) for answer in answers for item in answer["item_id"][:, :count].flat if not is_none(item)}
    texts = item_texts(config, shown)
    tables = [
        _compared(compared, answers, row, count, texts) if mode == COMPARE else _table(answers[0], row, count, texts)
        for row in range(len(queries))
    ]
    return "\n\n".join(f"{query}\n{table}" for query, table in zip(queries, tables, strict=True))


@contextmanager
def told_how_to_serve(address: str, *, named: bool) -> Iterator[None]:
    """Says what to do where no server answers, or none that takes calls."""
    import grpc

    from dpsr.serving.errors import ServingError
    from dpsr.serving.unreachable import why_unreachable

    try:
        yield
    except ServingError as error:
        if error.code != grpc.StatusCode.UNAVAILABLE:
            raise
        remedy = "see whether a server runs there, with TLS or without" if named else "`dpsr serve` starts one there"
        raise ServingError(error.code, f"{address}: {why_unreachable(error, remedy)}") from None


def _filters(filters: Sequence[str], offered: Iterable[str]) -> dict[str, list[Any]]:
    """The inputs of a Predict call that restrict its items; one value each, which holds for all queries.

    Args:
        filters: as of ``search``.
        offered: the inputs of the signature.
    """
    values: dict[str, list[Any]] = {}
    for entry in filters:
        column, _, value = entry.partition("=")
        equal, least, most = (filter_input(f"{bound}{column}") for bound in ("", "min_", "max_"))
        if least in offered and most in offered:
            begin, dots, end = value.partition("..")
            try:
                low = float(begin) if begin or not dots else -math.inf
                high = (float(end) if end else math.inf) if dots else low
            except ValueError:
                raise ConfigError(
                    f"--filter {entry}: {column} is a number; expected {column}=FROM..TO, either of which may be left "
                    "out, or one number"
                ) from None
            if not low <= high:
                raise ConfigError(f"--filter {entry}: expected {column}=FROM..TO with FROM <= TO")
            values[least], values[most] = [low], [high]
        elif equal in offered and value:
            values[equal] = [value]
        else:
            known = sorted({_FILTER_INPUT.sub("", alias) for alias in offered if alias.startswith(FILTER_PREFIX)})
            raise ConfigError(
                f"--filter {entry}: expected COLUMN=VALUE or COLUMN=FROM..TO, the columns of this server's items are "
                f"{', '.join(known) or 'none'}"
            )
    return values


def _inputs(
    schema: Schema, queries: Sequence[str], profile: Sequence[str], history: Sequence[str]
) -> tuple[dict[str, Any], str]:
    """The inputs of a Predict call and the signature that takes them."""
    if not profile and not history:
        return {"query": list(queries)}, "serving_default"
    values = dict.fromkeys(schema.profile, "")
    for entry in profile:
        column, _, value = entry.partition("=")
        if column not in values:
            raise ConfigError(f"--profile {entry}: no profile column {column!r} (known: {', '.join(values) or 'none'})")
        values[column] = value
    inputs: dict[str, Any] = {"query": list(queries)}
    inputs |= {name: [values[column]] * len(queries) for column, name in profile_inputs(values).items()}
    ids: list[Any] = list(history)
    if schema.item_id_type == "int64":
        try:
            ids = [int(item) for item in history]
        except ValueError:
            raise ConfigError(
                f"--history {' '.join(history)}: item ids of this shop are whole numbers; give one with each --history"
            ) from None
    inputs["history"] = _history_array(ids, len(queries), schema.item_id_type)
    return inputs, "personalized"


def _history_array(ids: Sequence[Any], rows: int, item_id_type: str) -> np.ndarray:
    import numpy as np

    dtype = np.int64 if item_id_type == "int64" else object
    return np.array([list(ids)] * rows, dtype=dtype).reshape(rows, len(ids))


def item_texts(config: Config, item_ids: Collection[Any]) -> dict[Any, str]:
    """The texts of some items of the dataset by id, for showing; an id that the dataset lacks is left out."""
    from dpsr.data.dataset.item_lookup import items_by_id

    found = items_by_id(config.dataset_dir, item_ids, config.data.items.text)
    return {item: " | ".join(text for text in texts if text) for item, texts in found.items()}


def _table(answer: Mapping[str, Any], row: int, count: int, texts: Mapping[Any, str]) -> str:
    from tabulate import tabulate

    rows = []
    for rank in range(min(count, answer["item_id"].shape[1])):
        item = item_key(answer["item_id"][row, rank])
        if is_none(answer["item_id"][row, rank]):  # nothing more was found
            break
        score, head = answer["score"][row, rank], answer["head"][row, rank]
        cells = [rank + 1, f"{score:.3f}", head if head >= 0 else "", item, texts.get(item, "")]
        if "source" in answer:
            bits = int(answer["source"][row, rank])
            cells.insert(3, "+".join(name for bit, name in SOURCES.items() if bits & bit))
        rows.append(cells)
    if not rows:
        return "(no item found)"
    headers = ["", "score", "head", *(["source"] if "source" in answer else []), "item", "text"]
    return tabulate(rows, headers=headers, disable_numparse=True)


def _compared(
    modes: Sequence[str], answers: Sequence[Mapping[str, Any]], row: int, count: int, texts: Mapping[Any, str]
) -> str:
    """The lists of all modes beside each other; behind an item stands its rank in the other lists that hold it."""
    from tabulate import tabulate

    lists = [[item_key(item) for item in answer["item_id"][row, :count] if not is_none(item)] for answer in answers]
    lines = []
    for rank in range(max(map(len, lists))):
        cells: list[str] = []
        for number, found in enumerate(lists):
            if rank >= len(found):
                cells.append("")
                continue
            item = found[rank]
            others = [
                f"{modes[other]} {lists[other].index(item) + 1}"
                for other in range(len(lists))
                if other != number and item in lists[other]
            ]
            cells.append(f"{texts.get(item, item)}" + (f" ({', '.join(others)})" if others else ""))
        lines.append([str(rank + 1), *cells])
    return tabulate(lines, headers=["", *modes], disable_numparse=True, maxcolwidths=[None, *[48] * len(modes)])


def is_none(item: bytes | int) -> bool:
    """Whether an element of the output ``item_id`` stands for no item."""
    return item in (b"", -1)
