"""Makes a run of a catalogue that has judgements instead of clicks.

Reads a set below $DPSR_DATA and writes Parquet files and a configuration to a directory:

    python benchmarks/labelled_sets.py homedepot --out runs/homedepot
    for step in prepare train evaluate; do dpsr $step -c runs/homedepot/run.toml; done

What is learnt from are pseudo-clicks, random words of an item's own text as its query, for which no judgement is used;
homedepot adds the relevant pairs of its train queries. What is measured are the judged queries: all of chorus_icecat,
the dev queries of homedepot.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DATA = Path(os.environ.get("DPSR_DATA", Path(__file__).resolve().parents[1] / ".." / "shared" / "data"))
TEXT = {"homedepot": ["title"], "chorus_icecat": ["title", "brand", "description", "attributes"]}
RELEVANT_FROM = {"homedepot": 2.5, "chorus_icecat": 1.0}
LABEL_COLUMN = {"homedepot": "relevance", "chorus_icecat": "label"}

RUN = """name = "{name}"
work_dir = "{out}"

[data]
valid_share = 0.02
test_share = 0.02

[data.items]
path = "{out}/items.parquet"
text = {text}

[data.interactions]
path = "{out}/interactions.parquet"

[evaluation]
max_examples = 1000

[evaluation.labels]
path = "{out}/labels.parquet"
positive_from = {positive_from}
graded = {graded}

[tokenizer]
min_count = 1

[model]
dimension = {dimension}
residual = true
shared_tokens = true
heads = 1

[loss]
kind = "softmax"
group_size = 512

[training]
epochs = {epochs}
batch_size = 512
learning_rate = 0.02
table_learning_rate = 0.6
token_dropout = 0.1
"""


def pseudo_clicks(texts: list[str], copies: int, rng: np.random.Generator) -> tuple[list[str], list[int]]:
    """Two to five words of every text, in their order, ``copies`` times; and the text's row."""
    queries, rows = [], []
    for row, text in enumerate(texts):
        words = text.split()
        for _ in range(copies):
            if words:
                chosen = np.sort(rng.choice(len(words), min(len(words), int(rng.integers(2, 6))), replace=False))
                queries.append(" ".join(words[at] for at in chosen))
                rows.append(row)
    return queries, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(TEXT))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=4, help="pseudo-clicks of every item")
    parser.add_argument("--repeat-labels", type=int, default=2, help="times that every relevant pair is a click")
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    source, out, name = DATA / arguments.name, arguments.out, arguments.name
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(arguments.seed)

    items = pq.read_table(source / "items.parquet", columns=["item_id", *TEXT[name]])
    columns = [items[column].to_pylist() for column in TEXT[name]]
    texts = [" ".join(text or "" for text in row) for row in zip(*columns, strict=True)]
    queries, rows = pseudo_clicks(texts, arguments.copies, rng)
    ids = items["item_id"].take(pa.array(rows)).to_pylist()

    labels = pq.read_table(source / "labels.parquet").join(pq.read_table(source / "queries.parquet"), "query_id")
    pairs = labels.select(["query", "item_id"]).append_column("label", labels[LABEL_COLUMN[name]].cast("float64"))
    if "split" in labels.column_names:
        relevant = [label >= RELEVANT_FROM[name] for label in pairs["label"].to_pylist()]
        in_train = [split == "train" for split in labels["split"].to_pylist()]
        positives = pairs.filter(pa.array([both == (True, True) for both in zip(relevant, in_train, strict=True)]))
        queries += positives["query"].to_pylist() * arguments.repeat_labels
        ids += positives["item_id"].to_pylist() * arguments.repeat_labels
        pairs = pairs.filter(pa.array([split == "dev" for split in labels["split"].to_pylist()]))
    order = rng.permutation(len(queries))
    clicks = {
        "query": [queries[at] for at in order],
        "item_id": [ids[at] for at in order],
        "timestamp": np.arange(len(order)),
    }
    pq.write_table(items, out / "items.parquet")
    pq.write_table(pa.table(clicks), out / "interactions.parquet")
    pq.write_table(pairs, out / "labels.parquet")
    run = RUN.format(
        name=name,
        out=out,
        text=str(TEXT[name]).replace("'", '"'),
        positive_from=RELEVANT_FROM[name],
        graded=str(name == "chorus_icecat").lower(),
        dimension=arguments.dimension,
        epochs=arguments.epochs,
    )
    (out / "run.toml").write_text(run, encoding="utf-8")
    print(f"{len(order):,} clicks, {len(set(pairs['query'].to_pylist())):,} judged queries: {out / 'run.toml'}")


if __name__ == "__main__":
    main()
