"""Books sampled from the log: by the clicks of queries, or by how much two columns disagree on them."""

from __future__ import annotations

import numpy as np

from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.judgements.records import Book, BookQuery
from dpsr.evaluation.measures.rank_biased_overlap import rank_biased_overlap
from dpsr.page.contract import NewBook
from dpsr.page.errors import PageError
from dpsr.page.judging.lists import ListSource

LONGEST_QUERY = 10_000
"""Characters, of a query in a book."""
ASKED_FOR_EACH, MOST_ASKED = 10, 2000
"""For a book by disagreement: queries asked for each that it gets, and in all."""
DEPTH = 50
"""Items of the lists that are compared."""


def sample_book(new: NewBook, source: ListSource, config: Config) -> Book:
    """Samples the queries of a book from the training split of the log.

    By frequency, queries are drawn without replacement with probability proportional to their clicks. By disagreement,
    queries drawn so are asked in both columns, and those with the lowest rank-biased overlap are taken.

    Args:
        new: what is wanted; a seed draws the same queries again.
        source: answers the queries, for a book by disagreement.
        config: of the shop.

    Returns:
        The book, not kept yet: most clicks first, or least overlap first; the weight of a query is its clicks.

    Raises:
        PageError: the dataset has no log, or two columns are not given, or one cannot answer.
        DatasetError: the dataset cannot be read.
    """
    if new.sample == "disagreement" and len(new.columns) != 2:
        raise PageError(f"a book by disagreement compares two columns; found {len(new.columns)}")
    asked = new.count if new.sample == "frequency" else min(MOST_ASKED, max(new.count, ASKED_FOR_EACH * new.count))
    queries = drawn_queries(
        Dataset.load(config.dataset_dir), asked, seed=new.seed, longest=config.serving.max_query_bytes
    )
    if new.sample == "disagreement":
        texts = [each.query for each in queries]
        first, second = (source.lists(texts, column, DEPTH) for column in new.columns)
        overlaps = [
            rank_biased_overlap([each.item_id for each in left or ()], [each.item_id for each in right or ()])
            for left, right in zip(first, second, strict=True)
        ]
        order = np.argsort(overlaps, kind="stable")[: new.count]
        queries = [queries[place] for place in order.tolist()]
    return Book(name=new.name, queries=tuple(queries))


def drawn_queries(dataset: Dataset, count: int, *, seed: int, longest: int) -> list[BookQuery]:
    """Draws queries of the training split by their clicks, without replacement.

    Args:
        dataset: of the shop.
        count: queries to draw; all where there are fewer.
        seed: decides the draw.
        longest: bytes of a text that the server takes.

    Returns:
        Most clicks first; blank texts, and those above ``longest`` or ``LONGEST_QUERY``, are left out.

    Raises:
        PageError: the dataset has no log.
    """
    if not dataset.has_log:
        raise PageError(f"{dataset.directory}: has no log to sample queries from; give the book its queries")
    texts = dataset.query_texts()
    clicks = np.zeros(len(texts), dtype=np.int64)
    for records in dataset.interaction_blocks("train"):
        clicks += np.bincount(records["query"], minlength=len(clicks))
    clicked = np.flatnonzero(clicks)
    # The largest of the keys log(u) / clicks are a weighted sample without replacement (Efraimidis and Spirakis, 2006).
    keys = np.log(np.random.default_rng(seed).random(len(clicked))) / clicks[clicked]
    drawn: list[tuple[int, str]] = []
    for row in clicked[np.argsort(-keys, kind="stable")].tolist():
        text = texts[row].as_py()
        if text.strip() and len(text) <= LONGEST_QUERY and len(text.encode()) <= longest:
            drawn.append((int(clicks[row]), text))
        if len(drawn) == count:
            break
    return [BookQuery(query=text, weight=float(times)) for times, text in sorted(drawn, key=lambda each: -each[0])]
