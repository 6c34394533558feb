"""Errors of an experiment's report."""

from __future__ import annotations

from dpsr.errors import DpsrError


class ExperimentError(DpsrError):
    """Logs that cannot be compared as asked; the message has the place, the finding and the remedy."""
