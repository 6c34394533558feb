"""Labelled pairs of people among the examples of a step (paper, section 4.5: human labels and bad case reports).

A pair that is right is a positive as a click is, weighted by its label. A pair that is wrong is no example of the loss:
it is a negative of its own query, and a click on it does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from dpsr.data.batches.arrays import graph_array
from dpsr.data.dataset.pairs import pair_keys
from dpsr.data.dataset.schema import INTERACTION

_FIELDS = INTERACTION.itemsize // 4


@dataclass(frozen=True, eq=False)
class JudgedExamples:
    """The labelled pairs of a dataset, and how many of them a step draws."""

    right: Any
    """int32 [n, 5], records of an unknown user."""
    weights: Any
    """float32 [n], label by the highest label."""
    wrong: Any
    """int32 [m, 5]; of these three arrays those without a pair are never read."""
    wrong_keys: Any
    """int64 [m], ``pairs.pair_keys``, ascending."""
    right_items: np.ndarray
    """int32 [n]."""
    num_wrong: int
    """m."""
    right_rows: int
    """Right pairs of a step."""
    wrong_rows: int
    """Wrong pairs of a step."""
    num_items: int
    """Size of the catalogue."""

    @classmethod
    def of_labels(cls, labels: np.ndarray, *, share: float, batch_size: int, num_items: int) -> JudgedExamples | None:
        """Shares the judged examples of a step between right and wrong pairs by their numbers.

        Args:
            labels: LABEL [l], 0 or less is wrong; of several labels of a pair the last one counts.
            share: of the examples of a step that are judged pairs, where there are as many; each kind has one at least.
            batch_size: examples of a step.
            num_items: size of the catalogue.

        Returns:
            The pairs; None where there is none, or no share for them.
        """
        _, last = np.unique(pair_keys(labels, num_items)[::-1], return_index=True)
        labels = labels[::-1][last]
        if not share or not len(labels):
            return None
        right, wrong = (labels[chosen] for chosen in (labels["label"] > 0, labels["label"] <= 0))
        least = bool(len(right)) + bool(len(wrong))  # neither kind is left out
        count = min(max(least, round(share * batch_size)), len(labels))
        right_rows = round(count * len(right) / len(labels))
        if least == 2:
            right_rows = min(max(right_rows, 1), count - 1)
        return cls(
            right=graph_array(_records(right)),
            weights=graph_array((right["label"] / max(right["label"], default=1.0)).astype(np.float32)),
            wrong=graph_array(_records(wrong)),
            wrong_keys=graph_array(pair_keys(wrong, num_items)),
            right_items=right["item"],
            num_wrong=len(wrong),
            right_rows=right_rows,
            wrong_rows=count - right_rows,
            num_items=num_items,
        )

    def expected_positives(self, steps: int) -> np.ndarray:
        """How often each item is a judged positive in a number of steps, float64 [items]."""
        per_pair = steps * self.right_rows / max(len(self.right_items), 1)
        return per_pair * np.bincount(self.right_items, minlength=self.num_items)

    def draw_right(self, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Right pairs of a step, int32 [right_rows, 5], with their weights; the same for the same seed, int64 [2]."""
        places = _drawn(self.right_rows, len(self.right_items), _fold(seed, 2))
        return tf.gather(tf.convert_to_tensor(self.right), places), tf.gather(
            tf.convert_to_tensor(self.weights), places
        )

    def draw_wrong(self, seed: tf.Tensor) -> tf.Tensor:
        """Wrong pairs of a step, int32 [wrong_rows, 5]; the same for the same seed, int64 [2]."""
        return tf.gather(tf.convert_to_tensor(self.wrong), _drawn(self.wrong_rows, self.num_wrong, _fold(seed, 3)))

    def are_wrong(self, query_rows: tf.Tensor, item_rows: tf.Tensor) -> tf.Tensor:
        """Whether pairs, int32 of shapes that broadcast, are among the wrong ones; bool."""
        keys = tf.cast(query_rows, tf.int64) * self.num_items + tf.cast(item_rows, tf.int64)
        if not self.num_wrong:
            return tf.zeros_like(keys, tf.bool)
        wrong = tf.convert_to_tensor(self.wrong_keys)
        place = tf.reshape(tf.searchsorted(wrong, tf.reshape(keys, [-1])), tf.shape(keys))
        return tf.gather(wrong, tf.minimum(place, self.num_wrong - 1)) == keys


def _records(labels: np.ndarray) -> np.ndarray:
    """Labelled pairs as interactions of an unknown user, int32 [n, 5]."""
    records = np.zeros(len(labels), INTERACTION)
    records["query"], records["item"], records["user"] = labels["query"], labels["item"], -1
    return records.view(np.int32).reshape(len(labels), _FIELDS)


def _drawn(count: int, size: int, seed: tf.Tensor) -> tf.Tensor:
    """Different places below ``size``, int32 [count], evenly spaced from a random start: each is as likely."""
    start = tf.random.stateless_uniform([], seed, dtype=tf.float64)
    places = (tf.range(count, dtype=tf.float64) + start) * (size / max(count, 1))
    return tf.minimum(tf.cast(places, tf.int32), size - 1)


def _fold(seed: tf.Tensor, stream: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(seed, stream)
