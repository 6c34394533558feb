"""Which tables the towers read, and the bags of ids that a batch looks up in each."""

from __future__ import annotations

import tensorflow as tf

from dpsr.config import ModelConfig
from dpsr.data.batches.features import ItemFeatures, QueryFeatures
from dpsr.data.dataset.schema import Schema

TableBags = dict[str, tf.RaggedTensor]
"""The bags of every table, int32 [B, None]."""


def tower_inputs(config: ModelConfig, schema: Schema) -> tuple[dict[str, int], dict[str, int]]:
    """The tables that the query tower reads and those of the item tower, in the towers' order, with their rows."""
    query = {"tokens" if config.shared_tokens else "query_tokens": schema.token_rows}
    query |= dict.fromkeys(head_tables(config), schema.token_rows)
    if config.profile:
        query |= {f"user.{column}": rows for column, rows in schema.profile.items()}
    if config.history_length > 0 and schema.num_users > 0:
        query["history"] = schema.num_items
        if config.history_titles:
            query["history_titles"] = schema.token_rows
    item = {"tokens" if config.shared_tokens else "item_tokens": schema.token_rows}
    return query, item | {f"item.{column}": rows for column, rows in schema.categorical.items()}


def head_tables(config: ModelConfig) -> list[str]:
    """The tables of query tokens that one head alone reads, head by head."""
    return [f"query_tokens.{head}" for head in range(config.heads)] if config.head_tables else []


def query_bags(config: ModelConfig, schema: Schema, queries: QueryFeatures) -> TableBags:
    """Names the table of every input of the query tower, in the tower's order."""
    bags: TableBags = {}
    for name in tower_inputs(config, schema)[0]:
        kind, _, column = name.partition(".")
        if kind == "user":
            bags[name] = _bags_of_one(queries.profile[column])
        elif kind == "history":
            bags[name] = queries.history
        elif kind == "history_titles":
            if queries.history_titles is None:
                raise ValueError("the model reads the titles of the history, and the batch was joined without them")
            bags[name] = queries.history_titles
        else:
            bags[name] = queries.tokens
    return bags


def item_bags(config: ModelConfig, schema: Schema, items: ItemFeatures) -> TableBags:
    """Names the table of every input of the item tower, in the tower's order."""
    tokens, *columns = tower_inputs(config, schema)[1]
    return {tokens: items.tokens} | {
        name: _bags_of_one(items.categorical[name.removeprefix("item.")]) for name in columns
    }


def join_bags(first: TableBags, second: TableBags) -> TableBags:
    """Both one after the other, table by table."""
    both = first.keys() & second.keys()
    joined = {name: tf.concat([first[name], second[name]], axis=0) for name in sorted(both)}
    return {**first, **second, **joined}


def _bags_of_one(ids: tf.Tensor) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_uniform_row_length(ids, 1, validate=False)
