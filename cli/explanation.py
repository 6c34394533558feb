"""``dpsr explain --item``: why an item stands where it stands for a query, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dpsr.cli.tls import TlsFiles
from dpsr.config import Config
from dpsr.errors import DpsrError

if TYPE_CHECKING:
    from dpsr.page.contract import Explanation, Item, TokenPart


def explain_item(config: Config, query: str, item_id: str, *, target: str | None, tls: TlsFiles | None = None) -> str:
    """Asks a running server for its version and lists, and explains an item of it.

    Args:
        config: of the run that is served.
        query: its text.
        item_id: of the item.
        target: ``host:port`` of the server; None is the configured one.
        tls: the files for a server with TLS.

    Raises:
        ConfigError: the files cannot be used.
        DpsrError: the query is too long to be explained.
        PageError: there is no such item, or the server refuses, or is not there.
        DatasetError: there is no dataset.
    """
    import pydantic

    from dpsr.data.judgements.records import Column
    from dpsr.indexing.signature import modes_of
    from dpsr.page.contract import ExplainRequest
    from dpsr.page.explain.explainer import Explainer
    from dpsr.page.search.searcher import Searcher

    modes = modes_of(config.index.mode, memory=config.index.memory is not None)
    columns = [Column.model_validate({"mode": mode}) for mode in modes[:3]] or [Column()]
    try:
        asked = ExplainRequest(query=query, item_id=item_id, columns=tuple(columns))
    except pydantic.ValidationError as error:
        (problem, *_) = error.errors()
        raise DpsrError(
            f"{problem['loc'][0]}: {problem['msg'][:1].lower()}{problem['msg'][1:]} (found {len(query):,}); shorten it"
        ) from None
    address = target or f"{config.serving.host}:{config.serving.port}"
    searcher = Searcher(config, address, None, tls.credentials() if tls else None)
    try:
        return _tables(Explainer(config, searcher).explain(asked), [searcher.title(column) for column in columns])
    finally:
        searcher.close()


def _tables(found: Explanation, titles: Sequence[str]) -> str:
    from tabulate import tabulate

    def table(rows: Sequence[Sequence[str]], *headers: str) -> str:
        return tabulate(rows, headers=headers, disable_numparse=True)

    parts = [f"item {_shown(found.item)}"]
    for head in found.heads:
        best = ", the best" if len(found.heads) > 1 and head.head == found.best_head else ""
        lines = table(_rows(head.tokens), "token", "kind", "in the item", "part")
        parts.append(f"head {head.head}{best}: {head.score:.4f} ({head.method})\n{lines}")
    if found.lexical_score is not None:
        lines = table(_rows(found.terms), "term", "kind", "in the item", "part")
        parts.append(f"BM25: {found.lexical_score:.4f}\n{lines}")
    ranks = [(title, "" if rank is None else str(rank)) for title, rank in zip(titles, found.ranks, strict=True)]
    parts.append(table(ranks, "list", "rank"))
    if found.near:
        near = [(f"{near.score:.4f}", _shown(found.items[near.item_id])) for near in found.near]
        parts.append(table(near, "score", "near item"))
    if found.log:
        parts.append(table([(clicks.event, str(clicks.count)) for clicks in found.log], "event", "in the log"))
    return "\n\n".join([*parts, *found.notes])


def _rows(parts: Sequence[TokenPart]) -> list[tuple[str, str, str, str]]:
    return [(_printable(part.token), part.kind, "yes" if part.matched else "", f"{part.value:+.4f}") for part in parts]


def _shown(item: Item) -> str:
    return f"{item.item_id}: {_printable(item.title)}"


def _printable(text: str) -> str:
    """A text without what a terminal would obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
