"""What a baseline declares, and what it is built from: the dataset's texts, clicks and tokenizer, each read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from dpsr.baselines.examples import QueryExamples, load_clicks, load_examples
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.interfaces import Method
from dpsr.baselines.item_sequences import ItemSequences, item_sequences
from dpsr.baselines.tuning import choose_weight
from dpsr.config import LexicalConfig
from dpsr.data.dataset.schema import SKIP
from dpsr.data.dataset.tables import Dataset
from dpsr.data.dataset.texts import joined_texts
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.lexical.build import ItemTerms
from dpsr.indexing.valid_clicks import ValidClicks, valid_clicks
from dpsr.tokenizer_cc import Tokenizer

_TUNING_EXAMPLES = 1000  # clicks of the valid split that choose one weight
_MOST_CLICKS = 2_000_000


class Need(Enum):
    """An input that a baseline cannot do without; the value names it in the report's note where it is missing."""

    WORDS = "no item text has a word"
    CLICKS = "the train split has no click"
    LABELS = "the dataset has no labelled pairs (data.supervision)"
    SEQUENCES = "no user, and no query, has clicks on two items in the train split"
    MODEL = "no trained model takes part"


@dataclass(frozen=True)
class Baseline:
    """An entry of the registry."""

    name: str
    build: Callable[[BuildContext], Method]
    needs: frozenset[Need] = frozenset()
    trains: bool = False
    """Whether ``build`` trains weights, which takes minutes unless ``BuildContext.cache_file`` holds them."""


@dataclass
class BuildContext:
    """Inputs of the baselines of one evaluation, and what the builders report.

    Properties are computed when the first builder asks for them.
    """

    dataset: Dataset
    registry: Mapping[str, Baseline]
    seed: int
    model: ExhaustiveRetriever | None = None
    """The trained model."""
    work_dir: Path | None = None
    """Run directory, whose ``evaluation`` folder keeps trained weights; not kept without it."""
    progress: bool = True
    lexical: LexicalConfig = field(default_factory=LexicalConfig)
    """What BM25 is built with, as in a servable."""
    word_vectors: Path | None = None
    """File of pre-trained word vectors."""
    weights: dict[str, float] = field(default_factory=dict)
    """Chosen weights of mixtures by name."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the reader of the report."""
    _built: dict[str, Method] = field(default_factory=dict)

    @cached_property
    def has_words(self) -> bool:
        """Whether any item text has a term."""
        return self.item_terms.tokenizer.num_terms > 0

    @cached_property
    def item_texts(self) -> list[str]:
        """All text columns of every item, joined."""
        return item_texts(self.dataset)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The dataset's tokenizer."""
        return Tokenizer.load(self.dataset.tokenizer_path)

    @cached_property
    def items(self) -> ItemRows:
        """The dataset's items."""
        return ItemRows.of_dataset(self.dataset)

    @cached_property
    def item_terms(self) -> ItemTerms:
        """Terms of the items, which BM25 indexes."""
        return ItemTerms.of(self.items, self.dataset.schema.text, bigrams=self.lexical.bigrams)

    @cached_property
    def click_counts(self) -> np.ndarray:
        """Clicks of every item in the train split, int64 [items]."""
        return self.dataset.clicks_per_item("train")

    @cached_property
    def train_texts(self) -> list[str]:
        """What models of words learn from: the text of every item, and the distinct queries of the train split."""
        asked = np.zeros(self.dataset.schema.num_queries, bool)
        for block in self.dataset.interaction_blocks("train"):
            asked[block["query"]] = True
        return [*self.item_texts, *self.dataset.query_texts().filter(pa.array(asked)).to_pylist()]

    @cached_property
    def train_clicks(self) -> np.ndarray:
        """Clicks of the train split that item embeddings learn from, INTERACTION [n]; a larger log is sampled."""
        return load_clicks(self.dataset, "train", at_most=_MOST_CLICKS, seed=self.seed)

    @cached_property
    def item_sequences(self) -> ItemSequences:
        """Sequences of the items of ``train_clicks``."""
        return item_sequences(self.train_clicks)

    @cached_property
    def tuning_examples(self) -> QueryExamples | None:
        """Clicks of the valid split, 1,000 at most; None where it has none."""
        if not any((block["event"] != SKIP).any() for block in self.dataset.interaction_blocks("valid")):
            return None
        return load_examples(self.dataset, "valid", max_examples=_TUNING_EXAMPLES, seed=self.seed)

    @cached_property
    def valid_clicks(self) -> ValidClicks:
        """Clicks of the valid split that choose the weights of a servable, 2,000 at most."""
        return valid_clicks(self.dataset, self.items, seed=self.seed)

    def method(self, name: str) -> Method:
        """Returns the method of a name, built at the first call."""
        if name not in self._built:
            self._built[name] = self.registry[name].build(self)
        return self._built[name]

    def exhaustive(self, name: str) -> ExhaustiveRetriever:
        """Returns a method that a mixture needs all scores of.

        Raises:
            TypeError: the method does not score the whole catalogue.
        """
        method = self.method(name)
        if not isinstance(method, ExhaustiveRetriever):
            raise TypeError(f"{name} does not score the whole catalogue; a mixture needs an ExhaustiveRetriever")
        return method

    def tuned(
        self, name: str, mixture: Callable[[float], ExhaustiveRetriever], weights: Sequence[float], default: float
    ) -> ExhaustiveRetriever:
        """Builds a mixture with the weight that the valid split chooses, and records the weight.

        Args:
            name: the mixture's name.
            mixture: weight -> retriever.
            weights: the grid.
            default: weight without clicks in the valid split.
        """
        tuning = self.tuning_examples
        self.weights[name] = default if tuning is None else choose_weight(mixture, weights, tuning)
        return mixture(self.weights[name])

    def cache_file(self, name: str) -> Path | None:
        """File for the trained weights of a baseline; None without a run directory."""
        return None if self.work_dir is None else self.work_dir / "evaluation" / f"{name}.npz"

    def missing(self, needs: frozenset[Need]) -> list[Need]:
        """Returns the needs that the dataset cannot meet, in the order of ``Need``."""
        return [need for need in Need if need in needs and not self._has(need)]

    def _has(self, need: Need) -> bool:
        if need is Need.WORDS:
            return self.has_words
        if need is Need.CLICKS:
            return bool(self.click_counts.any())
        if need is Need.LABELS:
            return len(self.dataset.labels()) > 0
        if need is Need.SEQUENCES:
            return bool(self.item_sequences.items)
        return self.model is not None


def item_texts(dataset: Dataset) -> list[str]:
    """Joins all text columns of every item by a space; missing texts are empty."""
    batches = joined_texts(dataset.item_table(), dataset.schema.text)
    return [text for batch in batches for text in batch.to_pylist()]
