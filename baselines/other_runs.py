"""Other trained two towers over the same catalogue, each with tokenizers and item vectors of its own.

A transformer that reads query and item apart, trained by ``dpsr train``, takes part in a comparison in this way (a
bi-encoder: Reimers and Gurevych, EMNLP 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.baselines.context import Baseline, BuildContext, Need
from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import ExhaustiveRetriever
from dpsr.baselines.two_tower import TwoTowerRetriever
from dpsr.data.dataset.schema import INTERACTION, DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.corpus import embed_items
from dpsr.model.interface import OtherRun


class OtherRunRetriever(ExhaustiveRetriever):
    """The two towers of another run: queries are texts without a user; items that it lacks are not retrieved."""

    def __init__(self, towers: TwoTowerRetriever, rows: np.ndarray) -> None:
        """Takes the towers, and the row of each item in their catalogue, int64 [items]; -1 where it has none."""
        super().__init__(len(rows))
        self._towers = towers
        self._rows = rows

    @property
    def index(self) -> str:
        """As ``ExhaustiveRetriever.index``."""
        return self._towers.index

    @property
    def index_bytes(self) -> int:
        """As ``ExhaustiveRetriever.index_bytes``: the item vectors of the other catalogue, and the rows in it."""
        return self._towers.index_bytes + self._rows.nbytes

    def score_all(self, examples: QueryExamples) -> np.ndarray:
        """As ``ExhaustiveRetriever.score_all``; minus infinity for an item that the other catalogue lacks."""
        records = np.zeros(len(examples), INTERACTION)
        records["user"] = -1
        found = self._towers.score_all(QueryExamples(examples.texts, records, examples.tie_keys))
        scores: np.ndarray = np.where(self._rows < 0, -np.inf, found[:, self._rows]).astype(np.float32)
        return scores


def run_entries(runs: Mapping[str, OtherRun]) -> dict[str, Baseline]:
    """Entries of the registry for trained runs by name.

    Raises:
        DatasetError: when an entry is built, of a run whose catalogue has no item of the comparison's.
    """
    return {name: Baseline(name, partial(_other_run, name, run), frozenset({Need.RUN})) for name, run in runs.items()}


def _other_run(name: str, run: OtherRun, context: BuildContext) -> OtherRunRetriever:
    model, theirs = run()
    rows = _item_rows(theirs, context.dataset)
    missing = int((rows < 0).sum())
    if missing == len(rows):
        raise DatasetError(
            f"evaluation.runs: {name!r}: {theirs.directory} has none of the {len(rows):,} items of "
            f"{context.dataset.directory}; name a run over the same catalogue"
        )
    if missing:
        context.notes.append(f"{name}: {missing:,} of {len(rows):,} items are not in its catalogue, and not retrieved.")
    if model.has_history or (model.config.profile and model.schema.profile):
        context.notes.append(f"{name}: its model knows users; here it reads queries without their users.")
    vectors = embed_items(model, theirs, progress=context.progress)
    return OtherRunRetriever(TwoTowerRetriever(model, theirs, vectors), rows)


def _item_rows(theirs: Dataset, ours: Dataset) -> np.ndarray:
    """The row of each of our items in their catalogue, int64 [items]; -1 where it has none."""
    there, here = (pa.array(map(str, dataset.item_ids.tolist()), pa.string()) for dataset in (theirs, ours))
    rows: np.ndarray = pc.fill_null(pc.index_in(here, value_set=there), -1).to_numpy().astype(np.int64)
    return rows
