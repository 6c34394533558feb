"""What the parts of a model weigh on parameter servers: bytes that stay there, and bytes that travel in a step."""

from __future__ import annotations

import itertools

from dpsr.cluster.placement import Load
from dpsr.config import Config
from dpsr.data.dataset.schema import Schema
from dpsr.model.tower_inputs import head_tables, tower_inputs
from dpsr.training.negatives import count_random_negatives

DENSE = "dense layers"


def loads_of_model(config: Config, schema: Schema) -> list[Load]:
    """The tables of a model by name, and its dense layers as one load named ``DENSE``.

    A lookup and its gradient are a vector each for every bag, or for every distinct id of a bag of one.
    """
    query_inputs, item_inputs = tower_inputs(config.model, schema)
    queries = config.training.batch_size
    items = queries + count_random_negatives(config.loss.mixing_ratio, config.loss.group_size)
    entry_bytes = 2 if config.cluster.wire == "bfloat16" else 4
    loads = []
    for name, rows in (query_inputs | item_inputs).items():
        bags = queries * (name in query_inputs) + items * (name in item_inputs)
        vectors = min(bags, rows) if name.startswith(("user.", "item.")) else bags
        loads.append(Load(name, rows, config.model.dimension, 2.0 * entry_bytes * vectors * config.model.dimension))
    own = len(head_tables(config.model))
    if own:
        entries = own * _dense_entries(config, len(query_inputs) - own + 1, 1)
    else:
        entries = _dense_entries(config, len(query_inputs), config.model.heads)
    entries += _dense_entries(config, len(item_inputs), 1)
    return [*loads, Load(DENSE, entries, 1, 2.0 * entry_bytes * entries)]


def _dense_entries(config: Config, inputs: int, outputs: int) -> int:
    """Weights and biases of a tower."""
    widths = [inputs * config.model.dimension, *config.model.hidden, outputs * config.model.dimension]
    return sum((before + 1) * after for before, after in itertools.pairwise(widths))
