"""Held-out requests of a dataset: those that an index is tuned on, and those that a servable is checked with."""

from __future__ import annotations

import numpy as np

from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.corpus import embed_queries
from dpsr.indexing.errors import ExportError
from dpsr.indexing.filters import Filters
from dpsr.indexing.parity import ParityExamples, PersonalizedExamples, arrow_ids, strings
from dpsr.indexing.signature import profile_inputs
from dpsr.indexing.valid_clicks import anonymous
from dpsr.model.interface import Model

TUNING_QUERIES = 256
CHECKED_QUERIES = 256
_SENT = 5
"""Items of a history beyond those that the model reads, so that the servable has to choose the most recent ones."""


def held_out_records(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Records to tune an index on and others to check it with, of the latest split that has any; INTERACTION [n].

    Raises:
        ExportError: the dataset has no interaction.
    """
    for split in ("test", "valid", "train"):
        count = dataset.num_interactions(split)
        if count == 0:
            continue
        wanted = min(count, TUNING_QUERIES + CHECKED_QUERIES)
        records = dataset.interactions_at(split, np.random.default_rng(1).choice(count, wanted, replace=False))
        tuning = max(1, wanted * TUNING_QUERIES // (TUNING_QUERIES + CHECKED_QUERIES))
        return records[:tuning], records[tuning:] if wanted > 1 else records
    raise ExportError(
        f"the dataset {dataset.directory} has no interaction to check the servable with; run `dpsr prepare` again"
    )


def embedded_requests(
    model: Model, dataset: Dataset, items: ItemRows, records: np.ndarray, filters: Filters
) -> ParityExamples:
    """Records as requests, with the heads that a model has for them.

    Args:
        model: its query tower.
        dataset: what it was trained on.
        items: by the rows of the index.
        records: INTERACTION [n].
        filters: over the items.
    """
    heads = embed_queries(model, dataset, np.concatenate([anonymous(records), records]))
    return _requests(dataset, items, records, filters, model.config.history_length, heads)


def text_requests(dataset: Dataset, items: ItemRows, records: np.ndarray, filters: Filters) -> ParityExamples:
    """``embedded_requests`` of a servable without vectors."""
    heads = np.zeros((2 * len(records), 0, 0), np.float32)
    return _requests(dataset, items, records, filters, 0, heads)


def _requests(
    dataset: Dataset,
    items: ItemRows,
    records: np.ndarray,
    filters: Filters,
    history_length: int,
    heads: np.ndarray,
) -> ParityExamples:
    """Records as requests; ``heads`` are those of the queries alone, and then those with profile and history."""
    sent = history_length + _SENT
    return ParityExamples(
        item_ids=arrow_ids(items.item_ids[items.live_rows]),
        inputs={"query": strings(dataset.query_texts().take(records["query"]).to_pylist())},
        heads=heads[: len(records)],
        personalized=PersonalizedExamples(
            tokens=[dataset.query_tokens[row].tolist() for row in records["query"].tolist()],
            profile={
                name: _profile_values(dataset, column, records["user"])
                for column, name in profile_inputs(dataset.schema.profile).items()
            },
            history=[
                dataset.item_ids[dataset.history[user][:end][-sent:]].tolist() if user >= 0 else []
                for user, end in zip(records["user"].tolist(), records["history_end"].tolist(), strict=True)
            ],
            heads=heads[len(records) :],
        ),
        no_filter=filters.without(),
        filter=filters.example(),
        matching_rows=filters.matching_rows(filters.example(), len(items)),
    )


def _profile_values(dataset: Dataset, column: str, users: np.ndarray) -> list[str]:
    """The strings a client would send; "" for what is missing, and a value no vocabulary has for a rare one."""
    vocabulary = dataset.vocabularies[f"users.{column}"]
    unknown = "?" + max(vocabulary, key=len, default="")
    values = ["", *vocabulary, unknown]
    return [values[dataset.user_profile[column][user]] if user >= 0 else "" for user in users.tolist()]
