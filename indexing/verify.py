"""Loads an exported servable and checks its answers; run in a process of its own, as a server would load it.

``python -m dpsr.indexing.verify`` imports what it needs, reads the directories ``["SERVABLE", "EXAMPLES"]`` from its
standard input, writes the item rows that it found beside the examples, and prints ``{}`` or the error as JSON. The
process imports no model code, which proves that the SavedModel needs nothing but the op libraries.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from dpsr.indexing.parity import FOUND_FILE, ParityExamples
from dpsr.indexing.signature import LEXICAL_MODE, MEMORY, MEMORY_MODE, MODE_INPUT, item_key
from dpsr.indexing.warmup import WARMUP_FILE
from dpsr.ops_cc import library
from dpsr.ops_cc.head_merge import NO_SCORE

_HEAD_TOLERANCE = 1e-4
_LEAST_OVERLAP = 0.97
_BATCH = 32
_THREADS = 2
"""Most searches run on one core each, and so does the optimisation of a signature's graph."""

Answer = dict[str, np.ndarray]


class VerificationError(Exception):
    """The servable answers otherwise than the model, or lets an item through a filter."""


def verify(servable: Path, examples: ParityExamples) -> dict[str, np.ndarray]:
    """Checks every signature.

    Args:
        servable: the SavedModel's directory.
        examples: requests with the Python side's heads, or, of a servable without vectors, with its lists.

    Returns:
        int32 [n, k], the item rows that the dense searcher found for the examples, by signature; -1 for none. Empty
        without vectors.

    Raises:
        VerificationError: tokens or heads differ from the model's, a filter lets other items through, or there is no
            warm-up request.
    """
    loaded = tf.saved_model.load(str(servable))  # owns the tables and the tokenizer of its signatures
    call = {name: _caller(loaded.signatures[name]) for name in loaded.signatures}
    query, personalized = examples.inputs, examples.personalized
    has_modes = MODE_INPUT in loaded.signatures["serving_default"].structured_input_signature[1]
    searcher = "dense" if examples.searches_vectors else LEXICAL_MODE
    alone = {MODE_INPUT: _mode(searcher)} if has_modes else {}
    with ThreadPoolExecutor(_THREADS) as pool:

        def ask(signature: str, inputs: Mapping[str, np.ndarray]) -> Future[Answer]:
            return pool.submit(_in_batches, call[signature], inputs)

        asked = {"serving_default": ask("serving_default", query | alone)}
        if examples.searches_vectors:
            heads = ask("embed_query", query)
        wait(asked.values())  # the first search builds the searcher
        if personalized is not None:
            asked["personalized"] = ask("personalized", examples.personalized_inputs(personalized) | alone)
        if "filtered" in call:
            asked["filtered"] = ask("filtered", examples.filtered_inputs(examples.no_filter) | alone)
            configured = {MODE_INPUT: _mode("")} if has_modes else {}
            one_filter = ask("filtered", examples.filtered_inputs(examples.filter) | configured)
        lists = {LEXICAL_MODE: examples.lexical_rows, "hybrid": examples.hybrid_rows}
        by_mode = {
            mode: ask("serving_default", query | {MODE_INPUT: _mode(mode)}) for mode in lists if len(lists[mode])
        }

        if examples.searches_vectors:
            _check_heads(heads.result()["heads"], examples.heads)
        if personalized is not None:
            _check_tokens(call["tokenize"](query), personalized.tokens, examples)
        found = {signature: _item_rows(answer.result(), examples) for signature, answer in asked.items()}
        if "filtered" in call:
            _check_filter(one_filter.result(), examples)
        for mode, answer in by_mode.items():
            check_list(mode, _item_rows(answer.result(), examples), lists[mode], examples.query)
        if len(examples.remembered_rows):
            _check_memory(_in_batches(call["serving_default"], query | {MODE_INPUT: _mode(MEMORY_MODE)}), examples)
        _replay_warmup(servable / WARMUP_FILE, call, pool)
    if examples.searches_vectors:
        return found
    for rows in found.values():
        check_list(LEXICAL_MODE, rows, examples.lexical_rows, examples.query)
    return {}


def _caller(function: Callable[..., dict[str, tf.Tensor]]) -> Callable[[Mapping[str, np.ndarray]], Answer]:
    def call(inputs: Mapping[str, np.ndarray]) -> Answer:
        outputs = function(**{name: tf.constant(values) for name, values in inputs.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return call


def _mode(name: str) -> np.ndarray:
    return np.array([name.encode()], object)


def _in_batches(call: Callable[[Mapping[str, np.ndarray]], Answer], inputs: Mapping[str, np.ndarray]) -> Answer:
    rows = max(map(len, inputs.values()))
    answers = [
        call({name: values if len(values) == 1 else values[start : start + _BATCH] for name, values in inputs.items()})
        for start in range(0, rows, _BATCH)
    ]
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def _check_tokens(answer: Answer, tokens: list[list[int]], examples: ParityExamples) -> None:
    found = np.split(answer["values"], answer["row_splits"][1:-1])
    for row, (ids, expected) in enumerate(zip(found, tokens, strict=True)):
        if ids.tolist() != expected:
            raise VerificationError(
                f"{examples.query(row)}: signature tokenize gives {ids.tolist()}, the dataset has {expected}"
            )


def _check_heads(heads: np.ndarray, expected: np.ndarray) -> None:
    if heads.shape != expected.shape:
        raise VerificationError(f"signature embed_query gives heads {heads.shape}, the model gives {expected.shape}")
    difference = float(np.abs(heads - expected).max(initial=0.0))
    if not difference <= _HEAD_TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0))):
        raise VerificationError(f"heads of signature embed_query are up to {difference:g} away from the model's")


