"""Export: item vectors, index and servable, checked in a fresh process, and only then published."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dpsr import __version__
from dpsr.config import Config, IndexConfig
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import Catalogue, ItemRows
from dpsr.indexing.corpus import embed_queries
from dpsr.indexing.dense.exact import kth_scores, recall_at_k
from dpsr.indexing.dense.segments import VectorIndex
from dpsr.indexing.disk import export_bytes, require_free
from dpsr.indexing.errors import ExportError
from dpsr.indexing.filters import Filters, numeric_column
from dpsr.indexing.fingerprints import model_fingerprint, row_fingerprints
from dpsr.indexing.fresh_process import FreshProcess, fresh_process, verify_in_fresh_process
from dpsr.indexing.held_out import embedded_requests, held_out_records
from dpsr.indexing.incremental.base_version import read_base_version
from dpsr.indexing.incremental.indexed import indexed_items
from dpsr.indexing.incremental.item_files import RowContents
from dpsr.indexing.incremental.takeover import take_over
from dpsr.indexing.lexical.tuned import with_tuned
from dpsr.indexing.manifest import write_manifest
from dpsr.indexing.parity import ParityExamples
from dpsr.indexing.searchers import Chosen, Searchers, build_searchers
from dpsr.indexing.servable import RetrievalModule
from dpsr.indexing.servable_module import ServableModule
from dpsr.indexing.shards import link_shared
from dpsr.indexing.signature import LEXICAL_MODE, MODE_INPUT, RETRIEVING, profile_inputs
from dpsr.indexing.text_encoder import describe_text_encoder
from dpsr.indexing.versions import publish, remove_old_versions, staging_directory
from dpsr.indexing.warmup import WARMUP_FILE, predict_request, write_warmup_requests
from dpsr.model.feature_tables import truncation_notes
from dpsr.model.inference_model import for_inference
from dpsr.model.interface import Model
from dpsr.tokenizer_cc import Tokenizer

_CHECKED_OF_SEGMENTS = 64
"""The base segment was checked on more when it was built."""
_WARMUP_ROWS = 8


def export(
    config: Config,
    dataset: Dataset,
    model: Model,
    *,
    items: str | None = None,
    log: str | None = None,
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
        log: a file or glob of clicks for ``index.memory`` instead of the run's own log.
        since: a published version, its number or ``latest``, whose index and vectors are used for the items that have
            not changed; see ``docs/servable.md``.
        progress: show progress bars.

    Returns:
        The published version's directory.

    Raises:
        ExportError: model and dataset do not belong together, the disk is too small, or the servable does not load in a
            fresh process, answer as the model does and reach ``index.min_recall``. Nothing is published then, and no
            version is left behind.
        DatasetError: the items or the log cannot be used.
        ConfigError: what ``dpsr evaluate --tune`` wrote cannot be used; see ``with_tuned``.
    """
    if config.index.mode == LEXICAL_MODE:
        raise ExportError(
            'index.mode = "lexical" serves no model; call `lexical_export.export_lexical`, or `dpsr export`'
        )
    config = config if config.index.mode == "dense" else with_tuned(config)
    check_log(config.index, log)
    check_tokenizer(dataset)
    _check_belong_together(dataset, model)
    fingerprint = model_fingerprint(model)
    version = None if since is None else read_base_version(config, dataset, since, model, fingerprint)
    catalogue = Catalogue.of_dataset(dataset) if items is None else Catalogue.read(items, config, dataset)
    check_columns(config, dataset, catalogue)
    for note in truncation_notes(model.config, dataset) if progress else ():
        tqdm.write(note)
    contents = RowContents.of(catalogue.table.column("item_id"), row_fingerprints(catalogue, _texts_read(model)))
    earlier = None if version is None else take_over(config.index, version, contents)
    if earlier is not None and progress:
        tqdm.write(earlier.note())
    base = config.model_base_path
    sizes = {} if earlier is None else {"rows": earlier.rows, "embedded": len(earlier.embedded)}
    require_free(base, export_bytes(config.index, dataset.schema, model, catalogue, **sizes))
    tuning, checked = held_out_records(dataset)
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
        filters = Filters(rows.table, dataset.schema.categorical, config.index.filter_range)
        chosen = Chosen() if earlier is None else earlier.chosen(config.index)
        searchers = build_searchers(config, dataset, served, rows, index, filters, staging, log=log, chosen=chosen)
        steps.update()
        servable = RetrievalModule(served, dataset, searchers.searcher, filters, catalogue=rows)
        # In float32 the servable has to answer as the model was trained, in int8 as the towers that are served.
        answering = model if precision == "float32" else served
        examples = embedded_requests(answering, dataset, rows, checked, filters)
        manifest = run_manifest(config, dataset, items)
        manifest["model_fingerprint"] = fingerprint
        if earlier is not None:
            manifest["since"] = earlier.describe()
        if model.config.reads_subwords:
            exact, heads = (embed_queries(towers, dataset, checked) for towers in (model, answering))
            manifest["text_encoder"] = describe_text_encoder(precision, exact, heads, vectors, index.k)
        return publish_checked(
            process,
            servable,
            searchers,
            examples,
            staging,
            config.index,
            manifest,
            base=base,
            steps=steps,
            rows=rows,
            vectors=vectors,
            contents=indexed.contents,
            earlier=None if version is None else version.directory,
        )


