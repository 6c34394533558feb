"""Threads for what would block the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from dpsr.serving.api.http_server import HttpError

T = TypeVar("T")


class Pool:
    """A few threads; work that waits for one is dropped when its client leaves."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        """Starts no thread yet.

        Args:
            name: of the work, for errors.
            threads: pieces of work at once.
            waiting: further ones that may wait.
        """
        self._name, self._limit = name, threads + waiting
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"page-{name}")
        self._unfinished = 0
        self._counting = threading.Lock()

    async def run(self, work: Callable[[], T]) -> T:
        """Runs ``work`` in a thread; cancelled before it has one, it never runs.

        Raises:
            HttpError: 503, too much waits.
        """
        with self._counting:
            if self._unfinished >= self._limit:
                raise HttpError(
                    503, f"{self._unfinished} {self._name} are under way; try again", headers={"Retry-After": "1"}
                )
            self._unfinished += 1
        future = self._executor.submit(work)
        future.add_done_callback(self._count_finished)
        return await asyncio.wrap_future(future)

    def close(self, *, wait: bool) -> bool:
        """Takes no more work, and drops what waits.

        Args:
            wait: whether to return after the work that has a thread.

        Returns:
            Whether all work is done.
        """
        self._executor.shutdown(wait=wait, cancel_futures=True)
        with self._counting:
            return self._unfinished == 0

    def _count_finished(self, _: Future[Any]) -> None:
        with self._counting:
            self._unfinished -= 1
