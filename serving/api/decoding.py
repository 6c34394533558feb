"""Threads that decode large requests, so that the event loop answers other requests meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

INLINE_BYTES = 64 << 10
"""Size up to which a request is decoded in the event loop, which costs less than a change of threads."""

_THREADS = 2

_Result = TypeVar("_Result")


class Decoder:
    """Runs the decoding of requests; belongs to one event loop."""

    def __init__(self) -> None:
        """Creates no thread before the first large request."""
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="decode")

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """The result of ``work``, computed in a thread; its exceptions pass on."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Ends the threads; decoding that has not started is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)