def publish_checked(
    process: FreshProcess,
    servable: ServableModule,
    searchers: Searchers,
    examples: ParityExamples,
    staging: Path,
    index: IndexConfig,
    manifest: dict[str, Any],
    *,
    base: Path,
    steps: tqdm,
    rows: ItemRows,
    vectors: np.ndarray,
    contents: RowContents | None = None,
    earlier: Path | None = None,
    texts: str = "query",
) -> Path:
    """Saves a servable, checks it in a fresh process, and publishes it as the next version of ``base``.

    Args:
        process: checks it.
        servable: what is published.
        searchers: its searchers.
        examples: requests that the check sends; without the lists that it expects.
        staging: of ``staging_directory(base)``.
        index: the recall that is asked for, and how many versions are kept.
        manifest: what is known of the version beside what every version has.
        base: the directory of versions, which has the model's name.
        steps: advanced by three.
        rows: the items by the rows of the index.
        vectors: float32 [items, d], of ``rows.live_rows``; [0, 0] where no vectors are searched.
        contents: of these rows; None where no later export can take them over.
        earlier: a version whose files are shared where they are the same.
        texts: name of the input that holds the query texts.

    Returns:
        The published version's directory.

    Raises:
        ExportError: the servable does not load in a fresh process, answer as the Python side does and reach
            ``index.min_recall``. Nothing is published then.
    """
    path, examples_dir = staging / "servable", staging / "examples"
    with ThreadPoolExecutor(1) as beside:
        expected = beside.submit(searchers.with_expected_lists, examples, texts)
        servable.save(path)
        if earlier is not None:
            link_shared(path, earlier)
        examples = expected.result().among_items(rows.live_rows)
    _write_warmup(path / WARMUP_FILE, base.name, examples, searchers)
    examples_dir.mkdir()
    examples.write(examples_dir)
    steps.update()
    with ThreadPoolExecutor(1) as beside:
        verified = beside.submit(verify_in_fresh_process, process, path, examples_dir)
        # This process has a core for itself while the other one loads the servable.
        best = {} if searchers.dense is None else _expected_scores(examples, vectors, searchers.dense.k)
        recall = {
            signature: recall_at_k(vectors, _heads_of(signature, examples), item_rows, best[signature])
            for signature, item_rows in verified.result().items()
        }
    if searchers.dense is not None:
        _check_recall(recall, index, searchers.dense.index)
    steps.update()
    every = {
        "name": base.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "dpsr_version": __version__,
        "items": rows.num_items,
        "item_id_type": servable.item_id_type,
        "filters": sorted(servable.filters.specs),
    }
    if searchers.dense is not None:
        every |= {"dimension": examples.heads.shape[2], "heads": examples.heads.shape[1]}
    write_manifest(path, every | manifest | searchers.describe({**recall, "queries": len(examples)}, index.lexical))
    if contents is not None:
        contents.write(path)
    version = publish(path, base)
    remove_old_versions(base, index.keep_versions)
    steps.update()
    return version


