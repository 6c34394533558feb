"""Lists of the methods that a model is compared with, which this process makes at the first query."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpsr.config import Config
from dpsr.page.errors import PageError, PassingError
from dpsr.page.search.catalogue import Catalogue
from dpsr.page.search.fusion import ServerList
from dpsr.page.search.matching import matching

if TYPE_CHECKING:
    from dpsr.baselines.context import BuildContext
    from dpsr.baselines.interfaces import Retriever
    from dpsr.page.search.model_server import Filters

REFERENCE, SUBJECT = "bm25", "dpsr"
"""As in ``baselines.registry``, whose import takes seconds."""
MOST_FILTERED = 10_000
"""Best items that filters are looked for among."""
_FIRST_WAIT, _ANSWER_WAIT = 1.0, 10.0
"""Seconds that a query waits for a method that is being made, and for its answer behind others."""
_TRIED_AGAIN = 30.0
"""Seconds after which a method that could not be made is tried again."""


class BaselineLists:
    """Methods of ``evaluation.baselines`` by name; thread-safe, and one thread makes and asks them.

    A method is made at its first query. One that trains is taken from the weights that ``dpsr compare`` or
    ``dpsr evaluate`` keeps in ``work_dir``, and not trained here. TensorFlow is imported with the first method.
    """

    def __init__(self, config: Config, catalogue: Catalogue) -> None:
        """Makes nothing yet.

        Args:
            config: the run.
            catalogue: of its dataset.
        """
        self._config, self._catalogue = config, catalogue
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="baselines")
        self._lock = threading.Lock()
        self._made: dict[str, tuple[float, Future[Retriever]]] = {}

    @property
    def names(self) -> list[str]:
        """Those of the configuration that do without the trained model, which answers as a server; BM25 first."""
        names = dict.fromkeys([REFERENCE, *self._config.evaluation.baselines])
        return [name for name in names if SUBJECT not in re.split(r"[>+@ ]", name)]

    def close(self) -> None:
        """Ends the thread after what it is at."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def lists(self, name: str, queries: Sequence[str], filters: Filters, count: int, *, wait: bool) -> list[ServerList]:
        """The lists of several queries.

        Args:
            name: of the method.
            queries: their texts.
            filters: column -> value or bounds; of the ``MOST_FILTERED`` best items those that match.
            count: items of each list, at most.
            wait: until the method is made, else for a second.

        Raises:
            PageError: the name is unknown, the method cannot be made, or it is not made yet.
        """
        with self._lock:
            started, future = self._made.get(name, (0.0, None))
            failed = future is not None and future.done() and future.exception() is not None
            if future is None or (failed and time.monotonic() - started > _TRIED_AGAIN):
                started, future = time.monotonic(), self._thread.submit(self._make, name)
                self._made[name] = started, future
        try:
            method = future.result(None if wait else _FIRST_WAIT)
            found = self._thread.submit(self._ask, method, queries, MOST_FILTERED if filters else count)
            ids, scores = found.result(None if wait else _ANSWER_WAIT)
        except NotYet:
            seconds = time.monotonic() - started
            what = "waits for another method" if future.done() else f"is being made, for {seconds:.0f} s so far"
            raise PassingError(f"{name} {what}; search again in a while") from None
        return [self._list(*row, filters, count) for row in zip(ids, scores, strict=True)]

    def _list(self, rows: np.ndarray, scores: np.ndarray, filters: Filters, count: int) -> ServerList:
        kept = rows >= 0
        rows, scores = rows[kept].astype(np.int64), scores[kept]
        if filters:
            matched = matching(self._catalogue, rows, filters)
            rows, scores = rows[matched], scores[matched]
        rows, scores = rows[:count], scores[:count]
        ids = np.array([each.encode() for each in self._catalogue.ids(rows)], object)
        return ServerList(ids, scores, np.full(len(rows), -1, np.int32), np.zeros(len(rows), np.int32))

    def _make(self, name: str) -> Retriever:
        """Makes a method, or raises what a reader can mend."""
        from dpsr.baselines.interfaces import Retriever
        from dpsr.errors import DpsrError

        try:
            context = self._context(name)
            missing = context.missing(context.registry[name].needs)
            if missing:
                raise PageError(f"{name} cannot be made: {', and '.join(need.value for need in missing)}")
            method = context.method(name)
        except DpsrError as error:
            raise PageError(str(error)) from None
        except (ValueError, TypeError, OSError, MemoryError, LookupError, RuntimeError) as error:
            raise PageError(f"{name} cannot be made: {error}") from error
        if not isinstance(method, Retriever):
            raise PageError(f"{name} only scores given pairs; {REFERENCE}>{name} is a column that it orders")
        return method

    def _ask(self, method: Retriever, queries: Sequence[str], count: int) -> tuple[np.ndarray, np.ndarray]:
        from dpsr.baselines.examples import anonymous_examples

        examples = anonymous_examples(np.array([*queries, ""], object)[:-1], seed=self._config.training.seed)
        return method.retrieve(examples, min(count, self._catalogue.schema.num_items))

    def _context(self, name: str) -> BuildContext:
        from dpsr.data.dataset.tables import Dataset
        from dpsr.indexing.lexical.tuned import with_tuned
        from dpsr.page.search.kept_weights import KeptWeightsContext

        config, options = with_tuned(self._config), self._config.evaluation
        return KeptWeightsContext.of(
            name,
            Dataset.load(config.dataset_dir),
            seed=config.training.seed,
            work_dir=Path(config.work_dir),
            lexical=config.index.lexical,
            checkpoint=None if options.checkpoint is None else Path(options.checkpoint),
            word_vectors=None if options.word_vectors is None else Path(options.word_vectors),
        )
