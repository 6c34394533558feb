"""The root of the errors that a reader can mend."""


class DpsrError(Exception):
    """An error that its reader can mend: the message says where, what was found and what to do."""
