"""Trained models that embed texts and are trained no further: teachers, in a folder that holds all they need."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from dpsr.config import ModelConfig
from dpsr.data.batches.features import ItemFeatures, QueryFeatures
from dpsr.data.batches.sequences import rows_of_bags, sequences
from dpsr.data.dataset.schema import SUBWORDS_FILE, TOKENIZER_FILE, Schema
from dpsr.data.dataset.tables import Bags, Dataset
from dpsr.data.dataset.texts import field_texts, joined_texts, text_batches
from dpsr.data.prepare.vocabulary import column_ids, token_bags
from dpsr.errors import DpsrError
from dpsr.model.architectures import TWO_TOWER
from dpsr.model.factory import build_model
from dpsr.model.feature_tables import sequence_lengths
from dpsr.model.inference_model import for_inference
from dpsr.model.interface import Model
from dpsr.model.text_encoders.checkpoint_config import self_contained
from dpsr.model.two_tower import TwoTower
from dpsr.model.vector_files import texts_digest
from dpsr.tokenizer_cc import Tokenizer

if TYPE_CHECKING:
    from dpsr.tokenizer_cc.subwords import SubwordTokenizer

_DESCRIPTION, _WEIGHTS = "encoder.json", "weights"
_BAGS_AT_ONCE, _SEQUENCES_AT_ONCE = 4096, 256
"""Texts of a call of the graph."""


class FrozenEncoderError(DpsrError, ValueError):
    """A folder that does not hold a frozen encoder."""


class FrozenEncoder:
    """A trained model, with the tokenizers and the vocabularies that turn a catalogue's columns into its inputs."""

    def __init__(
        self,
        model: TwoTower,
        *,
        tokenizer: Tokenizer | None,
        subwords: SubwordTokenizer | None,
        vocabularies: dict[str, list[str]],
    ) -> None:
        """Takes a model.

        Args:
            model: its variables stay as they are.
            tokenizer: gives words, bigrams and trigrams; None where the model reads none.
            subwords: gives subwords, alike.
            vocabularies: ``items.<column>`` -> values, as ``Dataset.vocabularies``.
        """
        self._model = model
        self._tokenizer = tokenizer
        self._subwords = subwords
        self._lengths = sequence_lengths(model.config)
        self._vocabularies = {name: vocabularies[name] for name in (f"items.{c}" for c in model.schema.categorical)}
        self.width: int = model.config.dimension
        """w, of a vector."""
        self.heads: int = model.config.heads
        """Vectors of a query."""
        self.columns = [*model.schema.text, *model.schema.categorical]
        """Columns of a catalogue that are read."""
        self.fingerprint = self._digest()
        """Hex digest of all that decides the vectors, but the texts."""

    @classmethod
    def of_dataset(cls, model: TwoTower, dataset: Dataset) -> FrozenEncoder:
        """A model with the tokenizers and the vocabularies of the dataset that it was trained on."""
        tokenizer, subwords = _read_tokenizers(dataset.directory, model.config.reads_subwords)
        return cls(model, tokenizer=tokenizer, subwords=subwords, vocabularies=dataset.vocabularies)

    @classmethod
    def load(cls, folder: Path) -> FrozenEncoder:
        """Reads what ``save`` wrote.

        Raises:
            FrozenEncoderError: a file is missing or cannot be read.
        """
        try:
            tree = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
            model = build_model(
                ModelConfig(**tree["model"]), Schema.from_json(tree["schema"]), architecture=tree["architecture"]
            )
            weights = tf.train.Checkpoint(model=model).read(str(folder / _WEIGHTS))
            weights.assert_existing_objects_matched()
            tokenizer, subwords = _read_tokenizers(folder, model.config.reads_subwords)
            return cls(model, tokenizer=tokenizer, subwords=subwords, vocabularies=tree["vocabularies"])
        except (OSError, tf.errors.OpError, AssertionError, KeyError, TypeError, ValueError) as error:
            raise FrozenEncoderError(
                f"{folder}: the teacher that the run keeps here cannot be read ({error}); put the folder back, or "
                "train anew (--no-resume) with the teacher at its place"
            ) from None

    def save(self, folder: Path) -> None:
        """Writes the encoder to a new folder, which needs no other file."""
        folder.mkdir(parents=True)
        tf.train.Checkpoint(model=self._model).write(str(folder / _WEIGHTS))
        if self._tokenizer is not None:
            self._tokenizer.save(folder / TOKENIZER_FILE)
        if self._subwords is not None:
            self._subwords.save(folder / SUBWORDS_FILE)
        (folder / _DESCRIPTION).write_text(json.dumps(self._description()) + "\n", encoding="utf-8")

    def item_vectors(self, table: pa.Table) -> np.ndarray:
        """Embeds items.

        Args:
            table: n rows with ``columns``.

        Returns:
            float32 [n, w], unit vectors.
        """
        found = np.empty((len(table), self.width), np.float32)
        for start in range(0, len(table), self._at_once):
            rows = table.slice(start, self._at_once)
            found[start : start + len(rows)] = self._embed_items(self._item_features(rows))
        return found

    def query_vectors(self, texts: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Embeds queries of users of whom nothing is known, by the first head.

        Args:
            texts: strings [n].

        Returns:
            float32 [n, w], unit vectors.
        """
        found = np.empty((len(texts), self.width), np.float32)
        for start in range(0, len(texts), self._at_once):
            some = texts.slice(start, self._at_once)
            found[start : start + len(some)] = self._embed_queries(self._query_features(some))
        return found

    @cached_property
    def _for_inference(self) -> Model:
        return for_inference(self._model)

    @cached_property
    def _embed_items(self) -> Callable[[ItemFeatures], tf.Tensor]:
        return tf.function(self._for_inference.item_vectors, autograph=False, reduce_retracing=True)

    @cached_property
    def _embed_queries(self) -> Callable[[QueryFeatures], tf.Tensor]:
        model = self._for_inference
        return tf.function(lambda queries: model.query_heads(queries)[:, 0], autograph=False, reduce_retracing=True)

    @property
    def _at_once(self) -> int:
        return _BAGS_AT_ONCE if self._lengths is None else _SEQUENCES_AT_ONCE

    def _item_features(self, rows: pa.Table) -> ItemFeatures:
        schema, subwords = self._model.schema, None
        if self._subwords is not None and self._lengths is not None:
            fields = token_bags(self._subwords, field_texts(rows, schema.text))
            subwords = self._sequences(Bags(fields.values, rows_of_bags(fields, len(schema.text))), self._lengths.item)
        categorical = {
            column: column_ids(
                rows.column(column), self._vocabularies[f"items.{column}"], numeric=column in schema.numeric
            )
            for column in schema.categorical
        }
        return ItemFeatures(
            self._tokens(joined_texts(rows, schema.text), len(rows)),
            {column: tf.constant(ids) for column, ids in categorical.items()},
            subwords,
        )

    def _query_features(self, texts: pa.Array | pa.ChunkedArray) -> QueryFeatures:
        subwords = None
        if self._subwords is not None and self._lengths is not None:
            subwords = self._sequences(token_bags(self._subwords, text_batches(texts)), self._lengths.query)
        nothing = _ragged(Bags(np.zeros(0, np.int32), np.zeros(len(texts) + 1, np.int64)))
        return QueryFeatures(
            tokens=self._tokens(text_batches(texts), len(texts)),
            profile=dict.fromkeys(self._model.schema.profile, tf.zeros([len(texts)], tf.int32)),
            history=nothing,
            history_titles=nothing,
            subwords=subwords,
        )

    def _tokens(self, texts: Iterable[pa.Array], rows: int) -> tf.RaggedTensor:
        if self._tokenizer is None:
            return _ragged(Bags(np.zeros(0, np.int32), np.zeros(rows + 1, np.int64)))
        return _ragged(token_bags(self._tokenizer, texts))

    def _sequences(self, bags: Bags, length: int) -> tf.RaggedTensor:
        assert self._model.schema.subwords is not None
        return sequences(_ragged(bags), self._model.schema.subwords, length)

    def _description(self) -> dict[str, Any]:
        return {
            "architecture": TWO_TOWER,
            "model": self_contained(self._model.config).model_dump(mode="json"),
            "schema": self._model.schema.to_json(),
            "vocabularies": self._vocabularies,
        }

    def _digest(self) -> str:
        tokenizers = [each and each.fingerprint for each in (self._tokenizer, self._subwords)]
        described = json.dumps([self._description(), tokenizers], sort_keys=True)
        content = hashlib.blake2b(described.encode(), digest_size=16)
        for variable in self._model.variables:
            content.update(np.ascontiguousarray(variable.numpy()).data)
        return content.hexdigest()


class FrozenEncoders:
    """One teacher or several as one encoder: the inner product of its vectors is the mean of the teachers' scores."""

    def __init__(self, encoders: Sequence[FrozenEncoder], arrays: Path) -> None:
        """Joins encoders.

        Args:
            encoders: at least one.
            arrays: directory of the files of vectors.
        """
        self._encoders = list(encoders)
        self._arrays = arrays
        self.width = sum(encoder.width for encoder in encoders)
        """Width of the joined vectors."""
        content = "".join(encoder.fingerprint for encoder in encoders)
        self.fingerprint = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    @property
    def columns(self) -> list[str]:
        """Columns of a catalogue that are read, each once."""
        return list(dict.fromkeys(column for encoder in self._encoders for column in encoder.columns))

    def __iter__(self) -> Iterator[FrozenEncoder]:
        """The encoders."""
        return iter(self._encoders)

    @classmethod
    def load(cls, folder: Path, arrays: Path) -> FrozenEncoders:
        """Reads what ``save`` wrote; errors are those of ``FrozenEncoder.load``."""
        folders = sorted((path for path in folder.glob("[0-9]*") if path.is_dir()), key=lambda path: int(path.name))
        return cls([FrozenEncoder.load(path) for path in folders or [folder / "0"]], arrays)

    def save(self, folder: Path) -> None:
        """Writes the encoders to an empty folder."""
        for number, encoder in enumerate(self._encoders):
            encoder.save(folder / str(number))

    def item_vectors(self, table: pa.Table) -> np.ndarray:
        """Embeds items, float32 [n, w], unit vectors; as ``FrozenEncoder.item_vectors``."""
        return self._joined([encoder.item_vectors(table) for encoder in self._encoders])

    def query_vectors(self, texts: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Embeds queries, float32 [n, w], unit vectors; as ``FrozenEncoder.query_vectors``."""
        return self._joined([encoder.query_vectors(texts) for encoder in self._encoders])

    def reader(self, table: pa.Table) -> Callable[[int, int], np.ndarray]:
        """What gives the vectors of rows first to end - 1 of a catalogue: from their file, or else computed then."""
        file = self.items_file(table)
        if not file.exists():
            return lambda first, end: self.item_vectors(table.slice(first, end - first))
        vectors = np.load(file, mmap_mode="r")
        return lambda first, end: vectors[first:end]

    def items_file(self, table: pa.Table) -> Path:
        """The file of the vectors of a catalogue, named by a digest of encoders and texts."""
        return self._arrays / f"items-{self.fingerprint}-{texts_digest(table, self.columns)}.npy"

    def queries_file(self, texts: pa.Array | pa.ChunkedArray) -> Path:
        """The file of the vectors of some queries, alike."""
        return self._arrays / f"queries-{self.fingerprint}-{texts_digest(pa.table({'q': texts}), ['q'])}.npy"

    def _joined(self, vectors: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(vectors, axis=1) / np.float32(np.sqrt(len(vectors)))


def _read_tokenizers(folder: Path, reads_subwords: bool) -> tuple[Tokenizer | None, SubwordTokenizer | None]:
    """The tokenizer that a model reads, of a dataset or of a frozen encoder."""
    if not reads_subwords:
        return Tokenizer.load(folder / TOKENIZER_FILE), None
    from dpsr.tokenizer_cc.subwords import SubwordTokenizer

    return None, SubwordTokenizer.load(folder / SUBWORDS_FILE)


def _ragged(bags: Bags) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_row_splits(bags.values, bags.row_splits, validate=False)
