"""Pre-trained word vectors in the text formats of GloVe and word2vec."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dpsr.baselines.word_lookup import WordLookup, table_lookup
from dpsr.data.dataset.schema import DatasetError


def read_word_vectors(path: Path) -> WordLookup:
    """Reads ``word number ... number`` lines, gzipped where the name ends in ``.gz``; O(file) memory.

    A first line of two integers is word2vec's header. Of two lines of one word the first counts.

    Raises:
        DatasetError: the file cannot be read or has no vector; a line has no word, another number of numbers than
            the first one, or something else in their place.
    """
    try:
        ids, vectors = _read(path)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: word vectors cannot be read: {error}; see evaluation.word_vectors") from None
    if not ids:
        raise DatasetError(f"{path}: has no word vector; evaluation.word_vectors is a text of `word number ...` lines")
    return table_lookup(ids, vectors)


def _read(path: Path) -> tuple[dict[str, int], np.ndarray]:
    ids: dict[str, int] = {}
    rows: list[np.ndarray] = []
    dimension = 0
    for number, line in _lines(path):
        dimension = dimension or line.count(" ")
        # From the right: a word of GloVe's files may hold spaces.
        word, *numbers = line.rsplit(" ", dimension)
        vector = _numbers(numbers)
        if not word or len(numbers) != dimension or vector is None:
            raise DatasetError(
                f"{path}, line {number}: found {_shortened(line)!r}, expected a word and {dimension or 'its'} numbers "
                "with single spaces between them, as the first line has"
            )
        if word not in ids:
            ids[word] = len(ids)
            rows.append(vector)
    return ids, np.stack(rows) if rows else np.zeros((0, 0), np.float32)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers, without word2vec's header."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip(" \r\n")
            header = line.split(" ")
            if number == 1 and len(header) == 2 and all(map(str.isdecimal, header)):
                continue
            yield number, line


def _numbers(texts: Sequence[str]) -> np.ndarray | None:
    """Float32 [d]; None where a text is no finite number, or there is none."""
    try:
        vector = np.array(texts, np.float32)
    except ValueError:
        return None
    return vector if len(vector) and np.isfinite(vector).all() else None


def _shortened(line: str) -> str:
    return line if len(line) <= 60 else f"{line[:60]}..."
