"""``dpsr page``: starts the web server and ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

import grpc

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
    credentials: grpc.ChannelCredentials | None = None,
    environment: Mapping[str, str] = os.environ,
    announce: Callable[[str], object] = print,
) -> None:
    """Serves the page until SIGTERM or SIGINT, and ends the process; called in the main thread.

    Args:
        config: of the run.
        target: ``host:port`` of a model server; None for the configured one, or else a child.
        model: name of the model or alias there; None for the configuration's.
        serve_words: arguments of ``dpsr serve`` for the child.
        credentials: for a model server with TLS.
        environment: where the token is.
        announce: called with each line that says where the page and its files are.

    Raises:
        DpsrError: the model server has TLS and is to be asked without, the token is missing, the port is taken, or the
            file of judgements cannot be opened.
    """
    log_to_stderr()
    guard = Guard(config.page, read_token(config.page, environment))

    def open_parts() -> Parts:
        source = find_model_server(config, target, serve_words, with_tls=credentials is not None)
        try:
            return Parts(config, source, model=model, credentials=credentials)
        except BaseException:
            source.close()
            raise

    asyncio.run(_serve(config, guard, open_parts, announce))
    sys.stdout.flush()
    # Python would wait for the threads of reports and of baselines in the making, minutes perhaps. What they write is a
    # whole transaction or none.
    os._exit(0)


async def _serve(
    config: Config, guard: Guard, open_parts: Callable[[], Parts], announce: Callable[[str], object]
) -> None:
    asked_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_stop.set)
    parts = open_parts()
    server = PageServer(parts, guard)
    try:
        port = await server.listen(config.page)
        parts.prepare()
        host = f"[{config.page.host}]" if ":" in config.page.host else config.page.host
        announce(f"page: http://{host}:{port}/")
        if config.page.token_variable is not None:
            announce(f"open it as /?token=TOKEN, with the value of {config.page.token_variable}")
        announce(f"judgements: {config.page_judgements}")
        learnt = config.learnt_judgements
        if learnt is not None and learnt.resolve() != config.page_judgements.resolve():
            announce(f"`dpsr prepare` learns from another file: data.judgements.path is {learnt}")
        await asked_to_stop.wait()
    finally:
        await server.close()
        parts.close()