def check_log(index: IndexConfig, log: str | None) -> None:
    """Raises ExportError for a log that nothing remembers."""
    if log is not None and index.memory is None:
        raise ExportError(f"log {log} was given, but nothing remembers its clicks; set index.memory")


def check_tokenizer(dataset: Dataset) -> None:
    """Raises ExportError where a dataset's tokenizer is not the one that it was prepared with."""
    file, of_dataset = Tokenizer.load(dataset.tokenizer_path).fingerprint, dataset.schema.tokenizer_fingerprint
    if file != of_dataset:
        raise ExportError(
            f"{dataset.tokenizer_path} has fingerprint {file}, but the dataset's manifest says {of_dataset}; "
            "run `dpsr prepare` again"
        )


def _texts_read(model: Model) -> list[str]:
    """The text columns that item tower, its frozen encoders and the lexical searcher read."""
    encoded = () if model.item_encoders is None else model.item_encoders.columns
    return sorted({*model.schema.text, *encoded})


def _check_belong_together(dataset: Dataset, model: Model) -> None:
    """One tokenizer in both, and the columns that the model was trained on."""
    of_dataset, of_model = dataset.schema.tokenizer_fingerprint, model.schema.tokenizer_fingerprint
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


def check_columns(config: Config, dataset: Dataset, items: ItemRows) -> None:
    """Raises what the servable would raise of its input columns, before anything is built."""
    profile_inputs(dataset.schema.profile)
    for column in config.index.filter_range:
        numeric_column(items.table, column)


def _heads_of(signature: str, examples: ParityExamples) -> np.ndarray:
    """The heads that a signature searches with, float32 [n, m, d]."""
    if signature == "personalized" and examples.personalized is not None:
        return examples.personalized.heads
    return examples.heads


def _expected_scores(examples: ParityExamples, vectors: np.ndarray, k: int) -> dict[str, np.ndarray]:
    """By signature the exact score of the k-th best item of each query, float32 [n]."""
    best = dict.fromkeys(RETRIEVING, kth_scores(vectors, examples.heads, k))
    heads = _heads_of("personalized", examples)
    if not np.array_equal(heads, examples.heads):  # equal where no tower reads profile or history
        best["personalized"] = kth_scores(vectors, heads, k)
    return best


def _write_warmup(path: Path, name: str, examples: ParityExamples, searchers: Searchers) -> None:
    inputs = {"serving_default": examples.inputs}
    if searchers.dense is not None:
        inputs["embed_query"] = examples.inputs
    if examples.personalized is not None:
        inputs |= {
            "personalized": examples.personalized_inputs(examples.personalized),
            "tokenize": examples.inputs,
        }
    if examples.filter:
        inputs["filtered"] = examples.filtered_inputs(examples.filter)
    if searchers.searcher.modes:
        of_each = {MODE_INPUT: np.full(len(examples), b"", object)}
        inputs |= {name: inputs[name] | of_each for name in RETRIEVING if name in inputs}
    path.parent.mkdir()
    requests = [
        predict_request(name, signature, {key: values[:rows] for key, values in arrays.items()})
        for signature, arrays in inputs.items()
        for rows in (1, _WARMUP_ROWS)
    ]
    write_warmup_requests(path, requests)


def _check_recall(recall: dict[str, float], config: IndexConfig, index: VectorIndex) -> None:
    signature = min(recall, key=lambda name: recall[name])
    if recall[signature] < config.min_recall:
        raise ExportError(
            f"recall@{index.k} of signature {signature} is {recall[signature]:.4f} against exact search, below "
            f"index.min_recall = {config.min_recall} (index: {index.describe()}); nothing was published; search "
            "exactly by raising index.exact_below, or lower the bar"
        )


def run_manifest(config: Config, dataset: Dataset, items_file: str | None) -> dict[str, Any]:
    """What the manifest of a version says of the run."""
    return {
        "tokenizer_fingerprint": dataset.schema.tokenizer_fingerprint,
        "items_file": items_file,
        "config": config.model_dump(mode="json"),
    }
