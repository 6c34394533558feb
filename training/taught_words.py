"""The first word table of a transformer that has a teacher."""

from __future__ import annotations

from typing import Any

import numpy as np

from dpsr.data.batches.sequences import rows_of_bags
from dpsr.data.dataset.tables import Bags, Dataset
from dpsr.model.encoded_items import mean_item_vectors, principal_axes
from dpsr.model.text_encoders.transformer import TransformerEncoder
from dpsr.model.tower_inputs import encoders_of
from dpsr.model.two_tower import TwoTower
from dpsr.training.teachers import Teachers

_SCALE = 0.1
"""Root mean square of the rows: well above that of freshly drawn positions, which would hide a word."""


def start_words(model: TwoTower, dataset: Dataset, teachers: Teachers) -> None:
    """Sets the word tables of a model's transformers to the mean teacher's vector of the items that have a subword.

    So an untrained student already finds items near those that have the words of a query. Rows of subwords that no item
    has, as those of the special tokens, stay as they were drawn, and so do tables of a published checkpoint.

    Args:
        model: the student, freshly drawn.
        dataset: its items.
        teachers: of the run; their item vectors are read where the model has a transformer to start.
    """
    encoders = encoders_of(model.query_inputs, model.item_inputs).values()
    drawn = [each for each in encoders if isinstance(each, TransformerEncoder) and each.config.initial is None]
    if not drawn:
        return
    vectors, fields = teachers.item_vectors, dataset.item_subwords
    subwords = Bags(fields.values, rows_of_bags(fields, len(dataset.schema.text)))
    found = mean_item_vectors(subwords, vectors, dataset.subwords_schema.num_ids)
    for encoder in drawn:
        rows = found @ principal_axes(vectors, encoder.config.width)
        of_items = rows.any(axis=1)
        if not of_items.any():
            continue
        rows *= np.float32(_SCALE / np.sqrt(np.mean(np.square(rows[of_items]))))
        weights: Any = model.text_weights[encoder.name]
        words = weights.encoder.words
        words.assign(np.where(of_items[:, np.newaxis], rows, words.numpy()))
