"""Prepares a run on a public catalogue with judgements instead of clicks.

Reads a set below $DPSR_DATA, writes Parquet files and a configuration:

    python benchmarks/labelled_sets.py homedepot --out runs/homedepot
    for step in prepare train evaluate; do dpsr $step -c runs/homedepot/run.toml; done

The recipe is examples/SET.toml, or another one of the set by --recipe: SET_taught has a teacher, the folder
$DPSR_TEACHER, and homedepot_teacher trains one. The models of homedepot are trained on the relevant pairs of its train
queries; a twentieth of the queries chooses checkpoint and hybrid weights. The models of chorus_icecat are trained on
the catalogue alone. Measured are judged queries: all of chorus_icecat, the dev queries of homedepot.
"""

from __future__ import annotations

import argparse
import os
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("DPSR_DATA", ROOT / ".." / "shared" / "data"))
RELEVANT_FROM = {"homedepot": 2.5, "chorus_icecat": 1.0}
LABEL_COLUMN = {"homedepot": "relevance", "chorus_icecat": "label"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(RELEVANT_FROM))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", help="name of a file of examples/, without .toml; SET if it is missing")
    arguments = parser.parse_args()
    source, out, name = DATA / arguments.name, arguments.out, arguments.name
    out.mkdir(parents=True, exist_ok=True)
    run = arguments.recipe or name
    recipe = (ROOT / "examples" / f"{run}.toml").read_text(encoding="utf-8")
    text = tomllib.loads(recipe)["data"]["items"]["text"]

    items = pq.read_table(source / "items.parquet", columns=["item_id", *text])
    labels = pq.read_table(source / "labels.parquet").join(pq.read_table(source / "queries.parquet"), "query_id")
    labels = labels.append_column("label_", labels[LABEL_COLUMN[name]].cast("float64")).sort_by(
        [("query_id", "ascending"), ("item_id", "ascending")]
    )
    pairs = pa.table({"query": labels["query"], "item_id": labels["item_id"], "label": labels["label_"]})
    clicks = 0
    if "split" in labels.column_names:
        split = np.array(labels["split"].to_pylist())
        relevant = pairs["label"].to_numpy() >= RELEVANT_FROM[name]
        positives = pairs.filter(pa.array(relevant & (split == "train"))).drop_columns("label")
        pairs = pairs.filter(pa.array(split == "dev"))
        # One timestamp for all pairs of a query: a split by time keeps them together.
        queries = positives["query"].to_pylist()
        order = np.random.default_rng(1).permutation(sorted(set(queries))).tolist()
        place = {query: time for time, query in enumerate(order)}
        times = pa.array([place[query] for query in queries])
        pq.write_table(positives.append_column("timestamp", times), out / "interactions.parquet")
        clicks = len(positives)
    pq.write_table(items, out / "items.parquet")
    pq.write_table(pairs, out / "labels.parquet")
    (out / "run.toml").write_text(recipe.replace(f"runs/{run}", str(out)), encoding="utf-8")
    print(f"{clicks:,} clicks, {len(set(pairs['query'].to_pylist())):,} judged queries: {out / 'run.toml'}")


if __name__ == "__main__":
    main()
