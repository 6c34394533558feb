"""Maps of item vectors by t-SNE: the catalogue (paper, figure 5), and the lists of single heads (figure 6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from dpsr.data.dataset.tables import Dataset
from dpsr.data.dataset.texts import take_rows
from dpsr.evaluation.measures.heads import HeadAnswers
from dpsr.evaluation.measures.polysemy import Senses
from dpsr.evaluation.report.figures import scatter

_MAPPED_ITEMS = 1000
_FEWEST = 10  # items below which no map is drawn
_SHOWN_QUERIES = 6


def item_map(
    vectors: np.ndarray, dataset: Dataset, counts: np.ndarray, texts: Sequence[str], *, seed: int
) -> Markup | None:
    """Maps the most clicked items, in the colour of their category.

    Args:
        vectors: float32 [items, d].
        dataset: the catalogue; the category is the column of that name, or else the first categorical one.
        counts: clicks of every item, int64 [items].
        texts: the text of every item.
        seed: seed of the layout.

    Returns:
        A figure; None for fewer than ten items.
    """
    rows = np.argsort(-counts, kind="stable")[:_MAPPED_ITEMS]
    if len(rows) < _FEWEST:
        return None
    column = category_column(dataset)
    title = f"The {len(rows):,} most clicked items" + (f", by {column}" if column else "")
    groups = item_categories(dataset, rows, column) if column else ["items"] * len(rows)
    return scatter(title, _layout(vectors[rows], seed=seed), groups, [texts[row] for row in rows])


def heads_maps(
    answers: Sequence[HeadAnswers],
    vectors: np.ndarray,
    dataset: Dataset,
    texts: Sequence[str],
    *,
    seed: int,
    senses: Sequence[Senses] = (),
    sense_column: str = "",
) -> list[Markup]:
    """Maps the items that each head finds, in the colour of the head, or of head and sense for known senses.

    Args:
        answers: lists by head; the first six queries are mapped.
        vectors: float32 [items, d].
        dataset: the catalogue.
        texts: the text of every item.
        seed: seed of the layouts.
        senses: known senses of queries.
        sense_column: item column that sets the sense.
    """
    known = {each.query: each for each in senses}
    figures = []
    for answer in answers[:_SHOWN_QUERIES]:
        rows = np.unique(answer.items)
        if len(rows) < _FEWEST:
            continue
        categories = item_categories(dataset, rows, sense_column or category_column(dataset))
        groups = [_finders([bool(np.isin(row, items)) for items in answer.items]) for row in rows]
        if answer.query in known:
            meant = [_sense(known[answer.query], category) for category in categories]
            groups = [f"{finders}: {sense}" for finders, sense in zip(groups, meant, strict=True)]
        labels = [f"{texts[row]} ({category})" for row, category in zip(rows, categories, strict=True)]
        title = f"“{answer.query}”"
        figures.append(scatter(title, _layout(vectors[rows], seed=seed), groups, labels, ordered=False))
    return figures


def category_column(dataset: Dataset) -> str | None:
    """Returns ``category``, or else the first categorical column without numbers; None without any."""
    columns = [column for column in dataset.schema.categorical if column not in dataset.schema.numeric]
    return "category" if "category" in columns else next(iter(columns), None)


def item_categories(dataset: Dataset, rows: np.ndarray, column: str | None) -> list[str]:
    """Returns the values of a column for some items; empty texts without a column."""
    if column is None:
        return [""] * len(rows)
    values = take_rows(dataset.item_table().select([column]), rows).column(0)
    return [str(value or "none") for value in values.to_pylist()]


def _sense(senses: Senses, category: str) -> str:
    pairs = zip(senses.names, senses.categories, strict=True)
    return next((name for name, categories in pairs if category in categories), "no meaning")


def _finders(found: Sequence[bool]) -> str:
    heads = [str(head) for head, here in enumerate(found) if here]
    return f"head {heads[0]}" if len(heads) == 1 else f"heads {' and '.join(heads)}"


def _layout(vectors: np.ndarray, *, seed: int) -> np.ndarray:
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    layout = TSNE(metric="cosine", init="random", random_state=seed, perplexity=perplexity)
    # A thousand points occupy one core; further threads mostly wait.
    with threadpool_limits(1):
        places: np.ndarray = layout.fit_transform(vectors)
    return places
