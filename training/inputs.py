"""What a training reads: the batches of a run, as its configuration asks for them."""

from __future__ import annotations

import tensorflow as tf

from dpsr.config import Config
from dpsr.data.batches.augmentation import ItemTexts, QueryTexts
from dpsr.data.batches.features import FeatureTables, ToTensor
from dpsr.data.batches.pipeline import BatchMaker
from dpsr.data.dataset.tables import Dataset
from dpsr.training.negatives import count_random_negatives


def batch_maker(config: Config, dataset: Dataset, *, tensor: ToTensor = tf.constant) -> BatchMaker:
    """Makes ready what the batches of a run are made of.

    Args:
        config: the run.
        dataset: what it learns from.
        tensor: how the dataset's arrays get into the graph.
    """
    model, pretraining, typo_share = config.model, config.pretraining, config.training.typo_share
    query_texts = item_texts = None
    if typo_share and config.training.epochs:
        query_texts = QueryTexts(dataset, typo_share, tensor=tensor)
    if pretraining.epochs or config.mixed_rows:
        item_texts = ItemTexts(
            dataset, columns=pretraining.text, words=pretraining.words, typo_share=typo_share, tensor=tensor
        )
    return BatchMaker(
        FeatureTables(dataset, model.history_length, model.history_titles, tensor=tensor),
        batch_size=config.training.batch_size,
        random_negatives=count_random_negatives(config.loss.mixing_ratio, config.loss.group_size),
        num_items=dataset.schema.num_items,
        query_texts=query_texts,
        item_texts=item_texts,
        mixed_rows=config.mixed_rows,
    )
