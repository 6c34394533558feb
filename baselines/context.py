"""What a baseline declares, and what it is built from: the dataset's texts, clicks and tokenizer, each read once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from dpsr.baselines.examples import QueryExamples, anonymous_examples, load_clicks, load_examples
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.fitting.candidates import CandidateLists, candidate_lists
from dpsr.baselines.fitting.learner import MOST_CLICKS, Learner, PairTrainingSet, TrainingSet
from dpsr.baselines.fitting.negatives import NegativePools
from dpsr.baselines.fitting.weights_file import file_identity, fingerprint, read_weights, write_weights
from dpsr.baselines.interfaces import Method, Retriever
from dpsr.baselines.item_sequences import ItemSequences, item_sequences
from dpsr.baselines.tuning import choose_weight
from dpsr.baselines.word_averages import WordAverageRetriever
from dpsr.baselines.word_lookup import WordLookup
from dpsr.config import LexicalConfig, SubwordsConfig
from dpsr.data.dataset.schema import INTERACTION, SKIP
from dpsr.data.dataset.tables import Dataset
from dpsr.data.dataset.texts import joined_texts
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.lexical.build import ItemTerms
from dpsr.indexing.valid_clicks import ValidClicks, valid_clicks
from dpsr.tokenizer_cc import Tokenizer
from dpsr.tokenizer_cc.subwords import SubwordTokenizer, train_subwords

L = TypeVar("L", bound=Learner)
_TUNING_EXAMPLES = 1000  # clicks of the valid split that choose one weight
_SIMILAR_ITEMS = 50  # items of BM25 that are negatives of a query, or a list to reorder
_SEARCHED_QUERIES = 20_000  # queries of the train split with such negatives


class Need(Enum):
    """An input that a baseline cannot do without; the value names it in the report's note where it is missing."""

    WORDS = "no item text has a word"
    CLICKS = "the train split has no click"
    LABELS = "the dataset has no labelled pairs (data.supervision)"
    SEQUENCES = "no user, and no query, has clicks on two items in the train split"
    MODEL = "no trained model takes part"
    RUN = "no other trained run takes part"


