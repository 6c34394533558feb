"""Export of a servable of words alone, which needs a prepared dataset and no model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tqdm import tqdm

from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.disk import bytes_of, most_words, require_free
from dpsr.indexing.errors import ExportError
from dpsr.indexing.filters import Filters
from dpsr.indexing.fresh_process import fresh_process
from dpsr.indexing.held_out import held_out_records, text_requests
from dpsr.indexing.lexical.tuned import with_tuned
from dpsr.indexing.lexical_servable import LexicalModule
from dpsr.indexing.publish import check_columns, check_log, check_tokenizer, publish_checked, run_manifest
from dpsr.indexing.searchers import build_lexical_searcher
from dpsr.indexing.versions import staging_directory


def export_lexical(
    config: Config,
    dataset: Dataset,
    *,
    items: str | None = None,
    log: str | None = None,
    since: str | None = None,
    progress: bool = True,
) -> Path:
    """``publish.export`` for ``index.mode = "lexical"``: nothing is trained or embedded.

    Args:
        config: the run; ``index`` decides what of words and clicks is searched.
        dataset: the catalogue to serve, and the held-out queries that the servable is checked with.
        items: as of ``publish.export``.
        log: as of ``publish.export``.
        since: a version cannot be taken over.
        progress: show progress bars.

    Returns:
        The published version's directory.

    Raises:
        ExportError: no item has a word, the disk is too small, ``since`` is given, or the servable does not load in a
            fresh process and give the lists of its searchers. Nothing is published then.
        DatasetError: the items or the log cannot be used.
        ConfigError: as ``publish.export``.
    """
    if since is not None:
        raise ExportError(
            f'--since {since}: a version of index.mode = "lexical" embeds nothing, so that there is nothing to take '
            "over; run `dpsr export` without --since"
        )
    config = with_tuned(config)
    check_log(config.index, log)
    check_tokenizer(dataset)
    catalogue = ItemRows.of_dataset(dataset) if items is None else ItemRows.read(items, config, dataset)
    check_columns(config, dataset, catalogue)
    base, schema = config.model_base_path, dataset.schema
    require_free(base, _needed_bytes(config, dataset, catalogue))
    checked = held_out_records(dataset)[1]
    with (
        staging_directory(base) as staging,
        fresh_process() as process,
        tqdm(total=4, desc="exporting", unit="step", disable=not progress) as steps,
    ):
        filters = Filters(catalogue.table, schema.categorical, config.index.filter_range)
        searchers = build_lexical_searcher(config, dataset, catalogue, filters, staging, log=log)
        steps.update()
        return publish_checked(
            process,
            LexicalModule(dataset, catalogue, searchers.searcher, filters),
            searchers,
            text_requests(dataset, catalogue, checked, filters),
            staging,
            config.index,
            run_manifest(config, dataset, items),
            base=base,
            steps=steps,
            rows=catalogue,
            vectors=np.zeros((0, 0), np.float32),
        )


def _needed_bytes(config: Config, dataset: Dataset, items: ItemRows) -> int:
    return bytes_of(
        config.index,
        items.table.column("item_id"),
        0,
        (),
        columns=len(dataset.schema.categorical) + len(config.index.filter_range),
        words=most_words(items.table, dataset.schema.text),
    )
