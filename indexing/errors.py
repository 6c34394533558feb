"""What goes wrong in an export."""

from __future__ import annotations

from dpsr.errors import DpsrError


class ExportError(DpsrError, ValueError):
    """A model that cannot be published; the message says what was found and what to do."""
