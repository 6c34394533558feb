"""``dpsr page``: starts the web server and ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

from dpsr.config import Config
from dpsr.page.server.application import PageServer
from dpsr.page.server.model_server import find_model_server
from dpsr.page.server.parts import Parts
from dpsr.page.server.security import Guard, read_token
from dpsr.serving.logs import log_to_stderr


def run(
    config: Config,
    *,
    target: str | None,
    model: str | None,
    serve_words: Sequence[str],
    environment: Mapping[str, str] = os.environ,
    announce: Callable[[str], object] = print,
) -> None:
    """Serves the page until SIGTERM or SIGINT, and ends the process; called in the main thread.

    Args:
        config: of the run.
        target: ``host:port`` of a model server; None for the configured one, or else a child.
        model: name of the model or alias there; None for the configuration's.
        serve_words: arguments of ``dpsr serve`` for the child.
        environment: where the token is.
        announce: called with each line that says where the page and its files are.

    Raises:
        DpsrError: the token is missing, the port is taken, or the file of judgements cannot be opened.
    """
    log_to_stderr()
    guard = Guard(config.page, read_token(config.page, environment))
    asyncio.run(_serve(config, guard, target, model, serve_words, announce))
    sys.stdout.flush()
    # Python would wait for the threads of reports and of baselines in the making, minutes perhaps. What they write is a
    # whole transaction or none.
    os._exit(0)


async def _serve(
    config: Config,
    guard: Guard,
    target: str | None,
    model: str | None,
    serve_words: Sequence[str],
    announce: Callable[[str], object],
) -> None:
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    source = find_model_server(config, target, serve_words)
    try:
        parts = Parts(config, source, model=model)
    except BaseException:
        source.close()
        raise
    server = PageServer(parts, guard)
    try:
        port = await server.listen(config.page)
        parts.prepare()
        host = f"[{config.page.host}]" if ":" in config.page.host else config.page.host
        announce(f"page: http://{host}:{port}/")
        if config.page.token_variable is not None:
            announce(f"open it as /?token=TOKEN, with the value of {config.page.token_variable}")
        announce(f"judgements: {config.page_judgements}")
        await asked_to_stop.wait()
    finally:
        await server.close()
        parts.close()
