"""Hard negatives that the model itself finds: the best-scored items of a query that it did not lead to."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from dpsr.config import Config
from dpsr.data.batches.blocks import FIELDS
from dpsr.data.dataset.pairs import clicked_items
from dpsr.data.dataset.tables import Bags, Dataset
from dpsr.model.run_files import CheckpointError
from dpsr.training import checkpoints
from dpsr.training.catalogue_scores import CatalogueScores
from dpsr.training.stages import EpochStart

_NONE = -1


class MinedNegatives(tf.Module):
    """The best-scored items of every query that has a click in the training log, without those it led to.

    Mined before the first step of an epoch, by the model as it is then (Xiong et al., ANCE, ICLR 2021), and kept in a
    file until the next epoch, so that an interrupted epoch goes on with the same ones.
    """

    def __init__(self, clicked: Bags, wanted: np.ndarray, most: int, scores: CatalogueScores, directory: Path) -> None:
        """Starts without negatives.

        Args:
            clicked: items that every query led to, [queries] bags.
            wanted: int64 [w, 2] further pairs of a query and an item that is right for it.
            most: negatives of a query.
            scores: of the model.
            directory: of the checkpoints.
        """
        super().__init__()
        self._clicked = clicked
        self._wanted = wanted[np.argsort(wanted[:, 0], kind="stable")]
        self._most = most
        self._scores = scores
        self._directory = directory
        # The row after those of the queries is empty and stands for synthetic queries.
        shape = [len(clicked) + 1, most]
        self._items = tf.Variable(tf.fill(shape, _NONE), trainable=False, name="mined_negatives")

    @classmethod
    def of_run(cls, config: Config, dataset: Dataset, scores: CatalogueScores) -> MinedNegatives:
        """Takes the clicks of the train split and the labels above 0."""
        labels = dataset.labels()
        right = labels[labels["label"] > 0]
        wanted = np.stack([right["query"], right["item"]], axis=1).astype(np.int64)
        clicked = clicked_items(dataset, config.arrays_dir)
        return cls(clicked, wanted, config.loss.mined_negatives, scores, config.checkpoint_dir)

    def begin_epoch(self, start: EpochStart) -> None:
        """Mines for an epoch, or reads what was mined where the epoch is entered again.

        Raises:
            CheckpointError: the file of an interrupted epoch is missing.
        """
        path = self._directory / f"{checkpoints.MINED_PREFIX}-{start.epoch}.npy"
        if start.step:
            try:
                self._items.assign(np.load(path))
            except (OSError, ValueError) as error:
                raise CheckpointError(
                    f"{path}: the hard negatives that the interrupted epoch began with cannot be read ({error}); start "
                    "anew with --no-resume"
                ) from None
            return
        mined = self._mine()
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        with checkpoints.writing(self._directory), open(beside, "wb") as file:
            np.save(file, mined)
        beside.replace(path)
        for other in self._directory.glob(f"{checkpoints.MINED_PREFIX}-*.npy"):
            if other != path:
                other.unlink()
        self._items.assign(mined)

    def rows(self, query_rows: tf.Tensor) -> tf.RaggedTensor:
        """The mined items of some queries, int32 [B, None]; queries int32 [B], the number of all for none."""
        with tf.device(self._items.device):
            found = tf.gather(self._items, query_rows)
        return tf.RaggedTensor.from_tensor(found, padding=_NONE)

    def _mine(self) -> np.ndarray:
        """The negatives of every query, int32 [queries + 1, most], the best-scored first; -1 where there are fewer."""
        queries = np.flatnonzero(np.diff(self._clicked.row_splits))
        mined = np.full(self._items.shape, _NONE, np.int32)
        records = np.zeros((len(queries), FIELDS), np.int32)
        records[:, 0], records[:, 1] = queries, -1  # without a user
        for block, scores in self._scores.of_records(records):
            right = self._right_items(block[:, 0])
            lowest = tf.fill([len(right)], scores.dtype.min)
            scores = tf.tensor_scatter_nd_update(scores, right, lowest)
            values, items = tf.math.top_k(scores, min(self._most, scores.shape[1]))
            chosen = np.where(values.numpy() > scores.dtype.min, items.numpy(), _NONE)
            mined[block[:, 0], : chosen.shape[1]] = chosen
        return mined

    def _right_items(self, queries: np.ndarray) -> np.ndarray:
        """Places in a block and items that are right for its queries, int64 [n, 2]; queries ascend."""
        clicked = self._clicked.take(queries)
        places = np.repeat(np.arange(len(queries)), np.diff(clicked.row_splits))
        pairs = np.stack([places, clicked.values], axis=1).astype(np.int64)
        place = np.searchsorted(queries, self._wanted[:, 0])
        here = (place < len(queries)) & (queries[np.minimum(place, len(queries) - 1)] == self._wanted[:, 0])
        return np.concatenate([pairs, np.stack([place[here], self._wanted[here, 1]], axis=1)])
