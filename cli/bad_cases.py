"""``dpsr badcases``: which of the reported bad cases the newest version answers right."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import click

from dpsr.cli.options import with_config
from dpsr.cli.search import is_none, told_how_to_serve
from dpsr.cli.tls import TlsFiles, with_tls
from dpsr.config import Config, ConfigError
from dpsr.errors import DpsrError

_QUERIES_AT_ONCE = 64
_SHOWN = 60
"""Characters of a long query."""


class _Answers(NamedTuple):
    """The lists of a version."""

    lists: dict[str, list[str]]
    """Query -> item ids, best first."""
    version: int
    refused: tuple[str, ...] = ()
    """Queries that the server took for too long; their lists are empty."""


@click.command()
@with_config
@click.option("--target", metavar="HOST:PORT", help="A running server; by default the newest exported version is read.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@with_tls
@click.pass_context
def badcases(
    ctx: click.Context,
    config: Config,
    target: str | None,
    as_json: bool,
    tls: TlsFiles,
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

    if config.learnt_judgements is None:
        raise ConfigError(
            "data.judgements is missing; add [data.judgements], whose path is by default where `dpsr page` keeps them"
        )
    store = open_store(config.learnt_judgements, key="data.judgements.path")
    try:
        cases = store.bad_cases()
    finally:
        store.close()
    queries = sorted({case.query for case in cases})
    answers = _served(config, queries, target, tls) if target else _exported(config, queries)
    wanted = {case.item_id for case in cases}
    ids = _whole(wanted) if load_schema(config.dataset_dir).item_id_type == "int64" else wanted
    texts = items_by_id(config.dataset_dir, ids, config.data.items.text)
    titles = {str(item): " | ".join(text for text in found if text) for item, found in texts.items()}
    directory = config.model_base_path / str(answers.version)
    published_at = directory.stat().st_mtime if directory.is_dir() else None
    checked = check_cases(cases, answers.lists, titles.keys(), version=answers.version, published_at=published_at)
    if as_json:
        tree = {**checked.to_json(), "refused": answers.refused}
        click.echo(json.dumps(tree, indent=1, ensure_ascii=False))
    else:
        click.echo("\n".join([checked.to_text(titles), *map(_refusal, answers.refused)]))
    if checked.counts["still bad"]:
        ctx.exit(1)


def _served(config: Config, queries: Sequence[str], target: str, tls: TlsFiles) -> _Answers:
    """The lists of the server's newest version.

    Raises:
        ServingError: the server refused, or is not there.
    """
    from dpsr.serving.client import PredictClient
    from dpsr.serving.long_queries import ask_those_that_fit

    with (
        PredictClient(target, credentials=tls.credentials()) as client,
        told_how_to_serve(target, named=True),
    ):
        version = client.metadata(config.name).version

        def ask(some: list[str]) -> list[list[str]]:
            answer = client.predict(config.name, {"query": some}, version=version, outputs=["item_id"])
            return [_ids(row) for row in answer["item_id"]]

        found: dict[str, list[str] | None] = {}
        for some in _batches(queries):
            found |= zip(some, ask_those_that_fit(some, ask), strict=True)
    refused = tuple(query for query, ids in found.items() if ids is None)
    return _Answers({query: ids or [] for query, ids in found.items()}, version, refused)


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


def _refusal(query: str) -> str:
    """What is said of a query that the server took for too long."""
    shown = "".join(character if character.isprintable() else " " for character in query[:_SHOWN])
    return (
        f"the server takes no query of {len(query.encode()):,} bytes (serving.max_query_bytes), which counts as one "
        f"without results: {shown}{'...' if len(query) > _SHOWN else ''}"
    )


def _whole(ids: set[str]) -> set[int]:
    """Ids of a shop whose ids are whole numbers; what is none is in no catalogue."""
    return {int(each) for each in ids if each.lstrip("-").isdecimal()}
