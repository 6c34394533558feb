"""What a servable must answer: held-out examples as a client would send them, and the heads that the model gives them.

The examples are written by the process that exports, and read by the fresh one that checks what it exported.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_EXAMPLES, _HEADS, _VECTORS = "examples.json", "heads.npz", "item_vectors.npy"


@dataclass(frozen=True)
class Examples:
    """n requests, and what the Python side computes for them."""

    item_ids: list[str] | list[int]
    """By item row."""
    queries: list[str]
    profile: dict[str, list[str]]
    """[n] strings for each profile input of ``personalized``."""
    history: list[list[str]] | list[list[int]]
    """Item ids of each user, oldest first."""
    tokens: list[list[int]]
    """Token ids of each query."""
    anonymous_heads: np.ndarray
    """float32 [n, heads, d], of the query alone."""
    personalized_heads: np.ndarray
    """float32 [n, heads, d], with profile and history."""
    item_vectors: np.ndarray
    """float32 [items, d]."""

    def write(self, directory: Path) -> None:
        """Writes the examples into an existing directory."""
        tree = {name: getattr(self, name) for name in ("item_ids", "queries", "profile", "history", "tokens")}
        (directory / _EXAMPLES).write_text(json.dumps(tree), encoding="utf-8")
        np.savez(directory / _HEADS, anonymous=self.anonymous_heads, personalized=self.personalized_heads)
        np.save(directory / _VECTORS, self.item_vectors)

    @classmethod
    def read(cls, directory: Path) -> Examples:
        """Reads what ``write`` wrote."""
        tree = json.loads((directory / _EXAMPLES).read_text(encoding="utf-8"))
        with np.load(directory / _HEADS) as heads:
            return cls(
                **tree,
                anonymous_heads=heads["anonymous"],
                personalized_heads=heads["personalized"],
                item_vectors=np.load(directory / _VECTORS, mmap_mode="r"),
            )

    def query_input(self) -> np.ndarray:
        """The queries as an input of a signature, bytes objects [n]."""
        return _strings(self.queries)

    def personalized_inputs(self) -> dict[str, np.ndarray]:
        """The inputs of ``personalized``; histories are padded at the end."""
        width = max((len(ids) for ids in self.history), default=0)
        numeric = bool(self.item_ids) and isinstance(self.item_ids[0], int)
        padded = [[*ids, *([-1 if numeric else ""] * (width - len(ids)))] for ids in self.history]
        history = np.array(padded, np.int64) if numeric else _strings(padded)
        profile = {column: _strings(values) for column, values in self.profile.items()}
        return {"query": self.query_input(), "history": history.reshape(len(self.history), width), **profile}


def _strings(values: list) -> np.ndarray:
    texts = np.array(values, object)
    return np.array([text.encode() for text in texts.flat], object).reshape(texts.shape)
