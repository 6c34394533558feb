"""Why an item stands where it stands: scores by token and term, ranks, neighbours, clicks."""

from __future__ import annotations

import numpy as np

from dpsr.config import Config
from dpsr.data.dataset.item_lookup import items_by_id
from dpsr.data.judgements.records import Column
from dpsr.model.two_tower import TwoTower
from dpsr.page.contract import ExplainRequest, Explanation, HeadScore, Near, SearchRequest, TokenPart
from dpsr.page.errors import PageError
from dpsr.page.explain.heads import head_scores
from dpsr.page.explain.published import PublishedVersion
from dpsr.page.explain.run import LatestRun, OpenRun
from dpsr.page.explain.served import Served
from dpsr.page.explain.terms import lexical_parts
from dpsr.page.search.searcher import Searcher

DEPTH = 1000
"""Items of a list among which a rank is looked up."""
NEAREST = 10
"""Items near the explained one."""


class Explainer:
    """Explains items of the versions of a run; thread-safe.

    In memory are the towers, the item vectors and the postings of the version that was last explained
    (``PublishedVersion``), and the log by query (``QueryLog``), each read when it is first needed.
    """

    def __init__(self, config: Config, searcher: Searcher) -> None:
        """Reads the manifest of the dataset alone.

        Args:
            config: of the run that is served.
            searcher: asks the server, and knows items and users.
        """
        self._config, self._searcher = config, searcher
        self._runs = LatestRun(config)

    def explain(self, request: ExplainRequest) -> Explanation:
        """Explains an item for a query.

        The version of the first column that a server answers is explained; without one, the newest.

        Raises:
            PageError: there is no such item or user, or the server refuses, or is not there.
        """
        item_row = int(self._searcher.catalogue.rows_of([request.item_id])[0])
        run, served = self._served(request)
        published = served.published
        row = None if published is None else published.row_of(request.item_id)
        if item_row < 0 and row is None:
            raise PageError(f"no item has the id {request.item_id!r}; choose one of a list, or give another id")
        notes = list(served.notes)
        if published is not None and row is None:
            notes.append(f"Version {published.directory.name} does not serve this item: it has no score.")
        heads: tuple[HeadScore, ...] = ()
        near: list[tuple[str, float]] = []
        lexical_score: float | None = None
        terms: tuple[TokenPart, ...] = ()
        if published is not None and row is not None:
            if published.has_vectors:
                near = published.nearest(row, NEAREST)
                if served.model is not None:
                    heads, of_heads = self._heads(run, request, served.model, published.vector(row))
                    notes += [*of_heads, *_notes_of(published, row, known=item_row >= 0)]
            if published.has_words:
                lexical_score, terms = lexical_parts(published.words, request.query, row)
        ranks, more = self._ranks(request)
        shown = self._searcher.items([request.item_id, *(item for item, _ in near)])
        return Explanation(
            item=shown.pop(request.item_id),
            heads=heads,
            best_head=max(heads, key=lambda head: head.score).head if heads else None,
            lexical_score=lexical_score,
            terms=terms,
            ranks=ranks,
            near=tuple(Near(item_id=item, score=score) for item, score in near),
            items=shown,
            log=run.log.clicks(request.query, item_row) if item_row >= 0 and self._has_log else (),
            notes=(*notes, *more, *([] if self._has_log else ["The run has no log of clicks."])),
        )

    def _served(self, request: ExplainRequest) -> tuple[OpenRun, Served]:
        """What answers, by a dataset that its towers were trained on, where there is one."""
        run = self._runs.open()
        column = next((column for column in request.columns if column.kind == "server"), Column())
        if column.model not in (None, self._config.name):
            note = f"Scores are those of model {column.model}, which is not this run's: its files are not read here."
            return run, Served(None, None, (note,))
        version = self._searcher.version(column)
        if version is None:
            note = "The server does not say which version answers: its scores are not known."
            return run, Served(None, None, (note,))
        served = run.versions.open(version)
        if served.model is None and (renewed := self._runs.renewed()) is not None:
            return renewed, renewed.versions.open(version)
        return run, served

    def _heads(
        self, run: OpenRun, request: ExplainRequest, model: TwoTower, item: np.ndarray
    ) -> tuple[tuple[HeadScore, ...], list[str]]:
        """The heads, and what has to be noted of them; ``item`` is the item's vector."""
        profile: dict[str, str] = {}
        history = np.zeros(0, np.int64)
        if request.user is not None:
            user = self._searcher.users().profile(request.user)
            profile, history = user.values, self._searcher.catalogue.rows_of(user.history)
        read = run.reader.read(model, request.query, profile, history)
        return head_scores(model, run.reader, read, item, self._item_text(run, request.item_id))

    def _item_text(self, run: OpenRun, item_id: str) -> str | None:
        """The text of an item as the towers read it; None where the dataset lacks the item."""
        schema = run.dataset.schema
        try:
            key: str | int = int(item_id) if schema.item_id_type == "int64" else item_id
        except ValueError:
            return None
        found = items_by_id(self._config.dataset_dir, [key], schema.text)
        return " ".join(found[key]) if key in found else None

    def _ranks(self, request: ExplainRequest) -> tuple[tuple[int | None, ...], list[str]]:
        """The rank of the item in the list of every column, and why a column has none."""
        ranks: list[int | None] = []
        notes: list[str] = []
        if request.user is not None and request.columns:
            asked = SearchRequest(query=request.query, columns=request.columns, count=DEPTH, user=request.user)
            results = self._searcher.search(asked).results
            lists = [[found.item_id for found in result.items] for result in results]
            notes += [f"{result.title}: {result.error}" for result in results if result.error]
        else:
            lists = []
            for column in request.columns:
                try:
                    (found,) = self._searcher.lists([request.query], column, DEPTH)
                    problem = "the query is longer than the server takes" if found is None else ""
                except PageError as error:
                    found, problem = None, str(error)
                if problem:
                    notes.append(f"{self._searcher.title(column)}: {problem}")
                lists.append([each.item_id for each in found or ()])
        for items in lists:
            ranks.append(items.index(request.item_id) + 1 if request.item_id in items else None)
        return tuple(ranks), notes

    @property
    def _has_log(self) -> bool:
        return self._config.data.interactions is not None


def _notes_of(published: PublishedVersion, row: int, *, known: bool) -> list[str]:
    """How what is served differs from the towers and from the dataset; ``known``: the dataset has the item."""
    notes = []
    if published.encoder_precision != "float32":
        notes.append(
            f"The server reads the query by an encoder in {published.encoder_precision}; the scores here are those of "
            "the trained one, and differ a little from the list's."
        )
    if known and published.is_fresh(row):
        notes.append(
            "The item changed after the index was built, and the dataset may have an older text of it: tokens are "
            "compared with that text."
        )
    return notes
