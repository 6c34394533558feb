"""Section ``model``: the two towers."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from dpsr.config.section import Section


class ModelConfig(Section):
    """The two towers (paper, section 4.2)."""

    text_encoder: Literal["bag"] = "bag"
    """Turns the tokens of a text into one vector: ``bag`` combines the embeddings of its words, bigrams and letter
    trigrams."""
    dimension: Annotated[int, Field(ge=2, le=1024)] = 64
    heads: Annotated[int, Field(ge=1, le=16)] = 2
    hidden: list[Annotated[int, Field(ge=1)]] = [128]
    """Widths of the hidden ReLU layers of both towers."""
    residual: bool = False
    """Adds the input of a tower to its output, whose last layer starts at zero: learns from far fewer clicks."""
    shared_tokens: bool = False
    """One token table for both towers instead of one each."""
    head_tables: bool = False
    """Each head has its own table of query tokens and layers, whose output is added to that of the shared ones."""
    profile: bool = True
    """Use the user profile (DPSR-p) where the dataset has one."""
    history_length: Annotated[int, Field(ge=0, le=1000)] = 0
    """Number of a user's latest items in the query tower (DPSR-h); 0 leaves the history out."""
    history_titles: Annotated[int, Field(ge=0, le=1000)] = 0
    """Number of these items, the latest, whose first title words are read too; they describe items with few clicks."""
    history_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Weight of an item of the history relative to the next, later one."""
    attention_temperature: Annotated[float, Field(gt=0.0)] = 1.0
    """beta of the soft dot product (paper, equation 3)."""
    combiner: Literal["sqrtn", "sqrtn_by_kind", "mean", "sum"] = "sqrtn"
    """How a bag of ids becomes one vector: the sum of its rows over the square root of their number, or over it.
    ``sqrtn_by_kind`` does so for words, bigrams and trigrams of a text apart, and adds the three: the many trigrams no
    longer drown the words."""
    initial_scale: Annotated[float, Field(gt=0.0)] = 0.1
    """Standard deviation of freshly initialised embeddings; those of users and histories, a tenth of it."""
    initial_idf: bool = False
    """Freshly initialised embeddings of rare tokens are longer than those of frequent ones."""

    @property
    def reads_tokenizer(self) -> bool:
        """Whether a fresh model has to know the tokenizer."""
        return self.initial_idf or self.combiner == "sqrtn_by_kind"

    @pydantic.model_validator(mode="after")
    def _titles_are_of_the_history(self) -> ModelConfig:
        if self.history_titles > self.history_length:
            raise ValueError(
                f"history_titles = {self.history_titles} is more than history_length = {self.history_length}; "
                "titles are read of items of the history"
            )
        return self
