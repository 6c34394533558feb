"""Answers of the API, and the statuses of errors."""

from __future__ import annotations

from aiohttp import web

from dpsr.data.dataset.schema import DatasetError
from dpsr.data.judgements.errors import ExistingRecordError, MissingRecordError, StoreError
from dpsr.data.judgements.records import Message
from dpsr.errors import DpsrError
from dpsr.page.errors import PassingError
from dpsr.page.openapi import JSON
from dpsr.page.server.model_server import NotReadyError

NO_STORE = {"Cache-Control": "no-store"}
_STATUS: tuple[tuple[type[DpsrError], int], ...] = (
    (NotReadyError, 503),
    (PassingError, 503),
    (MissingRecordError, 404),
    (ExistingRecordError, 409),
    (StoreError, 503),
    (DatasetError, 503),
)


def status_of(error: DpsrError) -> int:
    """The HTTP status: 503 for what may pass without another request, else 400 or what the error is about."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 400)


def json_answer(message: Message) -> web.Response:
    """A message as JSON."""
    return web.Response(body=message.model_dump_json().encode(), content_type=JSON, headers=NO_STORE)


def file_answer(content: bytes, name: str, media_type: str) -> web.Response:
    """A file to keep; ``name`` may hold what a header may not, which is left out."""
    safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_" for letter in name)
    headers = NO_STORE | {"Content-Disposition": f'attachment; filename="{safe[-150:]}"'}
    return web.Response(body=content, headers=headers | {"Content-Type": media_type})
