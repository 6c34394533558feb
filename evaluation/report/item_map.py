"""Items as t-SNE lays out their vectors (paper, figure 5), and what each head of a query finds (paper, figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from dpsr.baselines.examples import Examples, make_examples
from dpsr.baselines.ranking import top_k
from dpsr.baselines.two_tower import TwoTowerRetriever
from dpsr.data.dataset.schema import INTERACTION
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.measures.polysemy import Senses
from dpsr.evaluation.report.figures import scatter

HEAD_DEPTH = 50
"""Items of every head's list that are compared."""
_MAPPED_ITEMS = 1000
_FEWEST = 10  # items that are worth a map
_COMMON_QUERIES = 300  # among which queries with differing heads are looked for
_SHOWN_QUERIES = 6


@dataclass(frozen=True)
class HeadAnswers:
    """What every head of one query finds."""

    query: str
    items: np.ndarray
    """int32 [heads, k], best first."""

    @property
    def overlap(self) -> float:
        """Share of the items that every head finds among all that any head finds."""
        lists = [set(row.tolist()) for row in self.items]
        return len(set.intersection(*lists)) / len(set.union(*lists))


def item_map(vectors: np.ndarray, dataset: Dataset, counts: np.ndarray, texts: Sequence[str], *, seed: int) -> str:
    """The most clicked items as t-SNE lays out their vectors, in the colour of their category.

    Args:
        vectors: float32 [items, d].
        dataset: says the category: the column of that name, or else the first categorical one.
        counts: clicks of every item, int64 [items].
        texts: the text of every item.
        seed: of the layout.

    Returns:
        A figure; empty where there are fewer than ten items.
    """
    rows = np.argsort(-counts, kind="stable")[:_MAPPED_ITEMS]
    if len(rows) < _FEWEST:
        return ""
    column = category_column(dataset)
    title = f"The {len(rows):,} most clicked items" + (f", by {column}" if column else "")
    groups = item_categories(dataset, rows, column) if column else ["items"] * len(rows)
    return scatter(title, _layout(vectors[rows], seed=seed), groups, [texts[row] for row in rows])


def heads_maps(
    retriever: TwoTowerRetriever,
    vectors: np.ndarray,
    dataset: Dataset,
    examples: Examples,
    texts: Sequence[str],
    *,
    seed: int,
    senses: Sequence[Senses] = (),
    meaning: str = "",
) -> tuple[list[str], list[HeadAnswers]]:
    """Maps of what the heads find for the queries whose heads differ most; none for a model with one head.

    Args:
        retriever: the model.
        vectors: float32 [items, d].
        dataset: says the categories.
        examples: clicks, whose commonest queries are looked at where no meanings are known.
        texts: the text of every item.
        seed: of the layouts.
        senses: queries and what each may mean; these are looked at then, and items have the colour of their meaning.
        meaning: the column that tells it.

    Returns:
        A figure of each query that is shown, and the answers to all that were looked at, the least overlap first.
    """
    known = {each.query: each for each in senses}
    asked = ask(list(known), seed=seed) if known else common_queries(examples, _COMMON_QUERIES)
    answers = head_answers(retriever, asked)
    answers.sort(key=lambda answer: answer.overlap)
    figures = []
    for answer in answers[:_SHOWN_QUERIES]:
        rows = np.unique(answer.items)
        if len(rows) < _FEWEST:
            continue
        categories = item_categories(dataset, rows, meaning or category_column(dataset))
        groups = [_finders([bool(np.isin(row, items)) for items in answer.items]) for row in rows]
        if answer.query in known:
            meant = [_sense(known[answer.query], category) for category in categories]
            groups = [f"{finders}: {sense}" for finders, sense in zip(groups, meant, strict=True)]
        labels = [f"{texts[row]} ({category})" for row, category in zip(rows, categories, strict=True)]
        title = f"“{answer.query}”"
        figures.append(scatter(title, _layout(vectors[rows], seed=seed), groups, labels, ordered=False))
    return figures, answers


def head_answers(retriever: TwoTowerRetriever, examples: Examples) -> list[HeadAnswers]:
    """The best items of every head, of itself; none for a model with one head."""
    heads = retriever.query_heads(examples)
    count = heads.shape[1]
    if count < 2 or not len(examples):
        return []
    depth = min(HEAD_DEPTH, retriever.num_items)
    lists = [top_k(retriever.head_scores(heads[:, head]), depth, examples.tie_keys)[0] for head in range(count)]
    return [HeadAnswers(str(text), items) for text, items in zip(examples.texts, np.stack(lists, 1), strict=True)]


def ask(queries: Sequence[str], *, seed: int) -> Examples:
    """Examples of queries that nobody in particular asks; what is clicked is not meant."""
    records = np.zeros(len(queries), dtype=INTERACTION)
    records["user"] = -1
    return make_examples(np.array(queries, dtype=object), records, seed=seed)


def common_queries(examples: Examples, most: int) -> Examples:
    """One example of each of the most frequent queries, the most frequent first."""
    _, first, counts = np.unique(examples.texts.astype(str), return_index=True, return_counts=True)
    return examples.take(first[np.argsort(-counts, kind="stable")[:most]])


def category_column(dataset: Dataset) -> str | None:
    """``category``, or else the first categorical column that is no number; None where there is none."""
    columns = [column for column in dataset.schema.categorical if column not in dataset.schema.numeric]
    return "category" if "category" in columns else next(iter(columns), None)


def item_categories(dataset: Dataset, rows: np.ndarray, column: str | None) -> list[str]:
    """The values of a column for some items; empty without a column."""
    if column is None:
        return [""] * len(rows)
    return [str(value or "none") for value in dataset.item_table()[column].take(rows).to_pylist()]


def _sense(senses: Senses, category: str) -> str:
    """The meaning that a category belongs to."""
    pairs = zip(senses.names, senses.categories, strict=True)
    return next((name for name, categories in pairs if category in categories), "no meaning")


def _finders(found: Sequence[bool]) -> str:
    heads = [str(head) for head, here in enumerate(found) if here]
    return f"head {heads[0]}" if len(heads) == 1 else f"heads {' and '.join(heads)}"


def _layout(vectors: np.ndarray, *, seed: int) -> np.ndarray:
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    layout = TSNE(metric="cosine", init="random", random_state=seed, perplexity=perplexity)
    # A thousand points keep one core busy; more threads mostly wait for each other.
    with threadpool_limits(1):
        places: np.ndarray = layout.fit_transform(vectors)
    return places
