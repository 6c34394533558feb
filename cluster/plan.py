"""How large a training cluster has to be: bytes of tables, bytes on the wire of a step, and what a network carries.

The arithmetic is that of ``loads`` over the lookups of the first training steps, which are counted, and over the
placement that the training itself uses.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tensorflow as tf

from dpsr.cluster.loads import DenseLoad, Load, Lookups, TableLoad, Traffic, dense_load, expected_loads, table_loads
from dpsr.cluster.placement import ROWS_TOGETHER, num_shards, place
from dpsr.config import Config
from dpsr.data.batches.steps import LogBatches, epoch_batches
from dpsr.data.dataset.schema import split_file
from dpsr.data.dataset.tables import Dataset
from dpsr.model.embeddings import TableBags
from dpsr.model.tower_inputs import join_bags, tower_inputs
from dpsr.training.negatives import HardNegatives
from dpsr.training.recipes import batch_maker, batch_sources
from dpsr.training.stages import DISTILLATION, INTERACTION, MLM, TRAINING
from dpsr.training.teachers import encoded_items

USABLE_MEMORY = 0.8
"""Share of a parameter server's memory that is for tables, layers and accumulators."""


@dataclass(frozen=True)
class ServerLoad:
    """What one parameter server has to do with."""

    stored_bytes: float
    """Entries and accumulators."""
    step_bytes: float
    """Moved in one step of one worker, both directions."""


