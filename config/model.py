"""Section ``model``: the two towers."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from dpsr.config.section import PathName, Section


class TransformerConfig(Section):
    """A bidirectional transformer over subwords (Devlin et al., BERT, NAACL 2019).

    With ``initial``, the sizes are those of the published checkpoint, and a size given beside it has to be the same.
    """

    initial: PathName | None = None
    """Folder of a published checkpoint that the weights start from: ``config.json``, ``tokenizer.json`` and
    ``model.safetensors`` of the BERT, RoBERTa or XLM-RoBERTa family, as Hugging Face stores them."""
    layers: Annotated[int, Field(ge=1, le=96)] = 2
    width: Annotated[int, Field(ge=4, le=8192)] = 256
    """Width H of the hidden states; where it is not ``model.dimension``, a linear layer projects the pooled vector."""
    heads: Annotated[int, Field(ge=1, le=128)] = 4
    """Attention heads; a divisor of the width."""
    intermediate: Annotated[int, Field(ge=1)] = 1024
    """Width F of the feed-forward layers."""
    activation: Literal["gelu", "gelu_tanh", "relu"] = "gelu"
    norm: Literal["post", "pre"] = "post"
    """LayerNorm after each residual sum, as in BERT, or before each sublayer, with a final one."""
    norm_epsilon: Annotated[float, Field(gt=0.0)] = 1e-12
    positions: Annotated[int, Field(ge=3)] = 512
    """Longest sequence that the position table has rows for."""
    position_offset: Annotated[int, Field(ge=0)] = 0
    """Row of the position table that the first subword reads."""
    pooling: Literal["mean", "cls"] = "mean"
    """A text's vector: the mean of its last hidden states, or that of ``[CLS]``."""
    max_query_length: Annotated[int, Field(ge=3)] = 32
    """Most subwords that are read of a query, ``[CLS]`` and ``[SEP]`` included; the end of a longer one is cut off."""
    max_item_length: Annotated[int, Field(ge=3)] = 64
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the hidden units and attention weights that a training step leaves out."""
    bfloat16: bool = False
    """Training rounds both sides of the products to bfloat16 where the processor has AVX512_BF16; weights, sums and
    what is indexed and served stay float32."""

    @pydantic.model_validator(mode="after")
    def _sizes_fit(self) -> TransformerConfig:
        if self.initial is not None:  # what is not given here is read from the checkpoint, and checked there
            return self
        if self.width % self.heads:
            raise ValueError(f"width = {self.width} is not a multiple of heads = {self.heads}")
        longest = max(self.max_query_length, self.max_item_length)
        if longest > self.positions:
            raise ValueError(
                f"max_query_length = {self.max_query_length} and max_item_length = {self.max_item_length} exceed "
                f"positions = {self.positions}; shorten the texts, or raise positions"
            )
        return self


class ModelConfig(Section):
    """The two towers (paper, section 4.2)."""

    text_encoder: Literal["bag", "transformer"] = "bag"
    """Turns a text into one vector: ``bag`` combines the embeddings of its words, bigrams and letter trigrams;
    ``transformer`` reads its subwords in their order."""
    transformer: TransformerConfig = TransformerConfig()
    """Sizes of ``text_encoder = "transformer"``; not read by ``bag``."""
    dimension: Annotated[int, Field(ge=2, le=1024)] = 64
    heads: Annotated[int, Field(ge=1, le=16)] = 2
    hidden: list[Annotated[int, Field(ge=1)]] = [128]
    """Widths of the hidden ReLU layers of both towers."""
    residual: bool = False
    """Adds the input of a tower to its output, whose last layer starts at zero: learns from far fewer clicks."""
    shared_tokens: bool = False
    """One token table, or one transformer, for both towers instead of one each."""
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
    def reads_subwords(self) -> bool:
        """Whether the towers read the subwords of texts."""
        return self.text_encoder == "transformer"

    @property
    def initial(self) -> str | None:
        """The published checkpoint that the text encoder starts from."""
        return self.transformer.initial if self.reads_subwords else None

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
