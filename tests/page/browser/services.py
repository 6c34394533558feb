"""Processes that the browser talks to: a model server, the page, a server of images."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from dpsr.processes import die_with_parent

IMAGE = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" height="9" fill="#8ab"/></svg>'


class Service:
    """A ``dpsr`` command that stays up, killed as roughly as a test likes."""

    def __init__(self, words: list[str], ready: str, log: Path) -> None:
        """Starts it and waits for the line of its output that matches ``ready``."""
        self._parent = os.getpid()
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dpsr.cli", *words],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=lambda: die_with_parent(self._parent),
            )
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if found := re.search(ready, line):
                self.address = found[1]
                return
        raise RuntimeError(f"{words[0]} ended with {self.process.wait()}: {''.join(lines)}{log.read_text()[-2000:]}")

    def kill(self) -> None:
        """Ends it at once, as a crash does."""
        self.process.kill()
        self._wait()

    def stop(self) -> None:
        """Ends it as an operator does."""
        self.process.send_signal(signal.SIGTERM)
        self._wait()

    def _wait(self) -> None:
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


class _Image(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Any address is the same picture."""
        self.send_response(200)
        self.send_header("Content-Type", "image/svg+xml")
        self.send_header("Content-Length", str(len(IMAGE)))
        self.end_headers()
        self.wfile.write(IMAGE)

    def log_message(self, format: str, *args: object) -> None:
        """Writes nothing."""


@contextmanager
def image_server() -> Iterator[int]:
    """A server of one picture; its port on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Image)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def start_server(config: Path, folder: Path, port: int = 0) -> Service:
    """The model server of a configuration, by default on a free port."""
    words = ["serve", "-c", str(config), "--set", f"serving.port={port}", "--set", "serving.rest_port=-1"]
    return Service(words, r"^ready: .* on (\S+)$", folder / "server.log")


def start_page(config: Path, target: str, folder: Path, port: int = 0) -> Service:
    """The page over a model server; its judgements lie in ``folder``."""
    words = ["page", "-c", str(config), "--target", target, "--set", f"page.port={port}"]
    words += ["--set", f"page.judgements={folder / 'judgements.db'}"]
    return Service(words, r"^page: (http://\S+)/", folder / "page.log")