@dataclass(frozen=True)
class Plan:
    """The loads of one training, and what they come to on any number of parameter servers."""

    tables: tuple[TableLoad, ...]
    dense: DenseLoad
    batch_size: int
    split_above_bytes: int
    """As ``cluster.split_above_bytes``."""
    expected: Sequence[Load] = ()
    """The same loads as the training's placement weighs them; ``tables`` and ``dense`` if empty."""

    @property
    def loads(self) -> tuple[Load, ...]:
        """The tables and the dense layers."""
        return (*self.tables, self.dense)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all tables, dense layers and accumulators."""
        return sum(load.stored_bytes for load in self.loads)

    def shards(self, load: Load, num_ps: int) -> int:
        """Shards of one of the loads."""
        return num_shards(load, num_ps, self.split_above_bytes)

    def servers(self, num_ps: int) -> list[ServerLoad]:
        """What each of ``num_ps`` parameter servers holds and moves."""
        held, moved = np.zeros(num_ps), np.zeros(num_ps)
        placed = place(self.expected or self.loads, num_ps, self.split_above_bytes)
        for load in self.loads:
            shards = placed[load.name]
            for shard in shards:
                held[shard.ps] += load.stored_bytes * shard.rows / max(load.rows, 1)
                moved[shard.ps] += load.traffic(len(shards)).total / len(shards)
        return [ServerLoad(*each) for each in zip(held.tolist(), moved.tolist(), strict=True)]

    def servers_for_memory(self, memory: float) -> int | None:
        """The fewest parameter servers of ``memory`` bytes that hold the model; None if no number of them does."""
        usable = USABLE_MEMORY * memory
        fewest = max(1, math.ceil(self.stored_bytes / usable))
        return self._fewest(fewest, lambda servers: max(each.stored_bytes for each in servers) <= usable)

    def servers_for_speed(self, examples_per_second: float, gigabits: float) -> int | None:
        """The fewest parameter servers whose links carry all workers' examples; None if no number of them does."""
        fewest = max(1, math.ceil(examples_per_second / self.network_limit(1, gigabits)))
        return self._fewest(fewest, lambda servers: self._carried(servers, gigabits) >= examples_per_second)

    def _fewest(self, first: int, holds: Callable[[list[ServerLoad]], bool]) -> int | None:
        """The first of growing numbers of servers with which ``holds``, at most 2 % above the fewest.

        None where the largest shard is too much for a server of its own: then no number of servers is enough.
        """
        if not holds([self._largest_shard(load) for load in self.loads]):
            return None
        num_ps = first
        while not holds(self.servers(num_ps)):
            num_ps += max(1, num_ps // 50)
        return num_ps

    def _largest_shard(self, load: Load) -> ServerLoad:
        """One shard of a load where there are as many servers as it has shards."""
        shards = load.most_shards(self.split_above_bytes)
        rows = min(load.rows, -(-load.rows // shards) + ROWS_TOGETHER) if shards > 1 else load.rows
        return ServerLoad(load.stored_bytes * rows / max(load.rows, 1), load.traffic(shards).total / shards)

    def traffic(self, num_ps: int = 1) -> Traffic:
        """What one step of one worker moves."""
        return sum((load.traffic(self.shards(load, num_ps)) for load in self.loads), Traffic())

    def peer_traffic(self) -> Traffic:
        """The same step with bags summed on the worker and dense layers sent at every step."""
        return sum((table.peer_traffic() for table in self.tables), self.dense.peer_traffic())

    def network_limit(self, num_ps: int, gigabits: float) -> float:
        """Examples a second that the link of one worker carries."""
        return examples_per_second(self.batch_size, self.traffic(num_ps).total, gigabits)

    def servers_limit(self, num_ps: int, gigabits: float) -> float:
        """Examples a second that the links of ``num_ps`` parameter servers carry; the busiest one is the limit."""
        return self._carried(self.servers(num_ps), gigabits)

    def _carried(self, servers: list[ServerLoad], gigabits: float) -> float:
        return examples_per_second(self.batch_size, max(each.step_bytes for each in servers), gigabits)


def examples_per_second(batch_size: int, step_bytes: float, gigabits: float) -> float:
    """Examples a second that a link carries when a step of ``batch_size`` moves ``step_bytes`` over it."""
    return batch_size * gigabits * 1e9 / 8 / step_bytes


def workers_before_saturation(step_bytes: float, step_seconds: float, gigabits: float) -> float:
    """Workers that fill a link when each takes a step of ``step_bytes`` in ``step_seconds``."""
    return gigabits * 1e9 / 8 * step_seconds / step_bytes


def make_plan(config: Config, dataset: Dataset, *, sampled_steps: int = 50) -> Plan:
    """Counts what some training steps of a dataset ask of every table.

    Args:
        config: the run.
        dataset: what ``dpsr prepare`` wrote.
        sampled_steps: steps that are counted, the first of an epoch.
    """
    lookups = count_lookups(config, dataset, sampled_steps)
    return Plan(
        tables=tuple(table_loads(config, dataset.schema, lookups)),
        dense=dense_load(config, dataset.schema),
        batch_size=config.training.batch_size,
        split_above_bytes=config.cluster.split_above_bytes,
        expected=expected_loads(config, dataset),
    )


def measured_speed(config: Config) -> float | None:
    """Examples a second of the last epoch on one machine; None where nothing was trained."""
    path = Path(config.checkpoint_dir) / "metrics.json"
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["epochs"][-1]["examples_per_second"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def count_lookups(config: Config, dataset: Dataset, steps: int) -> dict[str, Lookups]:
    """Counts what the first steps of an epoch look up in every table; means over the steps."""
    random = np.random.default_rng(config.training.seed)
    total: dict[str, np.ndarray] = {}
    counted = 0
    for bags in itertools.islice(_bags_of_steps(config, dataset, random), steps):
        for name, each in bags.items():
            ids = each.values.numpy()
            total[name] = total.get(name, 0) + np.array([each.nrows(), len(ids), len(np.unique(ids))])
        counted += 1
    return {name: Lookups(*map(float, counts / counted)) for name, counts in total.items()}


def _bags_of_steps(config: Config, dataset: Dataset, random: np.random.Generator) -> Iterator[TableBags]:
    """The bags that every step of the first epoch over the log looks up, or over the catalogue where no log is read."""
    loss, training = config.loss, config.training
    query_inputs, item_inputs = tower_inputs(config.model, dataset.schema, encoded_items(config))
    maker, hard = batch_maker(config, dataset), None
    # The stages of language look nothing up in tables. Distillation reads the log too.
    sources = batch_sources(config, dataset, maker)
    sources = {name: source for name, source in sources.items() if name not in (MLM, INTERACTION)} or {
        DISTILLATION: LogBatches(maker, dataset.directory / split_file("train"))
    }
    if TRAINING in sources and loss.hard_negatives:
        with TemporaryDirectory() as scratch:
            hard = HardNegatives.of_dataset(dataset, loss.hard_negatives, maker.tables, Path(scratch))
    _, last_stage = sources.popitem()
    for batch in epoch_batches(last_stage, seed=training.seed, epoch=0):
        tokens = batch.queries.tokens
        kept = random.random(len(tokens.values)) >= training.token_dropout
        queries = batch.queries._replace(tokens=tf.ragged.boolean_mask(tokens, tokens.with_values(kept)))
        bags = join_bags(query_inputs.bags(queries), item_inputs.bags(batch.items))
        if hard is not None:
            bags = join_bags(bags, item_inputs.bags(hard.of_queries(batch.query_rows)[1]))
        yield bags
