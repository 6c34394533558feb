"""What the tokenizers share in Python: a model file, and texts in, ids out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt


class _Core(Protocol):
    """A tokenizer of the C++ module."""

    def encode(self, text: str | bytes) -> npt.NDArray[np.int32]: ...
    def encode_batch(self, texts: Sequence[str | bytes]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]: ...
    @property
    def content(self) -> bytes: ...
    @property
    def fingerprint(self) -> str: ...


CoreT = TypeVar("CoreT", bound=_Core)


class ModelEncoder(Generic[CoreT]):
    """A tokenizer of a model file.

    Immutable, and safe to share between threads: encoding releases the GIL.
    """

    _core_class: ClassVar[Any]
    _file: ClassVar[str]
    """What its model file is called in messages."""
    _writer: ClassVar[str] = "`dpsr prepare`"
    """What writes one."""
    _error: ClassVar[type[ValueError]]
    """Raised for a file that cannot be used."""

    def __init__(self, core: CoreT) -> None:
        """Wraps the C++ object."""
        self._core = core

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a model file.

        Raises:
            FileNotFoundError: there is no such file.
            ModelFileError: the file is empty, truncated, corrupt, of a newer version, or of another format; the
                message says which, and what to do.
        """
        if not Path(path).exists():
            raise FileNotFoundError(f"{path}: no such {cls._file}; {cls._writer} writes one")
        try:
            return cls(cls._core_class.load(os.fspath(path)))
        except ValueError as error:
            raise cls._error(str(error)) from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model file atomically."""
        target = Path(path)
        fresh = target.with_name(f".{target.name}.{os.getpid()}")
        fresh.write_bytes(self._core.content)
        fresh.replace(target)

    def encode(self, text: str | bytes) -> npt.NDArray[np.int32]:
        """Encodes one text; invalid UTF-8 bytes and lone surrogates are read as U+FFFD.

        Returns:
            int32 [n]: the ids of its tokens.
        """
        return self._core.encode(text)

    def encode_batch(self, texts: Sequence[str | bytes]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Encodes many texts.

        Returns:
            ``(values, row_splits)``, int32 [nnz] and int64 [len(texts) + 1]: the ids of text ``i`` are
            ``values[row_splits[i]:row_splits[i + 1]]``.

        Raises:
            TypeError: an element is neither str nor bytes; the message says which.
        """
        return self._core.encode_batch(texts)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of the model file's content; equal fingerprints mean equal ids for all texts."""
        return self._core.fingerprint
