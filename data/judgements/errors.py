"""Errors of kept judgements."""

from __future__ import annotations

from dpsr.errors import DpsrError


class JudgementError(DpsrError):
    """Judgements cannot be kept, found or read as asked."""


class MissingRecordError(JudgementError):
    """A book, a bad case or a snapshot of this name or number is not kept."""


class ExistingRecordError(JudgementError):
    """A book of this name is kept already."""


class StoreError(JudgementError):
    """The file of judgements cannot be opened, read or written."""
