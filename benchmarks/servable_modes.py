"""What a published hybrid servable answers to judged queries, by each searcher alone and by both.

    dpsr export -c shop.toml --set index.mode=hybrid
    python benchmarks/servable_modes.py -c shop.toml

The newest version of the configuration is asked through its signature, as a server asks it, for each query of
``evaluation.labels``. The table has the mean of every measure with its 95 % interval over queries.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tensorflow as tf
from tabulate import tabulate

from dpsr.baselines.examples import QueryExamples
from dpsr.config import load_config
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.measures.intervals import bootstrap_means, interval
from dpsr.evaluation.measures.judgements import load_judgements, measure_judged
from dpsr.evaluation.report.machine import describe_machine
from dpsr.indexing.signature import MODE_INPUT, MODES, item_key
from dpsr.ops_cc import library

MEASURES = ("nDCG@10", "Recall@100")
_BATCH = 32


class ServableRetriever:
    """A ``Retriever`` that asks a loaded servable in one of its modes."""

    def __init__(self, servable: tf.Module, mode: str, dataset: Dataset) -> None:
        """Takes the signature ``serving_default``; items become rows of ``dataset``."""
        self._call = servable.signatures["serving_default"]
        self._mode = tf.constant([mode])
        self._row_of = {item: row for row, item in enumerate(dataset.item_ids.tolist())}

    def retrieve(self, examples: QueryExamples, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As ``Retriever.retrieve``."""
        texts, parts = examples.texts.tolist(), []
        for start in range(0, len(texts), _BATCH):
            parts.append(self._call(query=tf.constant(texts[start : start + _BATCH]), **{MODE_INPUT: self._mode}))
        ids = np.concatenate([part["item_id"].numpy() for part in parts])[:, :k]
        scores = np.concatenate([part["score"].numpy() for part in parts])[:, :k]
        rows = np.array([self._row_of.get(item_key(item), -1) for item in ids.flat], np.int32).reshape(ids.shape)
        return rows, np.where(rows >= 0, scores, -np.inf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", type=Path, required=True)
    config = load_config(parser.parse_args().config)
    versions = sorted(int(path.name) for path in config.model_base_path.iterdir() if path.name.isdigit())
    if config.evaluation.labels is None or not versions:
        raise SystemExit("the configuration needs evaluation.labels, and a version that `dpsr export` has published")
    library.load_all()
    servable = tf.saved_model.load(str(config.model_base_path / str(versions[-1])))
    if MODE_INPUT not in servable.signatures["serving_default"].structured_input_signature[1]:
        raise SystemExit(f"version {versions[-1]} has one searcher; publish one with index.mode = hybrid")
    dataset = Dataset.load(config.dataset_dir)
    judgements = load_judgements(config.evaluation.labels, dataset, seed=config.training.seed)
    retrievers = {mode: ServableRetriever(servable, mode, dataset) for mode in MODES}
    found = measure_judged(retrievers, judgements, num_items=dataset.schema.num_items)
    lines = [[mode, *(_interval(found[mode][measure]) for measure in MEASURES)] for mode in MODES]
    print(tabulate(lines, headers=["mode", *MEASURES], tablefmt="github"))
    print(describe_machine())


def _interval(values: np.ndarray) -> str:
    drawn = bootstrap_means(values[:, np.newaxis], np.arange(len(values)), seed=1)
    found = interval(float(values.mean()), None if drawn is None else drawn[:, 0])
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


if __name__ == "__main__":
    main()
