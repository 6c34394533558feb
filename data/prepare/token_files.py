"""The tokenizers of a dataset and what they make of its texts: token bags, and subwords where a model reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pyarrow as pa

from dpsr.config import Config, SubwordsConfig
from dpsr.data.dataset.bag_files import write_bags
from dpsr.data.dataset.schema import SUBWORDS_FILE, TOKENIZER_FILE, DatasetError, SubwordsSchema
from dpsr.data.dataset.tables import Dataset
from dpsr.data.dataset.texts import field_texts, joined_texts, text_batches
from dpsr.data.prepare.vocabulary import build_tokenizer, encoded
from dpsr.tokenizer_cc import Tokenizer
from dpsr.tokenizer_cc.subwords import SubwordTokenizer, train_subwords

Subwords = SubwordTokenizer | SubwordsConfig | None
"""A tokenizer of subwords, how one is to be trained, or none."""


def subwords_of_run(config: Config, before: Dataset | None, *, grow: bool) -> Subwords:
    """The subwords that a dataset gets: those of the dataset that is appended to, of a file, or trained ones.

    Args:
        config: asks for subwords, or does not.
        before: dataset that is appended to.
        grow: makes the vocabularies anew.

    Raises:
        DatasetError: the file is missing; an increment asks for another vocabulary than that of the dataset.
        SubwordError: the file cannot be used; the message says why.
    """
    wanted, given = config.subwords, None
    file = wanted.file if wanted else None
    if file is not None:
        try:
            given = SubwordTokenizer.from_tokenizer_json(file)
        except FileNotFoundError as error:
            raise DatasetError(str(error)) from None
    if before is None or before.schema.subwords is None or grow:
        return given or wanted
    if given and given.fingerprint != before.schema.subwords.fingerprint:
        raise DatasetError(
            f"{before.directory}: was prepared with other subwords than those of {file}; an increment needs the same: "
            "run `dpsr prepare` without --append, or with --grow-vocabulary"
        )
    return SubwordTokenizer.load(before.subwords_path)


class TokenFiles:
    """Writes the tokenizers and the ids of all texts of one dataset directory, a batch of texts at a time."""

    def __init__(
        self,
        config: Config,
        directory: Path,
        items: pa.Table,
        queries: pa.Array,
        counted: pa.Array,
        *,
        before: Dataset | None = None,
        grow: bool = False,
        subwords: Subwords = None,
    ) -> None:
        """Takes the texts.

        Args:
            config: says what tokenizers there are, and which columns of the items are text.
            directory: of the dataset; has the folders ``items`` and ``queries``.
            items: the catalogue.
            queries: string [queries].
            counted: the queries that a vocabulary may learn from, string [n].
            before: dataset that is appended to; keeps its tokenizers unless ``grow``.
            grow: makes the vocabularies anew.
            subwords: of ``subwords_of_run``.
        """
        self._config = config
        self._directory = directory
        self._items = items
        self._queries = queries
        self._counted = counted
        self._before = before
        self._grow = grow
        self._subwords = subwords

    def write_tokens(self, advance: Callable[[int], object]) -> Tokenizer:
        """Writes ``tokenizer.model`` and the token bags: one bag for all text columns of an item."""
        columns = self._config.data.items.text
        if self._before and not self._grow:
            tokenizer = Tokenizer.load(self._before.tokenizer_path)
        else:
            counted = chain(joined_texts(self._items, columns), text_batches(self._counted))
            tokenizer = build_tokenizer(self._config.tokenizer, counted)
        tokenizer.save(self._directory / TOKENIZER_FILE)
        for folder, texts in (("items", joined_texts(self._items, columns)), ("queries", text_batches(self._queries))):
            advance(write_bags(self._directory / folder, "tokens", encoded(tokenizer, texts)))
        return tokenizer

    def write_subwords(self, advance: Callable[[int], object]) -> SubwordsSchema | None:
        """Writes ``subwords.model`` and the subwords of every text column of an item and of every query.

        Returns:
            What they are; None, and nothing is written, where there are none.

        Raises:
            SubwordError: no vocabulary can be trained on the texts.
        """
        tokenizer = self._subwords
        if tokenizer is None:
            return None
        if isinstance(tokenizer, SubwordsConfig):
            wanted = tokenizer
            tokenizer = train_subwords(
                self._texts(), kind=wanted.kind, vocabulary=wanted.vocabulary, lowercase=wanted.lowercase
            )
        tokenizer.save(self._directory / SUBWORDS_FILE)
        columns = self._config.data.items.text
        fields = encoded(tokenizer, field_texts(self._items, columns))
        advance(write_bags(self._directory / "items", "subwords", fields) // len(columns))
        advance(write_bags(self._directory / "queries", "subwords", encoded(tokenizer, text_batches(self._queries))))
        return SubwordsSchema.of(tokenizer)

    def _texts(self) -> Iterator[str]:
        """What a subword vocabulary learns from: names and texts of the columns, and the counted queries."""
        columns = self._config.data.items.text
        yield from columns
        for batch in chain(field_texts(self._items, columns), text_batches(self._counted)):
            yield from batch.to_pylist()
