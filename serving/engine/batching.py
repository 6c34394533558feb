"""Micro-batches without a timer: requests queued while all runners are busy run as one batch.

A request that finds a free runner starts at once and alone; the others queue. A runner that becomes free takes the
oldest queued request and all others of its group, up to ``MAX_BATCH_ROWS`` rows.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from dpsr.serving import refusals
from dpsr.serving.engine.loaded_model import Call, Outputs
from dpsr.serving.errors import ServingError
from dpsr.serving.metrics import Metrics
from dpsr.serving.request_context import RequestContext

MAX_BATCH_ROWS = 32


def respond(calls: Sequence[Call], metrics: Metrics | None = None) -> list[bytes | ServingError]:
    """Runs calls of one group; the rendered answer or the error of each."""
    results = calls[0].model.run_together(calls)
    if metrics:
        metrics.note_run(calls[0].labels, sum(call.rows for call in calls), len(calls), _heads(results))
    return [_render(call, result) for call, result in zip(calls, results, strict=True)]


def _heads(results: Sequence[Outputs | ServingError]) -> list[np.ndarray]:
    """``head`` output of each run behind the results: one of a batch, or one per call after a failed batch."""
    runs = {id(outputs.of_run): outputs for outputs in results if isinstance(outputs, Outputs) and "head" in outputs}
    return [outputs.of_run["head"] for outputs in runs.values()]


def _render(call: Call, result: Outputs | ServingError) -> bytes | ServingError:
    if isinstance(result, ServingError):
        return result
    try:
        return call.render(call, result)
    except ServingError as error:
        return error


class _Waiting(NamedTuple):
    call: Call
    answer: asyncio.Future[bytes]
    context: RequestContext | None


class MicroBatcher:
    """Runs calls in threads; belongs to one event loop."""

    def __init__(
        self,
        run: Callable[[Sequence[Call]], Sequence[bytes | ServingError]] = respond,
        *,
        parallel_runs: int | None = None,
    ) -> None:
        """Starts the threads.

        Args:
            run: answers calls of one group, one result per call; called in a thread.
            parallel_runs: number of threads; by default one per core, at least two.
        """
        self._run = run
        self._parallel_runs = parallel_runs or max(2, len(os.sched_getaffinity(0)))
        self._executor = ThreadPoolExecutor(self._parallel_runs, thread_name_prefix="predict")
        self._waiting: deque[_Waiting] = deque()
        self._running = 0

    async def submit(self, call: Call, context: RequestContext | None = None) -> bytes:
        """Queues a call.

        Args:
            call: what to run.
            context: the caller; a queued call whose deadline passes is not run.

        Returns:
            The rendered answer.

        Raises:
            ServingError: the call failed.
        """
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(call, answer, context))
        self._start_runs()
        return await answer

    def close(self) -> None:
        """Waits for the runs in progress and ends the threads."""
        self._executor.shutdown(wait=True)

    def _start_runs(self) -> None:
        while self._running < self._parallel_runs and (batch := self._take()):
            self._running += 1
            run = asyncio.get_running_loop().run_in_executor(
                self._executor, self._run, [waiting.call for waiting in batch]
            )
            run.add_done_callback(partial(self._finish, [waiting.answer for waiting in batch]))

    def _take(self) -> list[_Waiting]:
        """Oldest queued call and the others of its group; cancelled and expired calls leave the queue."""
        batch: list[_Waiting] = []
        left: deque[_Waiting] = deque()
        rows = 0
        for waiting in self._waiting:
            call = waiting.call
            if waiting.answer.done():
                continue
            if waiting.context and waiting.context.expired:
                waiting.answer.set_exception(refusals.late())
                continue
            fits = not batch or (
                call.group is not None and call.group == batch[0].call.group and rows + call.rows <= MAX_BATCH_ROWS
            )
            if fits:
                batch.append(waiting)
                rows += call.rows
            else:
                left.append(waiting)
        self._waiting = left
        return batch

    def _finish(
        self, answers: Sequence[asyncio.Future[bytes]], run: asyncio.Future[Sequence[bytes | ServingError]]
    ) -> None:
        self._running -= 1
        failure = run.exception()
        results = [failure] * len(answers) if failure else run.result()
        for answer, result in zip(answers, results, strict=True):
            if answer.done():
                continue
            if isinstance(result, BaseException):
                answer.set_exception(result)
            else:
                answer.set_result(result)
        self._start_runs()
