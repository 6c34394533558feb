"""``dpsr badcases``: which of the reported bad cases the newest version answers right."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import click

from dpsr.cli.options import with_config
from dpsr.cli.search import TlsFiles, is_none, told_how_to_serve
from dpsr.config import Config, ConfigError
from dpsr.errors import DpsrError

_QUERIES_AT_ONCE = 64


class _Answers(NamedTuple):
    """The lists of a version."""

    lists: dict[str, list[str]]
    """Query -> item ids, best first."""
    version: int


@click.command()
@with_config
@click.option("--target", metavar="HOST:PORT", help="A running server; by default the newest exported version is read.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--ca", metavar="FILE", help="PEM file of the authority that signed the server's certificate: use TLS.")
@click.option("--cert", metavar="FILE", help="PEM file of this client's certificate, for a server with mutual TLS.")
@click.option("--key", metavar="FILE", help="PEM file of its key.")
@click.pass_context
def badcases(
    ctx: click.Context,
    config: Config,
    target: str | None,
    as_json: bool,
    ca: str | None,
    cert: str | None,
    key: str | None,
) -> None:
    """List the reported bad cases: fixed, still bad, or new; exit code 1 while some are still bad.

    The store is that of data.judgements. A case is right where the wrong item is not among the best 10 of the newest
    version, or the missing item is. One that is wrong is still bad if the version was made after the report, else new.

    \b
    Example: dpsr badcases -c shop.toml --target localhost:8500
    """
    from dpsr.data.dataset.item_lookup import items_by_id
    from dpsr.data.dataset.tables import load_schema
    from dpsr.data.judgements.labels import open_store
    from dpsr.evaluation.bad_cases import check_cases

    if config.data.judgements is None:
        raise ConfigError(
            "data.judgements is missing; set data.judgements.path to the file where `dpsr page` keeps them"
        )
    store = open_store(config.data.judgements.path, key="data.judgements.path")
    try:
        cases = store.bad_cases()
    finally:
        store.close()
    queries = sorted({case.query for case in cases})
    tls = TlsFiles(ca, cert, key)
    answers = _served(config, queries, target, tls) if target else _exported(config, queries)
    wanted = {case.item_id for case in cases}
    ids = _whole(wanted) if load_schema(config.dataset_dir).item_id_type == "int64" else wanted
    texts = items_by_id(config.dataset_dir, ids, config.data.items.text)
    titles = {str(item): " | ".join(text for text in found if text) for item, found in texts.items()}
    directory = config.model_base_path / str(answers.version)
    published_at = directory.stat().st_mtime if directory.is_dir() else None
    checked = check_cases(cases, answers.lists, titles.keys(), version=answers.version, published_at=published_at)
    click.echo(json.dumps(checked.to_json(), indent=1, ensure_ascii=False) if as_json else checked.to_text(titles))
    if checked.counts["still bad"]:
        ctx.exit(1)


def _served(config: Config, queries: Sequence[str], target: str, tls: TlsFiles) -> _Answers:
    """The lists of the server's newest version.

    Raises:
        ServingError: the server refused, or is not there.
    """
    from dpsr.serving.client import PredictClient

    with (
        PredictClient(target, credentials=tls.credentials()) as client,
        told_how_to_serve(target, named=True),
    ):
        version = client.metadata(config.name).version
        lists: dict[str, list[str]] = {}
        for some in _batches(queries):
            answer = client.predict(config.name, {"query": some}, version=version, outputs=["item_id"])
            lists |= zip(some, map(_ids, answer["item_id"]), strict=True)
    return _Answers(lists, version)


def _exported(config: Config, queries: Sequence[str]) -> _Answers:
    """The lists of the newest exported version, which is loaded.

    Raises:
        DpsrError: nothing is exported.
    """
    base = config.model_base_path
    versions = [int(path.name) for path in base.iterdir() if path.name.isdecimal()] if base.is_dir() else []
    if not versions:
        raise DpsrError(f"{base}: holds no version; run `dpsr export`, or name a running server by --target")
    import numpy as np
    from tensorflow_serving.apis import predict_pb2

    from dpsr.serving.engine.loaded_model import LoadedModel
    from dpsr.serving.tensors import encode

    model = LoadedModel.load(config.name, max(versions), base / str(max(versions)))
    lists: dict[str, list[str]] = {}
    try:
        for some in _batches(queries):
            request = predict_pb2.PredictRequest(output_filter=["item_id"])
            encode(np.array(some, dtype=object), request.inputs["query"])
            lists |= zip(some, map(_ids, model.run(model.prepare(request))["item_id"]), strict=True)
    finally:
        model.close()
    return _Answers(lists, model.version)


def _batches(queries: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        yield list(queries[start : start + _QUERIES_AT_ONCE])


def _ids(row: Any) -> list[str]:
    """The ids of a row of the output ``item_id`` as text, up to the first element that stands for no item."""
    from dpsr.indexing.signature import item_key

    found = []
    for item in row:
        if is_none(item):
            break
        found.append(str(item_key(item)))
    return found


def _whole(ids: set[str]) -> set[int]:
    """Ids of a shop whose ids are whole numbers; what is none is in no catalogue."""
    return {int(each) for each in ids if each.lstrip("-").isdecimal()}
