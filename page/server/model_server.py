"""The model server that the page asks: one that runs, or a child of this process."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from dpsr.config import Config, ConfigError
from dpsr.errors import DpsrError
from dpsr.processes import end, start_command
from dpsr.serving import READY_PREFIX

_CONNECT_SECONDS = 1.0
_STOP_SECONDS = 10.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class NotReadyError(DpsrError):
    """There is no model server yet, or no longer."""


class ModelServerSource(Protocol):
    """Where a model server is."""

    def target(self) -> str:
        """``host:port``.

        Raises:
            NotReadyError: it does not answer yet, or has ended.
        """

    def wait(self) -> None:
        """Returns when ``target`` has an answer that lasts."""

    def close(self) -> None:
        """Ends it, if it is this process's own."""


class RunningServer:
    """A server that somebody else started."""

    def __init__(self, target: str) -> None:
        """Keeps the address, ``host:port``."""
        self._target = target

    def target(self) -> str:
        """``host:port``."""
        return self._target

    def wait(self) -> None:
        """Returns at once."""

    def close(self) -> None:
        """Leaves the server alone."""


class OwnServer:
    """``dpsr serve`` as a child on a free port; it ends with this process, however that ends."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        """Starts it; called in the main thread, with which the child ends.

        Args:
            words: arguments of ``dpsr serve`` that say what is served.
            log: file of what it writes to standard error.
        """
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        settings = ("host=127.0.0.1", "port=0", "rest_port=-1", "workers=1")
        words = ["serve", *words, *(word for setting in settings for word in ("--set", f"serving.{setting}"))]
        with log.open("wb") as errors:
            self._process = start_command(words, stdout=subprocess.PIPE, stderr=errors)
        self._target: str | None = None
        self._settled = threading.Event()
        self._reader = threading.Thread(target=self._read, name="page-model-server", daemon=True)
        self._reader.start()

    def target(self) -> str:
        """``host:port``.

        Raises:
            NotReadyError: it loads its model, or has ended.
        """
        code = self._process.poll()
        if code is not None:
            words = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise NotReadyError(
                f"the model server ended (exit code {code}): {words[-1] if words else 'it wrote nothing'}; its log is "
                f"{self._log}; mend that, and start `dpsr page` again"
            )
        if self._target is None:
            raise NotReadyError("the model server is starting and loads its model; try again in some seconds")
        return self._target

    def wait(self) -> None:
        """Returns when it is ready or has ended."""
        self._settled.wait()

    def close(self) -> None:
        """Ends it: softly first."""
        end(self._process, _STOP_SECONDS)
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if line.startswith(READY_PREFIX):
                    self._target = line.split()[-1]
                    self._settled.set()
        self._process.wait()
        self._settled.set()


def find_model_server(
    config: Config, target: str | None, words: Sequence[str], *, with_tls: bool = False
) -> ModelServerSource:
    """The named server, or one that listens at the configured address, or else a child.

    Args:
        config: of the run.
        target: ``host:port``; None where none is named.
        words: arguments of ``dpsr serve`` for the child.
        with_tls: whether servers are asked with TLS.

    Raises:
        ConfigError: the configured server has TLS and is to be asked without, or the other way around.
    """
    if target is not None:
        return RunningServer(target)
    if with_tls != (config.serving.tls_certificate is not None):
        raise ConfigError(
            "--ca is given, and the configured server has no TLS; set serving.tls_certificate as it is served, name "
            "another server by --target, or leave --ca out"
            if with_tls
            else "serving.tls_certificate is set; name the authority that signed it by --ca, with mutual TLS also "
            "--cert and --key, or name another server by --target"
        )
    host = _ANY.get(config.serving.host, config.serving.host)
    if config.serving.port and _listens(host, config.serving.port):
        return RunningServer(f"[{host}]:{config.serving.port}" if ":" in host else f"{host}:{config.serving.port}")
    return OwnServer(words, Path(config.work_dir) / "page" / "server.log")


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except OSError:
        return False
    return True
