"""Export of towers of another make: a query model and the vectors of its items become a published servable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from dpsr.config import ConfigError, IndexConfig, parse_index_config
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.dense.build import build_index
from dpsr.indexing.dense.searcher import DenseSearcher
from dpsr.indexing.disk import bytes_of, most_words, require_free
from dpsr.indexing.errors import ExportError
from dpsr.indexing.filters import Filters
from dpsr.indexing.fresh_process import fresh_process
from dpsr.indexing.held_out import CHECKED_QUERIES, TUNING_QUERIES
from dpsr.indexing.parity import ParityExamples, arrow_ids
from dpsr.indexing.publish import publish_checked
from dpsr.indexing.searchers import Searchers, join_searchers
from dpsr.indexing.towers.items import Items, checked_vectors, embedded_items, read_items
from dpsr.indexing.towers.query_model import QueryModel, example_inputs
from dpsr.indexing.towers.servable import TowersModule
from dpsr.indexing.towers.words import Words, check_no_words
from dpsr.indexing.versions import staging_directory

_ENOUGH_QUERIES = 128
"""Examples from which half of them tune the index, and the others check it."""


def export_towers(
    query_model: Callable[..., Any],
    items: Any,
    *,
    base_path: str | Path,
    queries: Any,
    item_vectors: Any = None,
    candidate_model: Callable[..., Any] | None = None,
    candidate_columns: str | Sequence[str] = (),
    id_column: str = "item_id",
    input_name: str = "query",
    filters: Sequence[str] = (),
    text: Sequence[str] = (),
    text_input: str | None = None,
    clicked: Any = None,
    progress: bool = True,
    **index: Any,
) -> Path:
    """Publishes a query model, an index over the vectors of its items and their ids as the next version of a servable.

    An item's score is the inner product of its vector with the query's, the largest of all heads. Vectors may have any
    length; for the cosine let both models end in ``tf.math.l2_normalize``.

    Args:
        query_model: gives float32 [B, d], or [B, m, d] of m heads. A Keras or TensorFlow Recommenders model, a
            ``tf.Module`` with ``__call__``, or what ``tf.saved_model.load`` returns.
        items: pyarrow table, pandas data frame, or path of a Parquet file; a row for each item.
        base_path: directory of the versions; its last part is the model's name for servers.
        queries: example inputs of the query model: ``{input: values [n, ...]}`` for a model that reads a dict, or the
            values of its only input. Names, types and shapes of the servable's inputs are theirs (Python's and NumPy's
            floats become float32, integers but int32 int64). The examples check the servable and warm it up; from 128
            on, half of them tune an approximate index, which is tuned on perturbed vectors of items otherwise.
        item_vectors: numbers [items, d], in the order of the items; or else
        candidate_model: gives float32 [n, d] of columns of the items, 4,096 items at a time.
        candidate_columns: the column whose tensor it takes, or a list of columns for a model that takes a dict.
        id_column: column of the item ids, integers or strings.
        input_name: name of the input where ``queries`` are the values of a single one.
        filters: columns that a request may filter by, the value being equal; ``filter_range`` names numeric ones for
            ranges.
        text: text columns that are searched by words (mode ``hybrid``).
        text_input: the input of ``queries`` that holds the words of a query, string [B]. By default the only input.
        clicked: the id of the item that each of ``queries`` led to [n]. The pairs choose how the lists of both
            searchers are joined; without them it is by ``reciprocal_ranks`` with ``dense_weight = 1``.
        progress: show progress bars.
        **index: keys of section ``[index]`` of a configuration: ``k``, ``min_recall``, ``keep_versions``, ...

    Returns:
        The published version's directory.

    Raises:
        ConfigError: a key of ``index`` is unknown or out of its range.
        ExportError: arguments do not fit together, or the servable does not load in a fresh process, answer as the
            query model does and reach ``min_recall``. Nothing is published then, and older versions stay as they are.
    """
    config = _index_config(index, text)
    examples = example_inputs(queries, input_name)
    model = QueryModel(query_model, examples, by_name=isinstance(queries, Mapping))
    candidates = [candidate_columns] if isinstance(candidate_columns, str) else candidate_columns
    columns = {"filters": filters, "filter_range": config.filter_range, "text": text, "candidate_columns": candidates}
    catalogue = read_items(items, id_column, columns)
    check_no_words(text, text_input, clicked)
    words = Words.of(text_input, clicked, examples, catalogue.ids) if text else None
    if candidate_model is None:
        vectors = checked_vectors(item_vectors, catalogue, model.dimension, "item_vectors")
    elif item_vectors is not None or not candidates:
        raise ExportError("candidate_model goes with candidate_columns, the columns it reads, and without item_vectors")
    else:
        embedded = embedded_items(candidate_model, catalogue, candidate_columns, progress=progress)
        vectors = checked_vectors(embedded, catalogue, model.dimension, "candidate_model")
    manifest = {
        "items_file": str(items) if isinstance(items, str | Path) else None,
        "inputs": {name: f"{spec.dtype.name} {spec.shape.as_list()}" for name, spec in model.specs.items()},
        "config": {"index": config.model_dump(mode="json")},
    }
    towers = _Towers(config, model, examples, catalogue, vectors, tuple(filters), tuple(text), words)
    return _publish(towers, Path(base_path).absolute(), manifest, progress=progress)


class _Towers(NamedTuple):
    """What an export publishes."""

    config: IndexConfig
    model: QueryModel
    examples: dict[str, np.ndarray]
    items: Items
    vectors: np.ndarray
    """float32 [items, d]."""
    filters: tuple[str, ...]
    text: tuple[str, ...]
    words: Words | None


def _publish(towers: _Towers, base: Path, manifest: dict[str, Any], *, progress: bool) -> Path:
    config, model, items, words = towers.config, towers.model, towers.items, towers.words
    require_free(base, _needed_bytes(towers))
    tuning, checked = _parts(towers.examples)
    with (
        staging_directory(base) as staging,
        fresh_process() as process,
        tqdm(total=4, desc="exporting", unit="step", disable=not progress) as steps,
    ):
        heads, rows = model.embed(checked), ItemRows(items.ids, items.table)
        tuned_on = _perturbed(towers.vectors) if tuning is None else model.embed(tuning)
        filters = Filters(items.table, towers.filters, config.filter_range)
        index = build_index(config, towers.vectors, tuned_on)
        dense = DenseSearcher(index, model, filters)
        searchers = Searchers(dense, dense)
        if words is not None:
            choose_fusion = partial(words.choose_fusion, config, model)
            searchers = join_searchers(config, dense, filters, rows, towers.text, staging, choose_fusion)
        text_input = None if words is None else words.text_input
        servable = TowersModule(model, items.ids, searchers.searcher, filters, text_input=text_input)
        examples = ParityExamples(
            item_ids=arrow_ids(items.ids),
            inputs=checked,
            heads=heads,
            no_filter=filters.without(),
            filter=filters.example(),
            matching_rows=filters.matching_rows(filters.example(), len(items)),
        )
        manifest |= {"index_tuned_on": "perturbed item vectors" if tuning is None else "queries"}
        steps.update()
        return publish_checked(
            process,
            servable,
            searchers,
            examples,
            staging,
            config,
            manifest,
            base=base,
            steps=steps,
            rows=rows,
            vectors=towers.vectors,
            texts=text_input or "",
        )


def _needed_bytes(towers: _Towers) -> int:
    config, model = towers.config, towers.model
    filters = len(towers.filters) + len(config.filter_range)
    return bytes_of(
        config,
        pa.chunked_array([pa.array(towers.items.ids)]),
        model.dimension,
        model.variables(),
        columns=filters,
        words=most_words(towers.items.table, towers.text),
    )


def _index_config(index: dict[str, Any], text: Sequence[str]) -> IndexConfig:
    """The configuration of the index, whose mode the text columns decide."""
    mode = "hybrid" if text else "dense"
    config = parse_index_config({"mode": mode, **index}, "export_towers")
    if config.mode != mode:
        raise ConfigError(
            f'mode = "{config.mode}": found text = {list(text)}; the mode hybrid has text columns, dense none'
        )
    if config.memory is not None:
        raise ConfigError("memory is of the log that dpsr has prepared; leave it out")
    if config.lexical.popularity:
        raise ConfigError("lexical.popularity is of the log that dpsr has prepared; leave it out")
    if config.text_encoder_precision != "float32":
        raise ConfigError("text_encoder_precision is of towers that dpsr has trained; leave it out")
    return config


def _parts(examples: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray] | None, dict[str, np.ndarray]]:
    """Examples that tune an index, None where there are too few, and others that check it."""
    rows = np.random.default_rng(1).permutation(len(next(iter(examples.values()))))
    tuning = min(len(rows) // 2, TUNING_QUERIES) if len(rows) >= _ENOUGH_QUERIES else 0
    checked = rows[tuning : tuning + CHECKED_QUERIES]
    of_rows = [{name: values[part] for name, values in examples.items()} for part in (rows[:tuning], checked)]
    return (of_rows[0] if tuning else None), of_rows[1]


def _perturbed(vectors: np.ndarray) -> np.ndarray:
    """Vectors of random items, each with noise of its own length; float32 [n, 1, d]."""
    rng = np.random.default_rng(1)
    chosen = vectors[rng.choice(len(vectors), min(len(vectors), TUNING_QUERIES), replace=False)]
    noise = rng.standard_normal(chosen.shape, np.float32)
    noise *= np.linalg.norm(chosen, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    return (chosen + noise)[:, np.newaxis]