def check_list(mode: str, found: np.ndarray, expected: np.ndarray, query: Callable[[int], str]) -> None:
    """Compares lists as sets, as equal scores may part otherwise at the end of a list.

    Args:
        mode: what answered.
        found: int32 [n, k], the item rows of the servable's answers; -1 for no item.
        expected: the same of the searchers before they were saved.
        query: names the query of a row in an error.

    Raises:
        VerificationError: a query's lists share too little.
    """
    same = [_overlap(mine[mine >= 0], theirs[theirs >= 0]) for mine, theirs in zip(found, expected, strict=True)]
    worst = int(np.argmin(same))
    if same[worst] < _LEAST_OVERLAP:
        raise VerificationError(
            f"{query(worst)}: with {MODE_INPUT} = {mode} the servable finds {same[worst]:.0%} of "
            "the items that the searchers found before they were saved"
        )


def _overlap(found: np.ndarray, expected: np.ndarray) -> float:
    """The share of the longer list that is in both; 1 of two empty ones."""
    longer = max(len(found), len(expected))
    return len(np.intersect1d(found, expected)) / longer if longer else 1.0


def _item_rows(answer: Answer, examples: ParityExamples) -> np.ndarray:
    """int32 [B, K]; -1 for no item.

    Raises:
        VerificationError: an item is none of the catalogue, stands twice, or a place with a score has no item.
    """
    ids, scored = answer["item_id"], answer["score"] > NO_SCORE
    rows = examples.rows_of(ids)
    if len(strange := ids[scored != (rows >= 0)]):
        raise VerificationError(f"item {item_key(strange[0])!r} is found, which is none of the catalogue")
    for number, found in enumerate(rows):
        found = found[found >= 0]
        if len(np.unique(found)) < len(found):
            raise VerificationError(f"{examples.query(number)}: an item is found twice")
    return rows


def _check_memory(answer: Answer, examples: ParityExamples) -> None:
    """Of the items of an answer, the source of those and only those that were clicked has to say so."""
    answers = zip(_item_rows(answer, examples), answer["source"], examples.remembered_rows, strict=True)
    for row, (rows, sources, clicked) in enumerate(answers):
        wrong = ((sources & MEMORY > 0) != np.isin(rows, clicked)) & (rows >= 0)
        if wrong.any():
            item = examples.item_ids[rows[wrong][0]].as_py()
            raise VerificationError(
                f"{examples.query(row)}: with {MODE_INPUT} = {MEMORY_MODE} the servable has item {item!r} with source "
                f"{sources[wrong][0]}, and the clicks {'hold' if np.isin(rows[wrong][0], clicked) else 'lack'} it"
            )


def _check_filter(answer: Answer, examples: ParityExamples) -> None:
    rows = _item_rows(answer, examples)
    others = np.setdiff1d(rows[rows >= 0], examples.matching_rows)
    if len(others):
        item = examples.item_ids[others[0]].as_py()
        raise VerificationError(f"filter {examples.filter} lets item {item!r} through, which does not match it")
    missing = np.count_nonzero(rows < 0, axis=1)
    if not np.array_equal(answer["shortfall"], missing):
        raise VerificationError(
            f"filter {examples.filter}: shortfall is {answer['shortfall'].tolist()}, but {missing.tolist()} items are "
            "missing"
        )


def _replay_warmup(
    path: Path, call: Mapping[str, Callable[[Mapping[str, np.ndarray]], Answer]], pool: ThreadPoolExecutor
) -> None:
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    if not records:
        raise VerificationError(f"{path.name} holds no request")

    def replay(record: bytes) -> None:
        request = PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        call[request.model_spec.signature_name](inputs)

    list(pool.map(replay, records))  # raises what they raise


def main() -> int:
    """Prints ``{}`` or ``{"error": "..."}``; returns the exit code."""
    library.load_all()
    if not (task := sys.stdin.read()):
        return 1  # the export ended before there was anything to check
    servable, examples = map(Path, json.loads(task))
    try:
        found: dict[str, Any] = verify(servable, ParityExamples.read(examples))
        np.savez(examples / FOUND_FILE, **found)
        print("{}")
    except VerificationError as error:
        print(json.dumps({"error": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
