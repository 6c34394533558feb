"""Runs and relevance judgements in TREC's file formats, for ``trec_eval`` and compatible tools."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from tqdm import tqdm

from dpsr.baselines.examples import QueryExamples
from dpsr.baselines.exhaustive import queries_at_once
from dpsr.baselines.interfaces import Method, Retriever
from dpsr.evaluation.measures.clicks import retrieved

DEPTH = 100
"""Items of a run for each topic."""


def write_trec(
    directory: Path,
    methods: Mapping[str, Method],
    examples: QueryExamples,
    gains: Sequence[Mapping[int, int]],
    item_ids: np.ndarray,
    *,
    progress: bool = True,
) -> None:
    """Writes ``qrels.txt``, ``topics.tsv`` and a ``<method>.run`` for each retriever; examples are topics from 1.

    The scores of a run are descending ranks, so that a reader with another rule for ties finds the same order. White
    space and ``%`` in ids are percent-encoded (``%20``).

    Args:
        directory: made if missing.
        methods: name -> method; those that are not retrievers have no run.
        examples: n queries.
        gains: the relevant items of each and their gains.
        item_ids: ids by item row.
        progress: show a progress bar.
    """
    directory.mkdir(parents=True, exist_ok=True)
    names = [quote(str(item), safe="/:+,;=@!$&'()*~#?[]") for item in item_ids.tolist()]
    with (directory / "topics.tsv").open("w", encoding="utf-8") as file:
        for topic, text in enumerate(examples.texts, 1):
            file.write(f"{topic}\t{' '.join(text.split())}\n")
    with (directory / "qrels.txt").open("w", encoding="utf-8") as file:
        for topic, relevant in enumerate(gains, 1):
            file.writelines(f"{topic} 0 {names[item]} {gain}\n" for item, gain in relevant.items())
    retrievers = {name: method for name, method in methods.items() if isinstance(method, Retriever)}
    depth, total = min(DEPTH, len(names)), len(retrievers) * len(examples)
    with tqdm(total=total, desc="TREC runs", unit="query", disable=not progress) as bar:
        for name, retriever in retrievers.items():
            tag = run_tag(name)
            with (directory / f"{tag}.run").open("w", encoding="utf-8") as file:
                topic = 0
                for batch in examples.batches(queries_at_once(len(names))):
                    for items in retrieved(retriever, batch, depth):
                        topic += 1
                        file.writelines(
                            f"{topic} Q0 {names[item]} {rank} {depth + 1 - rank} {tag}\n"
                            for rank, item in enumerate(items[items >= 0].tolist(), 1)
                        )
                    bar.update(len(batch))


def run_tag(name: str) -> str:
    """Returns a method's name as a run tag and file name: ``bm25 bigrams`` -> ``bm25-bigrams``."""
    return re.sub(r"[^\w+.@]+", "-", name)