@dataclass(frozen=True)
class Baseline:
    """An entry of the registry."""

    name: str
    build: Callable[[BuildContext], Method]
    needs: frozenset[Need] = frozenset()
    trains: bool = False
    """Whether ``build`` trains weights, which takes minutes unless ``BuildContext.cache_file`` holds them."""
    version: int = 1
    """Raised when a change of the method changes its lists: ``dpsr compare`` then runs it again."""
    parts: tuple[str, ...] = ()
    """Names of the methods that a combination is made of, and of theirs."""


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
    checkpoint: Path | None = None
    """Folder of the published checkpoint that a transformer starts from; it starts from nothing without one."""
    word_vectors: Path | None = None
    """File of pre-trained word vectors (``word_vector_file``)."""
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
    def subwords(self) -> SubwordTokenizer:
        """The dataset's subwords; where it has none, the defaults of ``[tokenizer.subwords]`` on the items' texts."""
        if self.dataset.schema.subwords is not None:
            return SubwordTokenizer.load(self.dataset.subwords_path)
        config = SubwordsConfig()
        return train_subwords(
            self.item_texts, kind=config.kind, vocabulary=config.vocabulary, lowercase=config.lowercase
        )

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
    def tuning_examples(self) -> QueryExamples | None:
        """Clicks of the valid split, 1,000 at most; None where it has none."""
        if not any((block["event"] != SKIP).any() for block in self.dataset.interaction_blocks("valid")):
            return None
        return load_examples(self.dataset, "valid", max_examples=_TUNING_EXAMPLES, seed=self.seed)

    @cached_property
    def train_clicks(self) -> np.ndarray:
        """Clicks of the train split that baselines learn from, INTERACTION [n], ``MOST_CLICKS`` at most."""
        return load_clicks(self.dataset, "train", at_most=MOST_CLICKS, seed=self.seed)

    @cached_property
    def train_texts(self) -> list[str]:
        """What models of words learn from: the text of every item, and the distinct queries of the train split."""
        asked = np.zeros(self.dataset.schema.num_queries, bool)
        for block in self.dataset.interaction_blocks("train"):
            asked[block["query"]] = True
        return [*self.item_texts, *self.dataset.query_texts().filter(pa.array(asked)).to_pylist()]

    @cached_property
    def item_sequences(self) -> ItemSequences:
        """Sequences of the items of ``train_clicks``."""
        return item_sequences(self.train_clicks)

    @cached_property
    def training_set(self) -> TrainingSet:
        """What retrievers learn from."""
        return TrainingSet(
            self.dataset.query_texts().to_pylist(),
            self.item_texts,
            self.train_clicks,
            self._pools(self.dataset.skip_blocks()),
            self.tuning_examples,
            self.seed,
        )

    @cached_property
    def pair_training_set(self) -> PairTrainingSet:
        """What models that score given pairs learn from."""
        data = self.training_set
        return PairTrainingSet(
            **{each.name: getattr(data, each.name) for each in fields(data)},
            similar=self._pools(chain(self.dataset.skip_blocks(), self._found_by_words())),
            lists=self._valid_lists,
            word_vectors=self._word_lookup(),
        )

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

    def trained(self, learner: L) -> L:
        """Trains a learner, or gives it the weights of an earlier run on the same dataset, seed and settings."""
        key = fingerprint(self.dataset, self.seed, learner.settings, file_identity(self.word_vectors))
        cache = self.cache_file(learner.name)
        stored = None if cache is None else read_weights(cache, key)
        if stored is None:
            learner.fit(progress=self.progress)
            if cache is not None:
                write_weights(cache, key, learner.weights())
        else:
            learner.assign(stored)
        if note := learner.note():
            self.notes.append(note)
        return learner

    def cache_file(self, name: str) -> Path | None:
        """File for the trained weights of a baseline; None without a run directory."""
        return None if self.work_dir is None else self.work_dir / "evaluation" / f"{name}.npz"

    def missing(self, needs: frozenset[Need]) -> list[Need]:
        """Returns the needs that the dataset cannot meet, in the order of ``Need``."""
        return [need for need in Need if need in needs and not self._has(need)]

    def _pools(self, blocks: Iterable[np.ndarray]) -> NegativePools:
        clicks = self.dataset.interaction_blocks("train")
        return NegativePools(self.train_clicks["query"], blocks, clicks, self.dataset.schema.num_items)

    def _word_lookup(self) -> WordLookup:
        """Word vectors, of the file of pre-trained ones or else of word2vec."""
        method = self.method("word2vec" if self.word_vectors is None else "glove")
        assert isinstance(method, WordAverageRetriever)
        return method.lookup

    def _found_by_words(self) -> Iterator[np.ndarray]:
        """The best items of BM25 for the clicked queries, one block INTERACTION [n]; 20,000 queries at most."""
        data = self.training_set
        queries = np.unique(data.clicks["query"])
        if len(queries) > _SEARCHED_QUERIES:
            queries = np.random.default_rng(self.seed).choice(queries, _SEARCHED_QUERIES, replace=False)
        texts = np.array([data.queries[row] for row in queries], dtype=object)
        items = self._words_lists(anonymous_examples(texts, seed=self.seed))
        records = np.zeros(items.shape, INTERACTION)
        records["query"], records["item"] = queries[:, None], items
        yield records[items >= 0]

    def _valid_lists(self) -> CandidateLists | None:
        """The best items of BM25 for the queries of ``tuning_examples``, as many random ones, and the clicked ones."""
        clicks = self.tuning_examples
        if clicks is None:
            return None
        texts, query = np.unique(clicks.texts, return_inverse=True)
        queries = anonymous_examples(texts, seed=self.seed)
        clicked = [np.unique(clicks.item_rows[query == row]) for row in range(len(texts))]
        shape = len(queries), _SIMILAR_ITEMS
        drawn = np.random.default_rng(self.seed).integers(0, self.dataset.schema.num_items, shape)
        return candidate_lists(queries, np.concatenate([self._words_lists(queries), drawn], axis=1), clicked)

    def _words_lists(self, queries: QueryExamples) -> np.ndarray:
        method = self.method("bm25")
        assert isinstance(method, Retriever)
        return method.retrieve(queries, _SIMILAR_ITEMS)[0]

    def _has(self, need: Need) -> bool:
        if need is Need.WORDS:
            return self.has_words
        if need is Need.CLICKS:
            return bool(self.click_counts.any())
        if need is Need.LABELS:
            return len(self.dataset.labels()) > 0
        if need is Need.SEQUENCES:
            return bool(self.item_sequences.items)
        if need is Need.MODEL:
            return self.model is not None
        return True  # RUN: an entry of a run is there with the run


def item_texts(dataset: Dataset) -> list[str]:
    """Joins all text columns of every item by a space; missing texts are empty."""
    batches = joined_texts(dataset.item_table(), dataset.schema.text)
    return [text for batch in batches for text in batch.to_pylist()]
