"""User ids as they are compared and stored: as given, or hashed with a secret key."""

from __future__ import annotations

import hashlib
import hmac
import os

import pyarrow as pa

from dpsr.data.dataset.schema import DatasetError
from dpsr.data.raw.values import id_strings


class UserIds:
    """Turns a user column into strings, so that 7 in one file is "7" in another, and hashes them where asked to."""

    def __init__(self, key: bytes | None = None) -> None:
        """Keeps the key of HMAC-SHA256; None leaves ids as they are."""
        self._key = key

    @classmethod
    def from_environment(cls, variable: str | None) -> UserIds:
        """The key is the value of an environment variable.

        Raises:
            DatasetError: the variable is not set.
        """
        if variable is None:
            return cls()
        key = os.environ.get(variable)
        if not key:
            raise DatasetError(
                f"data.user_id_key_variable: environment variable {variable} is not set; set it to a secret key, "
                "the same for every log whose users shall be the same"
            )
        return cls(key.encode())

    @property
    def hidden(self) -> bool:
        """Whether ids are hashed."""
        return self._key is not None

    def __call__(self, column: pa.Array) -> pa.Array:
        """User ids as they are stored, string [n]; null where there is none."""
        texts = id_strings(column)
        if self._key is None:
            return texts
        encoded = texts.dictionary_encode()
        hashed = [
            hmac.digest(self._key, text.encode(), hashlib.sha256)[:16].hex() for text in encoded.dictionary.to_pylist()
        ]
        return pa.DictionaryArray.from_arrays(encoded.indices, pa.array(hashed, pa.string())).dictionary_decode()
