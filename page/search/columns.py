"""Columns of the page: which can be compared, how they are called, and where the list of each comes from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dpsr.config import Config
from dpsr.data.judgements.records import Column
from dpsr.indexing.signature import MODE_INPUT, modes_of
from dpsr.page.errors import PageError
from dpsr.page.search.model_server import ModelServer
from dpsr.serving.errors import ServableError
from dpsr.serving.manager.model_config import read_model_config


def title_of(column: Column) -> str:
    """What a column is called, as ``version 3, hybrid with 0.30 lexical, head 1``."""
    if column.kind == "baseline":
        return column.baseline or "baseline"
    parts = [
        column.model,
        None if column.version is None else f"version {column.version}",
        column.label,
        column.variant,
        column.mode if column.lexical_weight is None else f"hybrid with {column.lexical_weight:.2f} lexical",
        None if column.head is None else f"head {column.head}",
    ]
    return ", ".join(part for part in parts if part) or "as served"


def checked(column: Column) -> Column:
    """The column, if its members go together.

    Raises:
        PageError: they do not.
    """
    asks_server = {*column.model_fields_set} - {"kind", "baseline"}
    given = [name for name in sorted(asks_server) if getattr(column, name) is not None]
    if column.kind == "baseline":
        if not column.baseline:
            raise PageError("a column of kind baseline has no name; set its member baseline")
        if given:
            raise PageError(f"a baseline has no {', '.join(given)}; leave that out")
    elif column.baseline is not None:
        raise PageError(f"baseline {column.baseline!r} is named in a column of kind server; set kind to baseline")
    elif column.lexical_weight is not None and column.mode not in (None, "hybrid"):
        raise PageError(f"lexical_weight is of the mode hybrid, and the mode is {column.mode}; leave one of them out")
    return column


def modes_asked(column: Column) -> tuple[str | None, ...]:
    """The modes that a column of a server asks for; with a weight of its own those that ``fusion.fuse`` takes."""
    return (column.mode,) if column.lexical_weight is None else ("dense", "lexical", "hybrid")


def comparable(config: Config, server: ModelServer, baselines: list[str]) -> Iterator[Column]:
    """The columns that can be compared, the servable's own answer first.

    Args:
        config: of the run that is served.
        server: is asked for versions, variants and inputs.
        baselines: names of methods.

    Raises:
        PageError: the server refuses, or is not there.
    """
    yield Column()
    described = server.described(Column(), again=True)
    inputs = described.signatures["serving_default"].inputs if "serving_default" in described.signatures else {}
    modes: tuple[str, ...] = ()
    if MODE_INPUT in inputs:
        modes = modes_of(config.index.mode, memory=config.index.memory is not None)
    if len(modes) > 1:
        for mode in modes:
            yield Column.model_validate({"mode": mode})
    heads = config.model.heads if "embed_query" in described.signatures else 1
    if heads > 1:
        for head in range(heads):
            yield Column(mode="dense", head=head) if "dense" in modes else Column(head=head)
    versions = server.versions()
    if len(versions) > 1:
        for version in versions:
            yield Column(version=version)
    for label in labels_of(config):
        yield Column(label=label)
    for variant in server.variants():
        yield Column(variant=variant)
    for name in baselines:
        yield Column(kind="baseline", baseline=name)


def labels_of(config: Config) -> list[str]:
    """The labels of the model in ``serving.model_config_file``; a server does not tell its labels."""
    if config.serving.model_config_file is None:
        return []
    try:
        models = read_model_config(Path(config.serving.model_config_file))
    except ServableError:
        return []
    return sorted(label for model in models if model.name == config.name for label in model.labels)
