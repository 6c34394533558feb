"""The files of the page, read once and served from memory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

STATIC_DIR = Path(__file__).resolve().parent.parent / "static"
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".woff2": "font/woff2",
}
_TEXTS = ("text/", "application/json", "image/svg")


class _File(NamedTuple):
    content: bytes
    type: str
    etag: str


class StaticFiles:
    """Answers for files by their names below a folder; other names, and folders, are not found."""

    def __init__(self, folder: Path = STATIC_DIR) -> None:
        """Reads the files of known types."""
        self._files = {
            path.relative_to(folder).as_posix(): _read(path)
            for path in sorted(folder.rglob("*"))
            if path.suffix in _TYPES and path.is_file()
        }

    def answer(self, name: str, request: web.BaseRequest) -> web.Response | None:
        """A file, or 304 where the browser has it as it is; None for a name that is none."""
        file = self._files.get(name)
        if file is None:
            return None
        # no-cache: the browser asks each time, so that a new release of the page is there at once.
        headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
        known = request.headers.get("If-None-Match", "")
        if file.etag in (each.strip().removeprefix("W/") for each in known.split(",")):
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.content, headers=headers | {"Content-Type": file.type})


def _read(path: Path) -> _File:
    content, kind = path.read_bytes(), _TYPES[path.suffix]
    charset = "; charset=utf-8" if kind.startswith(_TEXTS) else ""
    return _File(content, kind + charset, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
