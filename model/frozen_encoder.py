"""Trained models that embed texts and are trained no further: teachers, in a folder that holds all they need."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from dpsr.config import ModelConfig
from dpsr.data.batches.features import ItemFeatures, QueryFeatures
from dpsr.data.dataset.schema import Schema
from dpsr.data.dataset.tables import Dataset
from dpsr.data.dataset.texts import joined_texts, text_batches
from dpsr.data.prepare.vocabulary import column_ids, token_bags
from dpsr.errors import DpsrError
from dpsr.model.factory import build_model
from dpsr.model.two_tower import TwoTower
from dpsr.model.vector_files import texts_digest
from dpsr.tokenizer_cc import Tokenizer

_DESCRIPTION, _WEIGHTS, _TOKENIZER = "encoder.json", "weights", "tokenizer.model"


class FrozenEncoderError(DpsrError, ValueError):
    """A folder that does not hold a frozen encoder."""


class FrozenEncoder:
    """A trained model, with the tokenizer and the vocabularies that turn a catalogue's columns into its inputs."""

    def __init__(self, model: TwoTower, tokenizer: Path, vocabularies: dict[str, list[str]]) -> None:
        """Takes a model.

        Args:
            model: its variables stay as they are.
            tokenizer: the tokenizer's model file.
            vocabularies: ``items.<column>`` -> values, as ``Dataset.vocabularies``.
        """
        self._model = model
        self._tokenizer_file = tokenizer
        self._tokenizer = Tokenizer.load(tokenizer)
        self._vocabularies = {name: vocabularies[name] for name in (f"items.{c}" for c in model.schema.categorical)}
        self.width: int = model.config.dimension
        """w, of a vector."""
        self.heads: int = model.config.heads
        """Vectors of a query."""
        self.columns = [*model.schema.text, *model.schema.categorical]
        """Columns of a catalogue that are read."""
        self.fingerprint = _fingerprint(model, self._tokenizer)
        """Hex digest of all that decides the vectors, but the texts."""
        self._embed_items = tf.function(lambda items: model.item_vectors(items), autograph=False, reduce_retracing=True)
        self._embed_queries = tf.function(
            lambda queries: model.query_heads(queries)[:, 0], autograph=False, reduce_retracing=True
        )

    @classmethod
    def of_dataset(cls, model: TwoTower, dataset: Dataset) -> FrozenEncoder:
        """A model with the tokenizer and the vocabularies of the dataset that it was trained on."""
        return cls(model, dataset.tokenizer_path, dataset.vocabularies)

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
            return cls(model, folder / _TOKENIZER, tree["vocabularies"])
        except (OSError, tf.errors.OpError, AssertionError, KeyError, TypeError, ValueError) as error:
            raise FrozenEncoderError(
                f"{folder}: the teacher that the run keeps here cannot be read ({error}); put the folder back, or "
                "train anew (--no-resume) with the teacher at its place"
            ) from None

    def save(self, folder: Path, architecture: str) -> None:
        """Writes the encoder to an empty folder, which needs no other file."""
        tree = {
            "architecture": architecture,
            "model": self._model.config.model_dump(mode="json"),
            "schema": self._model.schema.to_json(),
            "vocabularies": self._vocabularies,
        }
        folder.mkdir(parents=True, exist_ok=True)
        tf.train.Checkpoint(model=self._model).write(str(folder / _WEIGHTS))
        shutil.copyfile(self._tokenizer_file, folder / _TOKENIZER)
        (folder / _DESCRIPTION).write_text(json.dumps(tree) + "\n", encoding="utf-8")

    def item_vectors(self, table: pa.Table) -> np.ndarray:
        """Embeds items.

        Args:
            table: n rows with ``columns``.

        Returns:
            float32 [n, w], unit vectors.
        """
        schema = self._model.schema
        tokens = token_bags(self._tokenizer, joined_texts(table, schema.text))
        categorical = {
            column: tf.constant(
                column_ids(
                    table.column(column), self._vocabularies[f"items.{column}"], numeric=column in schema.numeric
                )
            )
            for column in schema.categorical
        }
        bags = tf.RaggedTensor.from_row_splits(tokens.values, tokens.row_splits, validate=False)
        return self._embed_items(ItemFeatures(bags, categorical)).numpy()

    def query_vectors(self, texts: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Embeds queries of users of whom nothing is known, by the first head.

        Args:
            texts: strings [n].

        Returns:
            float32 [n, w], unit vectors.
        """
        tokens = token_bags(self._tokenizer, text_batches(texts))
        bags = tf.RaggedTensor.from_row_splits(tokens.values, tokens.row_splits, validate=False)
        unknown = dict.fromkeys(self._model.schema.profile, tf.zeros([len(texts)], tf.int32))
        no_items = tf.RaggedTensor.from_row_splits(
            tf.zeros([0], tf.int32), tf.zeros([len(texts) + 1], tf.int64), validate=False
        )
        return self._embed_queries(QueryFeatures(bags, unknown, no_items, no_items)).numpy()


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

    def __iter__(self) -> Iterator[FrozenEncoder]:
        """The encoders."""
        return iter(self._encoders)

    @classmethod
    def load(cls, folder: Path, arrays: Path) -> FrozenEncoders:
        """Reads what ``save`` wrote; errors are those of ``FrozenEncoder.load``."""
        folders = sorted((path for path in folder.glob("[0-9]*") if path.is_dir()), key=lambda path: int(path.name))
        return cls([FrozenEncoder.load(path) for path in folders or [folder / "0"]], arrays)

    def save(self, folder: Path, architecture: str) -> None:
        """Writes the encoders to an empty folder."""
        for number, encoder in enumerate(self._encoders):
            encoder.save(folder / str(number), architecture)

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
        columns = dict.fromkeys(column for encoder in self._encoders for column in encoder.columns)
        return self._arrays / f"items-{self.fingerprint}-{texts_digest(table, list(columns))}.npy"

    def queries_file(self, texts: pa.Array | pa.ChunkedArray) -> Path:
        """The file of the vectors of some queries, alike."""
        return self._arrays / f"queries-{self.fingerprint}-{texts_digest(pa.table({'q': texts}), ['q'])}.npy"

    def _joined(self, vectors: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(vectors, axis=1) / np.float32(np.sqrt(len(vectors)))


def _fingerprint(model: TwoTower, tokenizer: Tokenizer) -> str:
    described: list[Any] = [model.config.model_dump(mode="json"), model.schema.to_json(), tokenizer.fingerprint]
    content = hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=16)
    for variable in model.variables:
        content.update(np.ascontiguousarray(variable.numpy()).data)
    return content.hexdigest()
