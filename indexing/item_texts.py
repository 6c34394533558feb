"""The texts of items as item towers read them: encoded before, or encoded when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa

from dpsr.data.batches.sequences import rows_of_bags
from dpsr.data.dataset.tables import Bags
from dpsr.data.dataset.texts import field_texts, joined_texts, take_rows
from dpsr.data.prepare.vocabulary import token_bags
from dpsr.tokenizer_cc import Tokenizer
from dpsr.tokenizer_cc.subwords import SubwordTokenizer


class ItemTexts(Protocol):
    """The ids of the texts of items, a bag for each item."""

    @property
    def tokens(self) -> Bags:
        """Those of words, of bigrams and of trigrams."""

    @property
    def subwords(self) -> Bags | None:
        """Those of all text columns, without special tokens; None where the dataset has none."""

    def take(self, rows: np.ndarray) -> ItemTexts:
        """Some items (integers [n]), in the given order."""


@dataclass(frozen=True)
class EncodedTexts:
    """Texts that the dataset has encoded."""

    tokens: Bags
    subwords: Bags | None = None

    def take(self, rows: np.ndarray) -> EncodedTexts:
        """See ``ItemTexts``."""
        return EncodedTexts(self.tokens.take(rows), None if self.subwords is None else self.subwords.take(rows))


@dataclass(frozen=True)
class GivenTexts:
    """Texts of a file, which most exports since a version read few of."""

    table: pa.Table
    columns: Sequence[str]
    """Those with texts."""
    tokenizer: Tokenizer
    subword_tokenizer: SubwordTokenizer | None

    @cached_property
    def tokens(self) -> Bags:
        """See ``ItemTexts``."""
        return token_bags(self.tokenizer, joined_texts(self.table, self.columns))

    @cached_property
    def subwords(self) -> Bags | None:
        """See ``ItemTexts``."""
        if self.subword_tokenizer is None:
            return None
        fields = token_bags(self.subword_tokenizer, field_texts(self.table, self.columns))
        return of_items(fields, len(self.columns))

    def take(self, rows: np.ndarray) -> GivenTexts:
        """See ``ItemTexts``."""
        table = take_rows(self.table.select(list(self.columns)), rows)
        return GivenTexts(table, self.columns, self.tokenizer, self.subword_tokenizer)


def of_items(fields: Bags, columns: int) -> Bags:
    """A bag of every item from those of its text columns."""
    return Bags(fields.values, rows_of_bags(fields, columns))
