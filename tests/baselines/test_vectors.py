"""Retrieval by vectors: cosines, items and queries without a vector, and the bytes of every kind of index."""

import numpy as np
import pyarrow as pa

from dpsr.baselines.bm25 import BM25Retriever
from dpsr.baselines.examples import QueryExamples, anonymous_examples
from dpsr.baselines.hybrids import WeightedSumRetriever
from dpsr.baselines.interfaces import index_bytes_of
from dpsr.baselines.memory import ClickMemoryRetriever
from dpsr.baselines.popularity import PopularityRetriever
from dpsr.baselines.reranker import Reranker
from dpsr.baselines.vectors import VectorRetriever
from dpsr.config import LexicalConfig
from dpsr.data.dataset.schema import CLICK, INTERACTION
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.lexical.build import ItemTerms

VECTORS = np.array([[3, 4], [0, 0], [-1, 0], [0, 2]], np.float32)


class Given(VectorRetriever):
    """A query is written as its vector: ``"1 0"``."""

    def __init__(self, vectors: np.ndarray) -> None:
        super().__init__(len(vectors))
        self.vectors = vectors

    def embed(self, examples: QueryExamples) -> np.ndarray:
        return np.array([text.split() for text in examples.texts], np.float32).reshape(len(examples), 2)

    def embed_items(self) -> np.ndarray:
        return self.vectors


def asked(*texts: str) -> QueryExamples:
    return anonymous_examples(np.array(texts, dtype=object), seed=1)


def test_items_are_ordered_by_cosine_and_those_without_a_vector_are_not_retrieved() -> None:
    items, scores = Given(VECTORS).retrieve(asked("2 0", "0 0"), 4)
    assert items.tolist() == [[0, 3, 2, -1], [-1] * 4]
    np.testing.assert_allclose(scores, [[0.6, 0, -1, -np.inf], [-np.inf] * 4])
    assert (items.dtype, scores.dtype) == (np.int32, np.float32)
    # An item of negative cosine is a worse answer, one without a vector is none.
    assert Given(VECTORS).retrieve(asked("1 0"), 3)[0].tolist() == [[0, 3, 2]]
    assert Given(VECTORS).score(asked("1 0"), np.array([[1, 2]])).tolist() == [[-np.inf, -1]]


def test_no_query_has_an_empty_list() -> None:
    items, scores = Given(VECTORS).retrieve(asked(), 3)
    assert items.shape == scores.shape == (0, 3)


def test_vectors_are_made_again_when_the_weights_change() -> None:
    method = Given(VECTORS)
    assert method.retrieve(asked("1 0"), 1)[0].tolist() == [[0]]
    method.vectors = -VECTORS
    method.weights_changed()
    assert method.retrieve(asked("1 0"), 1)[0].tolist() == [[2]]


def test_every_index_knows_its_bytes() -> None:
    titles = pa.table({"title": ["red shoe", "blue shoe", "hat"]})
    terms = ItemTerms.of(ItemRows(np.arange(3), titles), ("title",), bigrams=False)
    bm25 = BM25Retriever(terms, LexicalConfig())
    assert bm25.index_bytes == sum(np.asarray(array).nbytes for array in terms.postings(LexicalConfig(), None))
    vectors, popularity = Given(VECTORS[:3]), PopularityRetriever(np.arange(3))
    assert vectors.index_bytes == 3 * 2 * 4
    assert popularity.index_bytes == 3 * 4
    clicks = np.zeros(2, INTERACTION)
    clicks["event"] = CLICK
    memory = ClickMemoryRetriever(["hat"], [clicks], popularity)
    assert memory.index_bytes == popularity.index_bytes + 8 + 8 + 2 * 8  # one pair and its count; two ends of rows
    assert WeightedSumRetriever(bm25, vectors, 1.0).index_bytes == bm25.index_bytes + vectors.index_bytes
    assert Reranker(bm25, vectors, 2).index_bytes == bm25.index_bytes + vectors.index_bytes
    assert index_bytes_of(bm25, object()) is None
