"""HAProxy's runtime API: commands over a unix socket."""

from __future__ import annotations

import csv
import io
import socket
from collections.abc import Sequence
from pathlib import Path

from dpsr.serving.fleet.errors import FleetError

_SECONDS = 10.0
_BATCH_BYTES = 8000
"""Of commands in one line, below HAProxy's buffer."""


class RuntimeApi:
    """Commands to one HAProxy."""

    def __init__(self, path: Path) -> None:
        """Names the socket: of the present worker, or of the master."""
        self._path = path

    def ask(self, command: str) -> str:
        """The answer to one command.

        Raises:
            FleetError: HAProxy does not answer.
        """
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_SECONDS)
                connection.connect(str(self._path))
                connection.sendall(f"{command}\n".encode())
                connection.shutdown(socket.SHUT_WR)  # the master would wait for the next command
                parts = []
                while part := connection.recv(65536):
                    parts.append(part)
        except OSError as error:
            raise FleetError(f"{self._path}: HAProxy does not answer ({error}); its log says why") from None
        return b"".join(parts).decode(errors="replace").strip()

    def change(self, commands: Sequence[str]) -> None:
        """Gives commands that answer nothing, or a confirmation, when they are done.

        Raises:
            FleetError: HAProxy refused one of them, or does not answer.
        """
        batch: list[str] = []
        for command in commands:
            if batch and len(";".join([*batch, command])) > _BATCH_BYTES:
                self._change(batch)
                batch = []
            batch.append(command)
        if batch:
            self._change(batch)

    def _change(self, commands: list[str]) -> None:
        answer = self.ask(";".join(commands))
        refused = [
            line for line in answer.splitlines() if line.strip() and not line.startswith("New server registered")
        ]
        if refused:
            raise FleetError(f"HAProxy refused one of {len(commands)} changes, from {commands[0]!r} on: {refused[0]}")

    def table(self, command: str) -> list[dict[str, str]]:
        """The answer to ``show stat``, a row each.

        Raises:
            FleetError: HAProxy does not answer.
        """
        return list(csv.DictReader(io.StringIO(self.ask(command).removeprefix("# "))))
