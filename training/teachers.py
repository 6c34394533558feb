"""The teachers of a run: read once, kept in its checkpoint directory, their vectors in files of its work directory."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from dpsr.config import Config
from dpsr.data.batches.sequences import SequenceLengths
from dpsr.data.dataset.directory import atomic_directory
from dpsr.data.dataset.tables import Dataset
from dpsr.errors import DpsrError
from dpsr.model import run_files
from dpsr.model.encoded_items import EncodedItems, mean_item_vectors, principal_axes
from dpsr.model.frozen_encoder import FrozenEncoder, FrozenEncoders
from dpsr.model.text_encoders.checkpoint_config import CONFIG_FILE, read_published
from dpsr.model.token_statistics import relative_idf
from dpsr.model.trained import load_teachers, load_trained, teacher_arrays
from dpsr.model.two_tower import TwoTower
from dpsr.model.vector_files import vectors_in_file
from dpsr.tokenizer_cc import Tokenizer
from dpsr.training.catalogues import catalogue_difference


class TeacherError(DpsrError, ValueError):
    """A teacher that is missing, or cannot teach this run."""


class Teachers:
    """The teachers of a run, and what they know of its dataset."""

    def __init__(self, encoders: FrozenEncoders, paths: list[str], dataset: Dataset, *, progress: bool) -> None:
        """Takes the encoders, and the paths that they were read from; vectors are computed when they are asked for."""
        self.encoders = encoders
        self._paths = paths
        self._dataset = dataset
        self._progress = progress

    @classmethod
    def of_run(cls, config: Config, dataset: Dataset, *, progress: bool) -> Teachers | None:
        """The teachers that the configuration names, or the run's copy of them; None where it names none.

        The copy is made before the first step, so that a teacher may be trained further or removed meanwhile.

        Raises:
            TeacherError: a teacher is missing, was trained on another catalogue, or its width does not fit.
        """
        if not config.distillation.teachers:
            return None
        kept = config.checkpoint_dir / run_files.TEACHERS_FOLDER
        if kept.is_dir():
            encoders = load_teachers(config.checkpoint_dir)
        else:
            opened = [_opened(Path(path), config, dataset) for path in config.distillation.teachers]
            encoders = FrozenEncoders(opened, teacher_arrays(config.checkpoint_dir))
        if config.distillation.items == "teacher" and encoders.width != config.model.dimension:
            raise TeacherError(
                f"distillation.items = 'teacher': the vectors of {', '.join(config.distillation.teachers)} have width "
                f"{encoders.width}, and model.dimension = {config.model.dimension}; set model.dimension = "
                f"{encoders.width}, or distillation.items = 'both', whose item tower maps them to any width"
            )
        if not kept.is_dir():
            with atomic_directory(kept) as folder:
                encoders.save(folder)
        return cls(encoders, config.distillation.teachers, dataset, progress=progress)

    def query_vectors(self, texts: pa.Array) -> np.ndarray:
        """The vectors of queries, float32 [n, w], mapped from their file.

        Raises:
            TeacherError: a teacher has more vectors than one of a query.
        """
        encoders = self.encoders
        for encoder, path in zip(encoders, self._paths, strict=True):
            if encoder.heads > 1:
                raise TeacherError(
                    f"{path}: distillation learns the scores of one vector a query, and this teacher has "
                    f"{encoder.heads} heads; train it with model.heads = 1"
                )
        return vectors_in_file(
            encoders.queries_file(texts),
            len(texts),
            encoders.width,
            lambda first, end: encoders.query_vectors(texts.slice(first, end - first)),
            name="queries by the teacher",
            progress=self._progress,
        )

    @cached_property
    def item_vectors(self) -> np.ndarray:
        """The vectors of the dataset's items, float32 [items, w], mapped from their file."""
        table, encoders = self._dataset.item_table(), self.encoders
        return vectors_in_file(
            encoders.items_file(table),
            len(table),
            encoders.width,
            lambda first, end: encoders.item_vectors(table.slice(first, end - first)),
            name="items by the teacher",
            progress=self._progress,
        )


def encoded_items(config: Config) -> EncodedItems | None:
    """How the item side of a run reads its teachers' vectors, whose files may be missing; None where it does not.

    Raises:
        CheckpointError: a teacher is missing.
    """
    items = config.distillation.items
    if items == "own":
        return None
    if items == "teacher":
        return EncodedItems(config.model.dimension, alone=True)
    return EncodedItems(sum(_width(Path(path)) for path in config.distillation.teachers), alone=False)


def first_encoded_items(config: Config, dataset: Dataset, vectors: np.ndarray) -> EncodedItems:
    """As ``encoded_items``, with what a new model starts from.

    Frozen vectors become inputs of the item tower by their principal axes. A token of a query starts as the mean of the
    items that have it, rare ones longer. Both are as long as a freshly drawn text, which the learning rates suit.

    Args:
        config: the run.
        dataset: its items.
        vectors: float32 [items, w], of the items.
    """
    model, alone = config.model, config.distillation.items == "teacher"
    length = np.float32(model.initial_scale * model.dimension**0.5)
    projection = None if alone else length * principal_axes(vectors, model.dimension)
    token_vectors = None
    if model.text_encoder == "bag":
        token_vectors = mean_item_vectors(dataset.item_tokens, vectors, dataset.schema.token_rows)
        token_vectors *= relative_idf(Tokenizer.load(dataset.tokenizer_path))[:, np.newaxis]
        token_vectors = length * token_vectors if projection is None else token_vectors @ projection
    return EncodedItems(vectors.shape[1], alone, projection, token_vectors)


def _width(path: Path) -> int:
    """The width of a teacher's vectors, of which no weight is read."""
    if (path / CONFIG_FILE).is_file():
        width: int = read_published(path).sizes["width"]
        return width
    return run_files.read_description(path / "checkpoints").model.dimension


def _opened(path: Path, config: Config, dataset: Dataset) -> FrozenEncoder:
    """Opens a teacher: the ``work_dir`` of a run, or a folder in Hugging Face's format."""
    directory = path / "checkpoints"
    if not path.is_dir():
        raise TeacherError(
            f"{path}: no such teacher; distillation.teacher is the work_dir of a trained run, or a folder in Hugging "
            "Face's format"
        )
    if (path / CONFIG_FILE).is_file():
        from dpsr.model.published_encoder import published_encoder

        sizes = config.model.transformer
        lengths = SequenceLengths(sizes.max_query_length, sizes.max_item_length)
        return published_encoder(path, config.distillation.text or dataset.schema.text, lengths)
    if not (directory / run_files.MODEL_FILE).is_file():
        raise TeacherError(
            f"{path}: holds no trained run (no checkpoints/{run_files.MODEL_FILE}), and no model in Hugging Face's "
            "format (no config.json); train the teacher first"
        )
    of_teacher = Dataset.load(path / "dataset")
    model = load_trained(directory, of_teacher)
    if not isinstance(model, TwoTower) or model.item_encoders is not None:
        raise TeacherError(f"{path}: its items are read from a teacher of its own; name that one")
    encoder = FrozenEncoder.of_dataset(model, of_teacher)
    difference = catalogue_difference(of_teacher.item_table(), dataset.item_table(), encoder.columns)
    if difference is not None:
        raise TeacherError(
            f"{path}: the teacher was trained on another catalogue than {dataset.directory}: {difference}; train it on "
            "this one, with the same data.items"
        )
    return encoder
