"""Sections ``loss``, ``mlm``, ``interaction``, ``pretraining`` and ``training``."""

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
    mined_negatives: Annotated[int, Field(ge=0, le=100)] = 0
    """Items that the model scores best for a query before an epoch over the log and that the query did not lead to, as
    further hard negatives."""

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


class MlmConfig(Section):
    """Masked language modelling on the catalogue (Muhamed et al., 2023, section 3.1), before all other stages."""

    epochs: Annotated[int, Field(ge=0)] = 0
    """Passes over the items: all text columns of each, behind their names, with other masks in each pass."""
    batch_size: Annotated[int, Field(ge=1)] = 64
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-4
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Batches of an update, as ``training.accumulate``."""
    mask_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Share of the subwords of an item that are to be found."""
    whole_words: bool = False
    """Masks all subwords of a word together."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without a better accuracy on the held-out items after which the stage ends; 0 never ends early."""


class InteractionConfig(Section):
    """Query-product interaction (Muhamed et al., 2023, section 3.2), between ``mlm`` and the matching of towers."""

    epochs: Annotated[int, Field(ge=0)] = 0
    """Passes over the clicks of the log."""
    kind: Literal["span", "classification"] = "span"
    """``span``: masked spans of the query or of the product are to be found from both; ``classification``: whether the
    product was clicked for the query (the paper's QPI-BERT-FT*)."""
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-4
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Batches of an update, as ``training.accumulate``."""
    mask_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Of ``span``: share of the subwords of the chosen side that are to be found."""
    negatives: Literal["random", "skipped"] = "random"
    """Of ``classification``: the other products; skipped ones where the query has any."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without a better accuracy on the validation split after which the stage ends; 0 never ends early."""

    @pydantic.model_validator(mode="after")
    def _pairs_come_in_twos(self) -> InteractionConfig:
        if self.kind == "classification" and self.batch_size % 2:
            raise ValueError(f"batch_size = {self.batch_size} is odd; half of the pairs of a step are clicked ones")
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
    optimizer: Literal["adagrad", "adamw", "lamb", "lans"] = "adagrad"
    """Of the dense weights, in all stages. AdaGrad has a constant rate; the others have one that rises and falls
    linearly within each stage, and read the four keys after the rates. Embedding tables always have sparse AdaGrad."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 0.01
    """Rate of the dense weights, at its peak where it rises and falls."""
    table_learning_rate: Annotated[float, Field(gt=0.0)] = 0.01
    """Sparse AdaGrad on the embedding tables."""
    warmup_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    """Share of a stage's updates in which the rate rises; it falls to zero in the others."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    """Decoupled decay of matrices; biases and layer norms have none."""
    clip_norm: Annotated[float, Field(ge=0.0)] = 1.0
    """Largest norm of the gradient of all dense weights together; 0 clips nothing."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Batches whose mean gradient is one update: the effective batch is that much larger, the memory is not."""
    initial_accumulator: Annotated[float, Field(gt=0.0)] = 0.1
    """First value of AdaGrad's accumulators."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without a better ``stop_by`` after which training stops; 0 never stops early."""
    stop_by: Literal["valid_top1", "valid_recall_100"] = "valid_top1"
    """Figure of the validation split that chooses the best epoch: Top-1 among ``evaluation.candidates`` items, or the
    share of examples whose item is among the 100 nearest of the whole catalogue, embedded after every epoch."""
    judged_share: Share = 0.05
    """Share of the examples of a step of the stage ``training`` that are labelled pairs of people; each pair comes once
    in a step at most."""
    token_dropout: Share = 0.0
    """Share of the query tokens that a step leaves out at random: answers to misspelt queries get better."""
    typo_share: Share = 0.0
    """Share of the queries that a step reads with one random letter left out, put in, replaced or swapped."""
    half_life: Annotated[float, Field(gt=0.0)] | None = None
    """Age at which a click counts half in the loss of the stage ``training``: days; where the log's times are integers,
    in their unit. None counts all clicks alike."""
    seed: int = 1
    checkpoint_every: Annotated[int, Field(ge=1)] = 1000
    """Steps between checkpoints."""
    keep_checkpoints: Annotated[int, Field(ge=1)] = 3

    @property
    def has_schedule(self) -> bool:
        """Whether the rate of a step depends on the number of steps of the whole stage."""
        return self.optimizer != "adagrad"

    @pydantic.model_validator(mode="after")
    def _adagrad_has_no_schedule(self) -> TrainingConfig:
        if self.optimizer == "adagrad":
            fields = type(self).model_fields
            given = [key for key in _SCHEDULED if getattr(self, key) != fields[key].default]
            if given:
                raise ValueError(
                    f"{', '.join(given)}: not read by optimizer = 'adagrad'; set optimizer = 'adamw', 'lamb' or "
                    "'lans', or leave them out"
                )
        return self


_SCHEDULED = ("warmup_share", "weight_decay", "clip_norm", "accumulate")
"""Keys that AdaGrad does not read."""
