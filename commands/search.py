"""``dpsr search``: one Predict call, shown as a table of items with their texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dpsr.config import Config, ConfigError

if TYPE_CHECKING:
    import numpy as np

    from dpsr.data.tables import Dataset


def search(
    config: Config,
    queries: Sequence[str],
    *,
    target: str | None,
    count: int,
    profile: Sequence[str],
    history: Sequence[str],
) -> str:
    """Asks a running server for the best items of every query.

    Args:
        config: names the model, its dataset and, by default, its server.
        queries: query texts.
        target: ``host:port`` of the server; None is the configured one.
        count: items to show.
        profile: ``column=value`` each; with any of these or a history the personalized signature is called.
        history: item ids, oldest first.

    Returns:
        One table for each query.

    Raises:
        ConfigError: a profile column that the dataset does not have.
        ServingError: the server refused, or is not there.
    """
    from dpsr.data.tables import Dataset
    from dpsr.serving.client import PredictClient

    dataset = Dataset.load(config.dataset_dir)
    inputs, signature = _inputs(dataset, queries, profile, history)
    titles = item_texts(config, dataset)
    with PredictClient(target or f"{config.serving.host}:{config.serving.port}") as client:
        answer = client.predict(config.name, inputs, signature=signature)
    return "\n\n".join(f"{query}\n{_table(answer, row, count, titles)}" for row, query in enumerate(queries))


def _inputs(
    dataset: Dataset, queries: Sequence[str], profile: Sequence[str], history: Sequence[str]
) -> tuple[dict[str, Any], str]:
    """The inputs of a Predict call and the signature that takes them."""
    if not profile and not history:
        return {"query": list(queries)}, "serving_default"
    values = dict.fromkeys(dataset.schema.profile, "")
    for entry in profile:
        column, _, value = entry.partition("=")
        if column not in values:
            raise ConfigError(f"--profile {entry}: no profile column {column!r} (known: {', '.join(values) or 'none'})")
        values[column] = value
    inputs: dict[str, Any] = {"query": list(queries)}
    inputs |= {column: [value] * len(queries) for column, value in values.items()}
    ids: list[Any] = list(history)
    if dataset.schema.item_id_type == "int64":
        ids = [int(item) for item in history]
    inputs["history"] = _history_array(ids, len(queries), dataset.schema.item_id_type)
    return inputs, "personalized"


def _history_array(ids: Sequence[Any], rows: int, item_id_type: str) -> np.ndarray:
    import numpy as np

    dtype = np.int64 if item_id_type == "int64" else object
    return np.array([list(ids)] * rows, dtype=dtype).reshape(rows, len(ids))


def item_key(item: Any) -> Any:
    """The id as the dataset has it: str, or int."""
    return item.decode() if isinstance(item, bytes) else int(item)


def item_texts(config: Config, dataset: Dataset) -> dict[Any, str]:
    """The text of every item by id, for showing."""
    table = dataset.item_table()
    columns = [table.column(name).to_pylist() for name in config.data.items.text]
    ids = table.column("item_id").to_pylist()
    return {item: " | ".join(str(text) for text in texts if text) for item, *texts in zip(ids, *columns, strict=True)}


def _table(answer: Mapping[str, Any], row: int, count: int, titles: Mapping[Any, str]) -> str:
    from tabulate import tabulate

    rows = []
    for rank in range(min(count, answer["item_id"].shape[1])):
        item = item_key(answer["item_id"][row, rank])
        score, head = answer["score"][row, rank], answer["head"][row, rank]
        rows.append((rank + 1, f"{score:.3f}", head, item, titles.get(item, "")))
    return tabulate(rows, headers=["", "score", "head", "item", "text"], disable_numparse=True)
