"""What goes wrong in serving: one gRPC status code and one text."""

from __future__ import annotations

import grpc

from dpsr.errors import DpsrError


class ServingError(DpsrError):
    """A call that failed: raised by the server for a request, and by the client for the answer."""

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
    """A version of a model that cannot be loaded, or a server that cannot start; the message says what to do."""

    def __str__(self) -> str:
        """The message alone: no call of a client failed with the code."""
        return self.message


_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def status_code(number: int) -> grpc.StatusCode:
    """The status code with TensorFlow's error number; both count alike."""
    return _CODES.get(number, grpc.StatusCode.UNKNOWN)
