"""Errors of the page."""

from __future__ import annotations

from dpsr.errors import DpsrError


class PageError(DpsrError):
    """What a request asks for cannot be done; the message says why, and what to change."""


class PassingError(PageError):
    """The same request may succeed later: a server is starting, away or too busy."""
