"""Runs and relevance judgements in the files of TREC, for ``trec_eval`` and its kin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
from tqdm import tqdm

from dpsr.baselines.examples import Examples
from dpsr.baselines.ranking import best_first
from dpsr.baselines.retrievers import Retriever, queries_at_once

DEPTH = 100
"""Items of a run for each topic."""


def write_trec(
    directory: Path,
    retrievers: Mapping[str, Retriever],
    examples: Examples,
    gains: Sequence[Mapping[int, int]],
    item_ids: np.ndarray,
    *,
    progress: bool = True,
) -> None:
    """Writes ``qrels.txt``, ``topics.tsv`` and a ``<retriever>.run`` each; every example is a topic, numbered from 1.

    A run's scores are made of the ranks, so that a reader that orders by score, and ties by its own rule, finds the
    same order. White space and ``%`` in ids are written as in an address (``%20``).

    Args:
        directory: where to; it is made if need be.
        retrievers: name -> retriever.
        examples: n queries.
        gains: the relevant items of each and their gains.
        item_ids: the ids of the items' rows.
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
    depth = min(DEPTH, len(names))
    total = len(retrievers) * len(examples)
    with tqdm(total=total, desc="TREC runs", unit="query", disable=not progress) as bar:
        for name, retriever in retrievers.items():
            tag = name.replace(" ", "-")
            with (directory / f"{tag}.run").open("w", encoding="utf-8") as file:
                topic = 0
                for chunk in examples.chunks(queries_at_once(len(names))):
                    items, _ = best_first(*retriever.retrieve(chunk, depth), chunk.tie_keys)
                    for row in items:
                        topic += 1
                        file.writelines(
                            f"{topic} Q0 {names[item]} {rank} {depth + 1 - rank} {tag}\n"
                            for rank, item in enumerate(row[row >= 0].tolist(), 1)
                        )
                    bar.update(len(chunk))
