"""Builds and asks another engine, in an interpreter that has it: ``python peers.py {tantivy,bm25s} FOLDER K``.

Reads what ``lexical.py`` has written to the folder, writes the best scores of every query there, and prints one line
of JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

Ask = Callable[[np.ndarray], np.ndarray]
"""Terms of a query -> its best scores, descending."""


def tantivy_engine(offsets: np.ndarray, terms: np.ndarray, k: int, folder: str) -> tuple[Ask, str]:
    """Terms are words between spaces; one thread writes, and its segments are merged."""
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_text_field("title", stored=False, tokenizer_name="whitespace", index_option="freq")
    schema = builder.build()
    index = tantivy.Index(schema, path=folder)
    writer = index.writer(heap_size=2_000_000_000, num_threads=1)
    for start in range(0, len(offsets) - 1, 1 << 16):
        part = offsets[start : start + (1 << 16) + 1]
        words = [str(term) for term in terms[part[0] : part[-1]].tolist()]
        for begin, end in zip((part[:-1] - part[0]).tolist(), (part[1:] - part[0]).tolist(), strict=True):
            writer.add_document(tantivy.Document(title=" ".join(words[begin:end])))
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()

    def ask(query: np.ndarray) -> np.ndarray:
        clauses = [(tantivy.Occur.Should, tantivy.Query.term_query(schema, "title", str(term))) for term in query]
        # A count of all matches would be the end of its pruning.
        hits = searcher.search(tantivy.Query.boolean_query(clauses), limit=k, count=False).hits
        return np.array([score for score, _ in hits]) / 2.2  # its scores have the factor k1 + 1

    return ask, f"tantivy {tantivy.__version__}, {searcher.num_segments} segments"


def bm25s_engine(offsets: np.ndarray, terms: np.ndarray, k: int, _: str) -> tuple[Ask, str]:
    import bm25s

    values = terms.tolist()
    bounds = offsets.tolist()
    documents = [values[begin:end] for begin, end in pairwise(bounds)]
    vocabulary = {str(term): term for term in range(int(terms.max()) + 1)}
    peer = bm25s.BM25(k1=1.2, b=0.75, method="lucene", backend="numba")
    peer.index((documents, vocabulary), show_progress=False)

    def ask(query: np.ndarray) -> np.ndarray:
        words = [[str(term) for term in query]]
        found = peer.retrieve(words, k=k, show_progress=False, n_threads=1)
        return np.asarray(found.scores[0])

    return ask, f"bm25s {bm25s.__version__} (numba)"


def main() -> None:
    name, folder, k = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    arrays = [np.load(folder / f"{each}.npy", mmap_mode="r") for each in ("offsets", "terms", "splits", "queries")]
    offsets, terms, splits, queries = arrays
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        begin, spent = time.perf_counter(), time.process_time()
        ask, title = {"tantivy": tantivy_engine, "bm25s": bm25s_engine}[name](offsets, terms, k, scratch)
        figures = {"title": title, "build": time.perf_counter() - begin, "build_cpu": time.process_time() - spent}
        figures["bytes"] = sum(path.stat().st_size for path in Path(scratch).rglob("*") if path.is_file())
        texts = [queries[first:last] for first, last in pairwise(splits)]
        scores = np.zeros((len(texts), k), np.float32)
        figures |= {"elapsed": [], "processor": []}
        for turn in range(3):
            elapsed, processor = np.empty(len(texts)), np.empty(len(texts))
            for number, query in enumerate(texts):
                begin, spent = time.perf_counter(), time.process_time()
                found = ask(query)
                elapsed[number], processor[number] = time.perf_counter() - begin, time.process_time() - spent
                scores[number, : len(found)] = found
            if turn > 0:  # the first one compiles and warms up
                figures["elapsed"].append(elapsed.tolist())
                figures["processor"].append(processor.tolist())
    np.save(folder / f"{name}.npy", scores)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
