"""Errors of serving: a gRPC status code and a text."""

from __future__ import annotations

import grpc

from dpsr.errors import DpsrError


class ServingError(DpsrError):
    """A failed call: raised in the server for a request, and in the client for its answer."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        """Keeps the status.

        Args:
            code: the gRPC status code.
            message: the status text.
        """
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


class ServableError(ServingError):
    """A version that cannot be loaded, or a server that cannot start; the message has the remedy."""

    def __str__(self) -> str:
        """The message without the code, which concerns no call of a client."""
        return self.message


_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def status_code(number: int) -> grpc.StatusCode:
    """Status code of TensorFlow's error number; gRPC numbers the codes alike."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)
