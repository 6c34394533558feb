"""What answers requests: the store, the searcher and the explainer, opened when they are first needed."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from dpsr.config import Config
from dpsr.data.judgements.store import JudgementStore
from dpsr.errors import DpsrError
from dpsr.page.server.model_server import ModelServerSource
from dpsr.page.server.pools import Pool

if TYPE_CHECKING:
    import grpc

    # Both import much that the page's first answer does without
    from dpsr.page.explain.explainer import Explainer
    from dpsr.page.search.searcher import Searcher

_log = logging.getLogger(__name__)


class Parts:
    """The synchronous parts of the page, and the threads in which they run."""

    def __init__(
        self,
        config: Config,
        source: ModelServerSource,
        *,
        model: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Opens the store of judgements alone.

        Args:
            config: of the run.
            source: where the model server is.
            model: name of the model, or alias, on the server; None for the configuration's.
            credentials: of the page, for a model server with TLS.

        Raises:
            StoreError: the file of judgements cannot be opened.
        """
        self.config = config
        self._asked = config if model is None else config.model_copy(update={"name": model})
        self._source, self._credentials = source, credentials
        self.store = JudgementStore(config.page_judgements)
        self.searches = Pool("searches", threads=4, waiting=32)
        self.jobs = Pool("reports, samples and files", threads=2, waiting=8)
        self.reads = Pool("reads", threads=2, waiting=64)
        # One thread: of two grades of the same pair the later request is the later grade.
        self.writes = Pool("judgements", threads=1, waiting=256)
        self._opening = threading.Lock()
        self._searcher: Searcher | None = None
        self._explainer: Explainer | None = None

    def searcher(self) -> Searcher:
        """The searcher.

        Raises:
            NotReadyError: there is no model server yet, or no longer.
            DpsrError: the dataset cannot be read.
        """
        target = self._source.target()
        with self._opening:
            if self._searcher is None:
                from dpsr.page.search.searcher import Searcher

                self._searcher = Searcher(self._asked, target, self.store, self._credentials)
            return self._searcher

    def explainer(self) -> Explainer:
        """The explainer.

        Raises:
            DpsrError: as ``searcher``, or the model cannot be read.
        """
        searcher = self.searcher()
        with self._opening:
            if self._explainer is None:
                from dpsr.page.explain.explainer import Explainer

                self._explainer = Explainer(self.config, searcher)
            return self._explainer

    def prepare(self) -> None:
        """Opens the searcher as soon as the model server is there, so that the first search is as fast as others."""

        def prepare() -> None:
            self._source.wait()
            try:
                self.searcher().shop()
            except DpsrError as error:  # the first request says it too
                _log.warning("%s", error)
            except Exception:
                _log.exception("the searcher cannot be opened")

        threading.Thread(target=prepare, name="page-prepare", daemon=True).start()

    def close(self) -> None:
        """Writes the judgements that arrived, takes no more work, and ends the model server that is this process's."""
        self.writes.close(wait=True)
        idle = [pool.close(wait=False) for pool in (self.searches, self.jobs, self.reads)]
        if all(idle):
            self.store.close()
        self._source.close()
