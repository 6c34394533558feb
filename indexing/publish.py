"""Export: item vectors, index and servable, checked in a fresh process, and only then published."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dpsr import __version__
from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import Catalogue, ItemRows
from dpsr.indexing.corpus import embed_queries
from dpsr.indexing.dense.segments import VectorIndex
from dpsr.indexing.disk import export_bytes, require_free
from dpsr.indexing.errors import ExportError
from dpsr.indexing.filters import Filters, numeric_column
from dpsr.indexing.fingerprints import model_fingerprint, row_fingerprints
from dpsr.indexing.fresh_process import fresh_process, verify_in_fresh_process
from dpsr.indexing.incremental.base_version import read_base_version
from dpsr.indexing.incremental.indexed import indexed_items
from dpsr.indexing.incremental.item_files import RowContents
from dpsr.indexing.incremental.takeover import take_over
from dpsr.indexing.manifest import write_manifest
from dpsr.indexing.parity import ParityExamples
from dpsr.indexing.searcher import Searcher
from dpsr.indexing.searchers import anonymous, build_searchers
from dpsr.indexing.servable import RetrievalModule
from dpsr.indexing.signature import MODE_INPUT, RETRIEVING, profile_inputs
from dpsr.indexing.text_encoder import describe_text_encoder
from dpsr.indexing.versions import publish, remove_old_versions, staging_directory
from dpsr.indexing.warmup import WARMUP_FILE, predict_request, write_warmup_requests
from dpsr.model.feature_tables import truncation_notes
from dpsr.model.inference_model import for_inference
from dpsr.model.interface import Model
from dpsr.tokenizer_cc import Tokenizer

_TUNING_QUERIES = 256
_CHECKED_QUERIES = 256
_CHECKED_OF_SEGMENTS = 64
"""The base segment was checked on more when it was built."""
_WARMUP_ROWS = 8


def export(
    config: Config,
    dataset: Dataset,
    model: Model,
    *,
    items: str | None = None,
    since: str | None = None,
    progress: bool = True,
) -> Path:
    """Publishes tokenizer, query tower, index and item ids as the next version of ``config.model_base_path``.

    An export that is killed while it embeds items resumes where it was when it is called again.

    Args:
        config: the run; ``index`` decides the index, its recall bar and how many versions are kept.
        dataset: the catalogue to serve, and the held-out interactions that the index is tuned and checked on.
        model: trained on the same tokenizer and columns.
        items: a file or glob of items to serve instead of the dataset's; the model need not have seen any of them.
        since: a published version, its number or ``latest``, whose index and vectors are used for the items that have
            not changed; see ``docs/servable.md``.
        progress: show progress bars.

    Returns:
        The published version's directory.

    Raises:
        ExportError: model and dataset do not belong together, the disk is too small, or the servable does not load in a
            fresh process, answer as the model does and reach ``index.min_recall``. Nothing is published then, and no
            version is left behind.
        DatasetError: the items cannot be used.
    """
    _check_belong_together(dataset, model)
    fingerprint = model_fingerprint(model)
    version = None if since is None else read_base_version(config, dataset, since, model, fingerprint)
    catalogue = Catalogue.of_dataset(dataset) if items is None else Catalogue.read(items, config, dataset)
    _check_columns(config, dataset, catalogue)
    for note in truncation_notes(model.config, dataset) if progress else ():
        tqdm.write(note)
    contents = RowContents.of(catalogue.table.column("item_id"), row_fingerprints(model, catalogue))
    earlier = None if version is None else take_over(config.index, version, contents)
    if earlier is not None and progress:
        tqdm.write(earlier.note())
    base = config.model_base_path
    sizes = {} if earlier is None else {"rows": earlier.rows, "embedded": len(earlier.embedded)}
    require_free(base, export_bytes(config.index, dataset.schema, model, catalogue, **sizes))
    tuning, checked = _held_out_records(dataset)
    if earlier is not None and not earlier.merged:
        checked = checked[:_CHECKED_OF_SEGMENTS]
    precision = config.index.text_encoder_precision
    served = for_inference(model, precision)
    with (
        indexed_items(
            config, dataset, model, served, catalogue, contents, tuning, earlier=earlier, progress=progress
        ) as indexed,
        staging_directory(base) as staging,
        fresh_process() as process,
        tqdm(total=4, desc="exporting", unit="step", disable=not progress) as steps,
    ):
        rows, vectors, index = indexed.rows, indexed.vectors, indexed.index
        filters = Filters(rows, dataset.schema.categorical, config.index.filter_range)
        fusion = None if earlier is None else earlier.fusion(config.index)
        searchers = build_searchers(config, dataset, served, rows, index, filters, staging, fusion=fusion)
        steps.update()
        path, examples_dir = staging / "servable", staging / "examples"
        servable = RetrievalModule(served, dataset, searchers.searcher, filters, catalogue=rows)
        servable.save(path)
        # In float32 the servable has to answer as the model was trained, in int8 as the towers that are served.
        answering = model if precision == "float32" else served
        examples = _examples(answering, dataset, rows, vectors, checked, filters)
        examples = searchers.with_expected_lists(examples).among_items(rows.live_rows)
        _write_warmup(path / WARMUP_FILE, config.name, examples, searchers.searcher)
        examples_dir.mkdir()
        examples.write(examples_dir)
        steps.update()
        recall = verify_in_fresh_process(process, path, examples_dir)
        _check_recall(recall, config, index)
        steps.update()
        manifest = _manifest(config, dataset, model, servable, items)
        manifest["model_fingerprint"] = fingerprint
        if earlier is not None:
            manifest["since"] = earlier.describe()
        manifest |= searchers.describe({**recall, "queries": len(checked)})
        if model.config.reads_subwords:
            exact, heads = embed_queries(model, dataset, checked), examples.personalized_heads
            manifest["text_encoder"] = describe_text_encoder(precision, exact, heads, vectors, index.k)
        write_manifest(path, manifest)
        indexed.contents.write(path)
        published = publish(path, base)
        remove_old_versions(base, config.index.keep_versions)
        steps.update()
        return published


def _check_belong_together(dataset: Dataset, model: Model) -> None:
    """One tokenizer in all of them, and the columns that the model was trained on."""
    file = Tokenizer.load(dataset.tokenizer_path).fingerprint
    of_dataset, of_model = dataset.schema.tokenizer_fingerprint, model.schema.tokenizer_fingerprint
    if file != of_dataset:
        raise ExportError(
            f"{dataset.tokenizer_path} has fingerprint {file}, but the dataset's manifest says {of_dataset}; "
            "run `dpsr prepare` again"
        )
    if of_dataset != of_model:
        raise ExportError(
            f"the model was trained with tokenizer {of_model}, but the dataset {dataset.directory} has tokenizer "
            f"{of_dataset}; export with the dataset it was trained on, or train again"
        )
    columns = ["text", "categorical", "profile"]
    columns += ["num_items"] * model.has_history + ["subwords"] * model.config.reads_subwords
    for name in columns:
        trained, found = getattr(model.schema, name), getattr(dataset.schema, name)
        if trained != found:
            raise ExportError(
                f"the model was trained with {name} = {trained}, but the dataset {dataset.directory} has {found}; "
                "export with the dataset it was trained on, or train again"
            )


def _check_columns(config: Config, dataset: Dataset, catalogue: Catalogue) -> None:
    """Raises what the servable would raise of its input columns, before the items are embedded."""
    profile_inputs(dataset.schema.profile)
    for column in config.index.filter_range:
        numeric_column(catalogue.table, column)


def _held_out_records(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Records to tune the index on and others to check it with, of the latest split that has any; INTERACTION [n]."""
    for split in ("test", "valid", "train"):
        count = dataset.num_interactions(split)
        if count == 0:
            continue
        wanted = min(count, _TUNING_QUERIES + _CHECKED_QUERIES)
        records = dataset.interactions_at(split, np.random.default_rng(1).choice(count, wanted, replace=False))
        tuning = max(1, wanted * _TUNING_QUERIES // (_TUNING_QUERIES + _CHECKED_QUERIES))
        return records[:tuning], records[tuning:] if wanted > 1 else records
    raise ExportError(
        f"the dataset {dataset.directory} has no interaction to check the servable with; run `dpsr prepare` again"
    )


def _examples(
    model: Model,
    dataset: Dataset,
    items: ItemRows,
    vectors: np.ndarray,
    records: np.ndarray,
    filters: Filters,
) -> ParityExamples:
    # More than the model reads, so that the servable has to choose the most recent ones.
    sent = model.config.history_length + 5
    heads = embed_queries(model, dataset, np.concatenate([anonymous(records), records]))
    return ParityExamples(
        item_ids=items.item_ids[items.live_rows].tolist(),
        queries=dataset.query_texts().take(records["query"]).to_pylist(),
        profile={
            name: _profile_values(dataset, column, records["user"])
            for column, name in profile_inputs(dataset.schema.profile).items()
        },
        history=[
            dataset.item_ids[dataset.history[user][:end][-sent:]].tolist() if user >= 0 else []
            for user, end in zip(records["user"].tolist(), records["history_end"].tolist(), strict=True)
        ],
        tokens=[dataset.query_tokens[row].tolist() for row in records["query"].tolist()],
        anonymous_heads=heads[: len(records)],
        personalized_heads=heads[len(records) :],
        item_vectors=vectors,
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


def _write_warmup(path: Path, name: str, examples: ParityExamples, searcher: Searcher) -> None:
    personalized = examples.personalized_inputs()
    query = {"query": personalized["query"]}
    inputs = {"serving_default": query, "personalized": personalized, "embed_query": query, "tokenize": query}
    if examples.filter:
        inputs["filtered"] = examples.filtered_inputs(examples.filter)
    if searcher.modes:
        of_each = {MODE_INPUT: np.full(len(query["query"]), b"", object)}
        inputs |= {name: inputs[name] | of_each for name in RETRIEVING if name in inputs}
    path.parent.mkdir()
    requests = [
        predict_request(name, signature, {key: values[:rows] for key, values in arrays.items()})
        for signature, arrays in inputs.items()
        for rows in (1, _WARMUP_ROWS)
    ]
    write_warmup_requests(path, requests)


def _check_recall(recall: dict[str, float], config: Config, index: VectorIndex) -> None:
    signature = min(recall, key=lambda name: recall[name])
    if recall[signature] < config.index.min_recall:
        raise ExportError(
            f"recall@{index.k} of signature {signature} is {recall[signature]:.4f} against exact search, below "
            f"index.min_recall = {config.index.min_recall} (index: {index.describe()}); nothing was published; search "
            "exactly by raising index.exact_below, or lower the bar"
        )


def _manifest(
    config: Config,
    dataset: Dataset,
    model: Model,
    servable: RetrievalModule,
    items_file: str | None,
) -> dict[str, Any]:
    return {
        "name": config.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "dpsr_version": __version__,
        "tokenizer_fingerprint": dataset.schema.tokenizer_fingerprint,
        "items": servable.num_items,
        "items_file": items_file,
        "item_id_type": dataset.schema.item_id_type,
        "dimension": model.config.dimension,
        "heads": model.config.heads,
        "filters": sorted(servable.filters.specs),
        "config": config.model_dump(mode="json"),
    }
