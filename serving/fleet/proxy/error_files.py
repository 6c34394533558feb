"""Answers in place of HAProxy's own errors, as files that its configuration names."""

from __future__ import annotations

import json
from pathlib import Path

_ERRORS = {
    400: (13, "malformed HTTP request"),
    408: (4, "the request did not arrive in time"),
    502: (14, "the server ended the connection without an answer; try again"),
    503: (14, "no server that holds the model can be reached; try again"),
    504: (4, "the server did not answer in time"),
}
"""HTTP status -> gRPC status and text."""


def error_files() -> dict[str, str]:
    """File name -> raw HTTP message: with a gRPC status, and with TensorFlow Serving's JSON of an error."""
    files = {}
    for status, (code, text) in _ERRORS.items():
        files[f"grpc_{status}.http"] = (
            "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n"
            f"grpc-status: {code}\r\ngrpc-message: {text}\r\n\r\n"
        )
        body = json.dumps({"error": text})
        files[f"rest_{status}.http"] = (
            f"HTTP/1.1 {status} Error\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"cache-control: no-store\r\n\r\n{body}"
        )
    return files


def error_lines(protocol: str, run_dir: Path) -> list[str]:
    """The lines of a backend that name the files of its protocol, ``grpc`` or ``rest``."""
    return [f"  errorfile {status} {run_dir}/{protocol}_{status}.http" for status in _ERRORS]
