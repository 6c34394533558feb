"""The items of an export with their vectors and their index: all anew, or from those of a published version."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import Catalogue, ItemRows
from dpsr.indexing.corpus import embed_catalogue, embed_queries
from dpsr.indexing.dense.build import build_index
from dpsr.indexing.dense.segments import SegmentedIndex, VectorIndex
from dpsr.indexing.embedded_rows import embedded_rows
from dpsr.indexing.incremental.item_files import RowContents
from dpsr.indexing.incremental.takeover import Takeover
from dpsr.model.interface import Model


@dataclass(frozen=True)
class IndexedItems:
    """The items of an export by the rows of its index."""

    rows: ItemRows
    index: VectorIndex
    vectors: np.ndarray
    """float32 [items, d], of ``rows.live_rows``, by the model; or, where the index has no others, of its precision."""
    contents: RowContents
    """Of all rows."""


@contextlib.contextmanager
def indexed_items(
    config: Config,
    dataset: Dataset,
    model: Model,
    served: Model,
    catalogue: Catalogue,
    contents: RowContents,
    records: np.ndarray,
    *,
    earlier: Takeover | None,
    progress: bool,
) -> Iterator[IndexedItems]:
    """Embeds items and indexes them; vectors that a killed export embedded are used, and kept until the block ends.

    Args:
        config: the run.
        dataset: what the model was trained on.
        model: its item tower embeds.
        served: its query tower embeds ``records``.
        catalogue: the items.
        contents: theirs.
        records: INTERACTION [n]; a new index is tuned on their queries.
        earlier: what is taken over; None for a new index over new vectors.
        progress: show a progress bar.

    Raises:
        ExportError: another process is embedding the same items.
    """
    embedded = catalogue if earlier is None else catalogue.take(earlier.embedded)
    with _embedded(Path(config.work_dir) / "embeddings", model, embedded, progress) as vectors:
        if earlier is not None and not earlier.merged:
            yield _segmented(config, catalogue, contents, earlier, vectors)
            return
        if earlier is not None and len(earlier.embedded) < len(catalogue):
            vectors = earlier.vectors(vectors)
        index = build_index(config.index, vectors, embed_queries(served, dataset, records))
        yield IndexedItems(catalogue, index, vectors, contents)


def _segmented(
    config: Config, catalogue: Catalogue, contents: RowContents, earlier: Takeover, embedded: np.ndarray
) -> IndexedItems:
    found, base, fresh = earlier.difference, earlier.version.read_index(), earlier.fresh_vectors(embedded)
    kept = found.kept
    vectors = np.empty((len(kept) + len(fresh), embedded.shape[1]), np.float32)
    base.read_vectors(kept, vectors[: len(kept)])
    vectors[len(kept) :] = fresh
    return IndexedItems(
        catalogue.placed(found.order),
        SegmentedIndex(base, fresh, found.removed, config.index.k),
        vectors,
        earlier.version.contents_of_base + contents.take(found.fresh),
    )


@contextlib.contextmanager
def _embedded(directory: Path, model: Model, catalogue: Catalogue, progress: bool) -> Iterator[np.ndarray]:
    """The vectors of a catalogue, float32 [items, d]."""
    if not len(catalogue):
        yield np.empty((0, model.config.dimension), np.float32)
        return
    with embedded_rows(directory, model, catalogue) as rows:
        yield embed_catalogue(model, catalogue, progress=progress, resume_from=rows)
