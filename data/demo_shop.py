"""A generated shop: catalogue, users and click log with known structure (docs/demo_shop.md).

People look for an item they would like, name it by some of its properties in their own words, see ten items and click
what fits the query and their taste. What the words mean is in no title: only the clicks tell.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dpsr.data.demo_catalogue import LEAVES
from dpsr.data.demo_sessions import Sessions
from dpsr.data.demo_world import item_table, make_catalogue, make_users, user_table

SHOWCASE_TYPO = ("wireles headphones", "wireless headphones")
"""A misspelt query and the right one."""
SHOWCASE_QUERIES = ("cellphone for grandpa", "big kid milk powder", "apple", "老人手机", SHOWCASE_TYPO[0])
"""A synonym, an age paraphrased, a word of two meanings, Chinese, and a typo."""

_JUDGED_QUERIES = 500


def generate(directory: str | Path, *, items: int, users: int, interactions: int, seed: int) -> None:
    """Writes ``items.parquet``, ``users.parquet``, ``interactions.parquet`` and ``relevance.parquet``.

    Args:
        directory: where to; it is created.
        items: size of the catalogue, at least one for each leaf category.
        users: number of users.
        interactions: clicks of the log; purchases and skips come on top.
        seed: the same arguments give the same files.
    """
    if items < len(LEAVES):
        raise ValueError(f"items = {items}: a demo shop has {len(LEAVES)} categories and needs an item in each")
    if users < 1 or interactions < 1:
        raise ValueError(f"users = {users}, interactions = {interactions}: a demo shop needs at least one of each")
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    catalogue = make_catalogue(items, random)
    people = make_users(users, random)
    item_ids = pa.array([f"I{row:07d}" for row in range(items)])
    user_ids = pa.array([f"U{row:07d}" for row in range(users)])
    pq.write_table(item_table(item_ids, catalogue, random), directory / "items.parquet")
    pq.write_table(user_table(user_ids, people), directory / "users.parquet")
    sessions = Sessions(catalogue, people, random)
    sessions.write(directory / "interactions.parquet", interactions, item_ids, user_ids)
    sessions.write_relevance(directory / "relevance.parquet", _JUDGED_QUERIES, item_ids)
