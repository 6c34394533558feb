"""The errors of an export."""

from __future__ import annotations

from dpsr.errors import DpsrError


class ExportError(DpsrError, ValueError):
    """A model that cannot be published; the message states the finding and the remedy."""
