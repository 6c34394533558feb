"""Sections ``data.*``: the raw inputs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dpsr.config.section import PathName, Section, Share


class SourceConfig(Section):
    """One raw input: a path and its column names.

    The path is a file, a directory or a glob of ``.parquet``, ``.csv``, ``.jsonl``, ``.ndjson`` or ``.json`` files, all
    but Parquet also ``.gz`` or ``.zst``.

    ``columns`` maps a name of the contract (``item_id``, ``query``, ...) to the column of the file; a name that is not
    mapped is looked up under itself.
    """

    path: PathName
    columns: dict[str, str] = {}


class ItemsConfig(SourceConfig):
    """The catalogue: ``item_id``, the ``text`` columns (tokenized), the ``categorical`` columns (one value each)."""

    text: Annotated[list[str], Field(min_length=1)] = ["title"]
    categorical: list[str] = []
    numeric: list[str] = []
    """Columns of numbers, as prices; each becomes ``numeric_buckets`` buckets with equally many items."""
    numeric_buckets: Annotated[int, Field(ge=2, le=10_000)] = 20


class UsersConfig(SourceConfig):
    """The users: ``user_id`` and the categorical ``profile`` columns."""

    profile: Annotated[list[str], Field(min_length=1)]


class InteractionsConfig(SourceConfig):
    """The log: ``query``, ``item_id`` and, where the file has them, ``user_id``, ``timestamp`` and ``event``."""


class SupervisionConfig(SourceConfig):
    """Labelled pairs: ``query``, ``item_id`` and ``label``, a number."""


class JudgementsConfig(Section):
    """What people judged and reported on the page of ``dpsr page``, as further labelled pairs."""

    path: PathName | None = None
    """The file where the page keeps it; that of ``page.judgements`` without it."""
    books: Annotated[list[str], Field(min_length=1)] | None = None
    """Books whose judgements count; bad cases then do not. All books and all bad cases without it."""


class DataConfig(Section):
    """Raw inputs, and how ``dpsr prepare`` turns them into a dataset directory."""

    items: ItemsConfig
    interactions: InteractionsConfig | None = None
    """Without a log the model learns from the catalogue alone: ``training.epochs = 0`` and ``pretraining``."""
    users: UsersConfig | None = None
    supervision: SupervisionConfig | None = None
    judgements: JudgementsConfig | None = None
    valid_share: Share = 0.05
    """Share of the interactions, before the test period by time, that choose the checkpoint."""
    test_share: Share = 0.10
    """Share of the interactions, the latest by time, that are only ever evaluated on."""
    max_rejected_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """The job fails above this share of unusable rows in any one input."""
    min_category_count: Annotated[int, Field(ge=1)] = 1
    """Rarer values of a categorical column share the out-of-vocabulary id."""
    user_id_key_variable: Annotated[str, Field(pattern=r"^\w+$")] | None = None
    """Environment variable with a secret key: the dataset then has hashed user ids only."""
