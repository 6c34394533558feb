"""``dpsr data inspect``: one page about a dataset directory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from tabulate import tabulate

from dpsr.data.dataset.records import record_blocks
from dpsr.data.dataset.schema import EVENTS, SPLITS, split_file
from dpsr.data.dataset.tables import Bags, Dataset
from dpsr.tokenizer_cc import Tokenizer

_EXAMPLES = 5
_HEAD_SHARE = 0.01


def inspect(directory: Path) -> str:
    """Counts, time ranges, vocabulary coverage, lengths, head and tail, examples and rejected rows, as text.

    Raises:
        DatasetError: the directory does not hold a dataset, or a damaged one.
    """
    dataset = Dataset.load(directory)
    sections = (
        ("Sizes", _sizes(dataset)),
        ("Splits", _splits(dataset)),
        ("Token bags", _bags(dataset)),
        ("Columns", _columns(dataset)),
        ("Head and tail of the train split", _head(dataset)),
        ("Examples of the test split" if dataset.manifest["counts"]["test"] else "Examples", _examples(dataset)),
        ("Inputs", _inputs(dataset)),
    )
    return "\n\n".join(f"{title}\n{text}" for title, text in sections if text)


def _sizes(dataset: Dataset) -> str:
    counts = dataset.manifest["counts"]
    events = ", ".join(f"{number:,} {name}s" for name, number in counts["events"].items())
    size = sum(entry["bytes"] for entry in dataset.manifest["files"].values())
    rows = [
        ("items", f"{counts['items']:,}", f"ids are {dataset.schema.item_id_type}"),
        ("users", f"{counts['users']:,}", f"{counts['unknown_users']:,} interactions of users that the table lacks"),
        ("distinct queries", f"{counts['queries']:,}", ""),
        ("interactions", f"{sum(counts['events'].values()):,}", events),
        ("labelled pairs", f"{len(dataset.labels()):,}", ""),
        ("bytes", f"{size:,}", f"{size / max(1, sum(counts['events'].values())):.1f} for each interaction"),
    ]
    return tabulate(rows, tablefmt="plain", colalign=("left", "right", "left"))


def _splits(dataset: Dataset) -> str:
    rows = []
    for split in SPLITS:
        first, last = dataset.manifest["time"][split] or ("", "")
        rows.append((split, f"{dataset.manifest['counts'][split]:,}", first, last))
    rows.append(("skips (train)", f"{dataset.manifest['counts']['skips']:,}", "", ""))
    return tabulate(rows, headers=["", "records", "first", "last"], colalign=("left", "right", "left", "left"))


def _bags(dataset: Dataset) -> str:
    vocabulary = Tokenizer.load(dataset.tokenizer_path).vocabulary_size
    rows = [
        (name, f"{len(bags):,}", *_quantiles(bags), f"{_share(bags.values <= vocabulary):.1%}", f"{_empty(bags):.1%}")
        for name, bags in (("items", dataset.item_tokens), ("queries", dataset.query_tokens))
    ]
    if dataset.schema.subwords is not None:
        unknown = dataset.schema.subwords.unk
        rows += [
            (name, f"{len(bags):,}", *_quantiles(bags), f"{_share(bags.values != unknown):.1%}", f"{_empty(bags):.1%}")
            for name, bags in (("item subwords", dataset.item_subwords), ("query subwords", dataset.query_subwords))
        ]
    history = dataset.history
    rows.append(("histories", f"{len(history):,}", *_quantiles(history), "", f"{_empty(history):.1%}"))
    headers = ["", "bags", "median length", "90 %", "longest", "in vocabulary", "empty"]
    return tabulate(rows, headers=headers, disable_numparse=True) + f"\nvocabulary: {vocabulary:,} tokens"


def _quantiles(bags: Bags) -> tuple[str, ...]:
    lengths = np.diff(bags.row_splits) if len(bags) else np.zeros(1)
    return tuple(f"{int(value):,}" for value in np.quantile(lengths, [0.5, 0.9, 1.0]))


def _empty(bags: Bags) -> float:
    return _share(np.diff(bags.row_splits) == 0)


def _share(flags: np.ndarray) -> float:
    return float(np.mean(flags)) if len(flags) else 0.0


def _columns(dataset: Dataset) -> str:
    rows = []
    for folder, sizes, columns in (
        ("items", dataset.schema.categorical, dataset.item_categorical),
        ("users", dataset.schema.profile, dataset.user_profile),
    ):
        for column, size in sizes.items():
            ids, values = columns[column], dataset.vocabularies[f"{folder}.{column}"]
            some = ", ".join(values[:4]) + (", ..." if len(values) > 4 else "")
            rows.append(
                (f"{folder}.{column}", len(values), f"{_share(ids == 0):.1%}", f"{_share(ids == size - 1):.1%}", some)
            )
    return tabulate(rows, headers=["", "values", "missing", "out of vocabulary", ""], disable_numparse=True)


def _head(dataset: Dataset) -> str:
    rows = []
    for name, size in (("query", dataset.schema.num_queries), ("item", dataset.schema.num_items)):
        counts = np.zeros(size, dtype=np.int64)
        for records in record_blocks(dataset.directory / split_file("train")):
            counts += np.bincount(records[name], minlength=size)
        counts = np.sort(counts)[::-1]
        seen, total = int((counts > 0).sum()), max(1, int(counts.sum()))
        head = max(1, round(seen * _HEAD_SHARE))
        rows.append(
            (name, f"{seen:,}", f"{counts[:head].sum() / total:.1%}", f"{(counts == 1).sum() / max(1, seen):.1%}")
        )
    headers = ["", "that have a click", f"clicks on the first {_HEAD_SHARE:.0%} of them", "with one click only"]
    return tabulate(rows, headers=headers, disable_numparse=True)


def _examples(dataset: Dataset) -> str:
    """Records joined with their query, item and user, as text."""
    split = next((split for split in reversed(SPLITS) if dataset.manifest["counts"][split]), "train")
    count = dataset.num_interactions(split)
    places = np.unique(np.linspace(0, count - 1, min(_EXAMPLES, count), dtype=int))
    chosen = dataset.interactions_at(split, places)
    events = {code: name for name, code in EVENTS.items()}
    queries, table = dataset.query_texts(), dataset.item_table()
    rows = []
    for query, user, item, event, end in chosen.tolist():
        texts = (str(table.column(column)[item].as_py() or "") for column in dataset.schema.text)
        profile = (
            ", ".join(_value(dataset, column, user) for column in dataset.schema.profile) if user >= 0 else "anonymous"
        )
        rows.append((queries[query].as_py(), events[event], _short(" | ".join(texts)), profile, end))
    return tabulate(rows, headers=["query", "event", "item", "profile", "events before"], disable_numparse=True)


def _value(dataset: Dataset, column: str, user: int) -> str:
    place, values = int(dataset.user_profile[column][user]), dataset.vocabularies[f"users.{column}"]
    return "-" if place == 0 else values[place - 1] if place <= len(values) else "other"


def _short(text: str, length: int = 50) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _inputs(dataset: Dataset) -> str:
    rows = []
    for name, entry in dataset.manifest["inputs"].items():
        reasons = Counter(entry["rejected"])
        listed = ", ".join(f"{reason} ({count:,})" for reason, count in reasons.most_common())
        rows.append((name, len(entry["files"]), f"{entry['rows']:,}", f"{reasons.total():,}", listed))
    return tabulate(rows, headers=["", "files", "rows", "rejected", "reasons"], disable_numparse=True)
