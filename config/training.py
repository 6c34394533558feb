"""Sections ``loss``, ``pretraining`` and ``training``."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from dpsr.config.section import Section, Share


class LossConfig(Section):
    """The loss of a training step and its negatives (paper, sections 4.3 and 4.4)."""

    kind: Literal["hinge", "softmax", "three_part"] = "hinge"
    margin: Annotated[float, Field(gt=0.0, le=2.0)] = 0.1
    """delta of the hinge loss, in cosine."""
    temperature: Annotated[float, Field(gt=0.0)] = 0.07
    """Temperature of the sampled softmax."""
    thresholds: tuple[float, float, float] = (0.9, 0.55, 0.2)
    """Of ``three_part``: smallest score of a positive, largest of a hard negative, largest of any other item."""
    mixing_ratio: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """alpha: the share of random negatives in a query's negative set."""
    group_size: Annotated[int, Field(ge=2)] = 64
    """b: rows whose positives are each other's batch negatives; the batch size is a multiple of it."""
    popularity_correction: bool = False
    """Softmax only: corrects the logits for batch negatives being drawn by popularity."""
    mask_clicked: bool = False
    """Items clicked for a query anywhere in the training log are not among its negatives."""
    head_column: str | None = None
    """Item column that distinguishes the meanings of a query, in place of the soft dot product: head i learns from the
    clicks on the query's i-th commonest value, the last head from those on all further ones."""
    head_clusters: Annotated[int, Field(ge=0, le=1000)] = 0
    """Clusters of the items by words and clicks, in place of ``head_column`` where no column distinguishes meanings:
    near ones count as one meaning. 200 suit a shop of ten departments; 0 makes none."""
    hard_negatives: Annotated[int, Field(ge=0, le=100)] = 0
    """Items labelled as wrong for a query, or else skipped most often there, as negatives of that query alone."""

    @pydantic.model_validator(mode="after")
    def _correction_needs_softmax(self) -> LossConfig:
        if self.popularity_correction and self.kind != "softmax":
            raise ValueError(f"popularity_correction is for kind = 'softmax', not for kind = {self.kind!r}")
        if not self.thresholds[0] >= self.thresholds[1] >= self.thresholds[2]:
            raise ValueError(f"thresholds = {self.thresholds} have to fall: positive, hard negative, any other")
        if self.head_column is not None and self.head_clusters:
            raise ValueError("head_column and head_clusters both distinguish the meanings of a query; set one of them")
        if self.head_clusters == 1:
            raise ValueError("head_clusters = 1 leaves a single meaning; set 2 or more, or 0 for none")
        return self


class PretrainingConfig(Section):
    """Learning from the catalogue, before and beside the log, by synthetic queries sampled from the items' texts.

    After Van Gysel et al., Learning Latent Vector Spaces for Product Search (CIKM 2016).
    """

    epochs: Annotated[int, Field(ge=0)] = 0
    """Passes over the catalogue before the first over the log, with other words in each."""
    words: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 5)
    """The fewest and the most words of such a query."""
    text: Annotated[list[str], Field(min_length=1)] | None = None
    """Text columns that the words come from; all of ``data.items.text`` without it."""
    mixed_share: Share = 0.0
    """Share of the examples of every later step that are items with words of their own, so that these stay known."""

    @pydantic.model_validator(mode="after")
    def _words_rise(self) -> PretrainingConfig:
        if self.words[0] > self.words[1]:
            raise ValueError(f"words = {list(self.words)}: the fewest words come first")
        return self


class TrainingConfig(Section):
    """The optimiser and the schedule."""

    epochs: Annotated[int, Field(ge=0)] = 5
    """Passes over the log; 0 leaves it at the pre-training."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: Annotated[float, Field(gt=0.0)] = 0.01
    """AdaGrad on the dense layers."""
    table_learning_rate: Annotated[float, Field(gt=0.0)] = 0.01
    """Sparse AdaGrad on the embedding tables."""
    initial_accumulator: Annotated[float, Field(gt=0.0)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without a better ``valid_top1`` after which training stops; 0 never stops early."""
    token_dropout: Share = 0.0
    """Share of the query tokens that a step leaves out at random: answers to misspelt queries get better."""
    typo_share: Share = 0.0
    """Share of the queries that a step reads with one random letter left out, put in, replaced or swapped."""
    seed: int = 1
    checkpoint_every: Annotated[int, Field(ge=1)] = 1000
    """Steps between checkpoints."""
    keep_checkpoints: Annotated[int, Field(ge=1)] = 3
