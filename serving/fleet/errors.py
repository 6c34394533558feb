"""Errors of a fleet."""

from __future__ import annotations

from dpsr.errors import DpsrError


class FleetError(DpsrError):
    """A fleet that cannot be built or changed as asked; the message has the place, the finding and the remedy."""
