"""A generated shop: catalogue, users and click log with known structure (docs/demo_shop.md).

People look for an item they would like, name it by some of its properties in their own words, see ten items and click
what fits the query and their taste. No title has the words of such queries: only clicks join them to items.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dpsr.data.demo_shop.catalogue import LEAVES
from dpsr.data.demo_shop.sessions import Sessions
from dpsr.data.demo_shop.world import item_tables, make_catalogue, make_users, user_tables

SHOWCASE_TYPO = ("wireles headphones", "wireless headphones")
"""A misspelt query and the right one."""
SHOWCASE_QUERIES = ("cellphone for grandpa", "big kid milk powder", "apple", "老人手机", SHOWCASE_TYPO[0])
"""A synonym, an age paraphrased, a word of two meanings, Chinese, and a typo."""

_JUDGED_QUERIES = 500


def generate(
    directory: str | Path,
    *,
    items: int,
    users: int,
    interactions: int | None = None,
    sessions: int | None = None,
    seed: int,
) -> None:
    """Writes ``items``, ``users``, ``interactions``, ``relevance`` and ``senses``, each as ``.parquet``.

    Texts and sessions are streamed to the files; at most some 90 bytes for each item and 300 for each user are held.

    Args:
        directory: where to; it is created.
        items: size of the catalogue, at least one for each leaf category.
        users: number of users.
        interactions: clicks of the log; purchases and skips come on top.
        sessions: instead of ``interactions``, result pages that are seen; some have no click.
        seed: the same arguments give the same files.
    """
    if items < len(LEAVES):
        raise ValueError(f"items = {items}: a demo shop has {len(LEAVES)} categories and needs an item in each")
    if (interactions is None) == (sessions is None):
        raise ValueError("generate takes either interactions or sessions")
    size = interactions if sessions is None else sessions
    if users < 1 or not size or size < 1:
        raise ValueError(f"users = {users}, log of {size}: a demo shop needs at least one of each")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    catalogue = make_catalogue(items, random)
    people = make_users(users, random)
    write_tables(directory / "items.parquet", item_tables(catalogue, random))
    write_tables(directory / "users.parquet", user_tables(people))
    log = Sessions(catalogue, people, random)
    write_tables(directory / "interactions.parquet", log.tables(clicks=interactions, sessions=sessions))
    write_tables(directory / "relevance.parquet", iter([pa.concat_tables(log.relevance_tables(_JUDGED_QUERIES))]))
    write_tables(directory / "senses.parquet", iter([log.senses_table()]))


def write_tables(path: Path, tables: Iterator[pa.Table]) -> None:
    """Writes tables of one schema to a Parquet file as they come."""
    first = next(tables)
    with pq.ParquetWriter(path, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table)
