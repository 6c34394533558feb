"""The arithmetic of ``dpsr cluster plan``, against hand arithmetic, the real model and the real pipeline."""

from __future__ import annotations

import itertools
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from dpsr.cli import main
from dpsr.cluster import plan as planning
from dpsr.cluster.loads import (
    INT32,
    INT64,
    TENSOR_OVERHEAD,
    DenseLoad,
    Lookups,
    TableLoad,
    dense_shapes,
    expected_loads,
)
from dpsr.cluster.plan import Plan, make_plan
from dpsr.config import Config, load_config
from dpsr.data.batches.steps import epoch_batches
from dpsr.data.dataset.tables import Dataset
from dpsr.data.demo_shop.shop import generate
from dpsr.data.prepare.job import prepare
from dpsr.model.embeddings import EmbeddingTable, lookup_together
from dpsr.model.shards import NUM_KINDS
from dpsr.training import tower_step

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "examples" / "dpsr_h.toml"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A prepared shop, as the overrides of the example that lead to it."""
    folder = tmp_path_factory.mktemp("shop")
    generate(folder / "shop", items=500, users=100, interactions=5000, seed=1)
    overrides = [f"work_dir={folder}"]
    overrides += [
        f"data.{name}.path={folder / 'shop' / name}.parquet" for name in tomllib.loads(EXAMPLE.read_text())["data"]
    ]
    prepare(load_config(EXAMPLE, overrides), progress=False)
    return overrides


def opened(shop: list[str], *overrides: str) -> tuple[Config, Dataset]:
    config = load_config(EXAMPLE, [*shop, *overrides])
    return config, Dataset.load(config.dataset_dir)


BAGS = TableLoad("tokens", rows=1000, dimension=8, lookups=Lookups(bags=10, ids=35, distinct=20))
COLUMN = TableLoad("item.brand", rows=50, dimension=8, lookups=Lookups(10, 10, distinct=4), one_id=True)
DENSE = DenseLoad(parameters=100, tensors=2)
PLAN = Plan((BAGS, COLUMN), DENSE, batch_size=5, split_above_bytes=1 << 30)


def test_a_bag_table_sends_ids_lengths_and_one_vector_a_bag_each_way() -> None:
    traffic = BAGS.traffic()
    assert traffic.ids == 35 * INT32 + 10 * INT32
    assert traffic.sums == traffic.gradients == 10 * 8 * 4
    assert replace(BAGS, wire=2).traffic().sums == 10 * 8 * 2


def test_every_shard_sends_sums_of_its_own() -> None:
    one, four = BAGS.traffic(), BAGS.traffic(shards=4)
    assert four.sums == 4 * one.sums
    assert four.gradients == 4 * one.gradients
    assert four.ids == 35 * INT32 + 4 * 10 * INT32
    assert four.overhead == 4 * one.overhead


def test_a_column_sends_its_distinct_rows_and_lengths_only_to_several_shards() -> None:
    traffic = COLUMN.traffic()
    assert (traffic.ids, traffic.sums, traffic.gradients) == (4 * INT32, 4 * 8 * 4, 4 * 8 * 4)
    assert COLUMN.traffic(shards=3).ids == 4 * INT32 + 3 * 4 * INT32


def test_weights_travel_to_several_shards_alone() -> None:
    by_kind, decaying = replace(BAGS, by_kind=True), replace(BAGS, decays=True)
    assert by_kind.traffic() == decaying.traffic() == BAGS.traffic()
    assert by_kind.traffic(2).ids - BAGS.traffic(2).ids == 2 * 2 * 10 * NUM_KINDS * INT32
    assert decaying.traffic(2).ids - BAGS.traffic(2).ids == 35 * 4


def test_the_peer_sends_distinct_rows_and_wide_ids() -> None:
    traffic = BAGS.peer_traffic()
    assert (traffic.ids, traffic.sums, traffic.gradients) == (20 * INT64, 20 * 8 * 4, 20 * 8 * 4)


def test_dense_layers_are_sent_every_step_or_their_changes_every_call() -> None:
    assert DENSE.traffic().dense == 2 * 400
    every_eight = replace(DENSE, sync_steps=8).traffic()
    assert every_eight.dense == 4 * 400 / 8
    assert every_eight.overhead == TENSOR_OVERHEAD * 4 * 2 / 8
    assert replace(DENSE, sync_steps=8).peer_traffic() == DENSE.traffic(), "the peer sends them at every step"


def test_the_total_is_the_sum_of_its_parts() -> None:
    loads = [BAGS.traffic(), COLUMN.traffic(), DENSE.traffic()]
    assert PLAN.traffic().total == sum(part.total for part in loads)
    by_hand = (180 + 320 + 320 + 4 * TENSOR_OVERHEAD) + (16 + 128 + 128 + 3 * TENSOR_OVERHEAD)
    by_hand += 800 + 4 * TENSOR_OVERHEAD
    assert PLAN.traffic().total == by_hand


def test_memory_and_parameter_servers() -> None:
    assert BAGS.stored_bytes == 1000 * 8 * 4 * 2
    assert PLAN.stored_bytes == 64_000 + 3_200 + 800
    assert PLAN.servers_for_memory(68_000 / 0.8) == 1
    assert PLAN.servers_for_memory(68_000 / 0.8 - 1) == 2
    assert PLAN.servers_for_memory(64_000 / 0.8 - 1) is None, "the largest table is whole on one of them"
    split = replace(PLAN, split_above_bytes=8_000)
    assert [load.most_shards(8_000) for load in split.loads] == [4, 1, 1]
    enough = split.servers_for_memory(21_000)
    assert enough is not None
    fullest = [max(each.stored_bytes for each in split.servers(num_ps)) for num_ps in (enough - 1, enough)]
    assert fullest[1] <= 0.8 * 21_000 < fullest[0], "the fewest"
    assert split.servers_for_memory(16_000 / 0.8 - 1) is None


def test_what_servers_hold_and_move_is_what_the_loads_do() -> None:
    """Whatever the number of servers, and whichever tables are split."""
    for split_above_bytes in (1, 8_000, 1 << 30):
        plan = replace(PLAN, split_above_bytes=split_above_bytes)
        for num_ps in (1, 2, 3, 7):
            servers = plan.servers(num_ps)
            assert sum(server.stored_bytes for server in servers) == pytest.approx(plan.stored_bytes)
            assert sum(server.step_bytes for server in servers) == pytest.approx(plan.traffic(num_ps).total)


def test_a_split_table_sends_more_and_its_servers_carry_less_each() -> None:
    split = replace(PLAN, split_above_bytes=8_000)
    assert split.shards(BAGS, 2) == 2
    assert split.traffic(2).total - PLAN.traffic(2).total == BAGS.traffic(2).total - BAGS.traffic(1).total > 0
    assert max(server.stored_bytes for server in split.servers(2)) < max(
        server.stored_bytes for server in PLAN.servers(2)
    )


def test_the_network_is_full_where_bytes_say_so() -> None:
    assert planning.examples_per_second(64, step_bytes=125_000, gigabits=1) == 64 * 1000
    assert planning.workers_before_saturation(step_bytes=125_000, step_seconds=0.01, gigabits=1) == pytest.approx(10)
    assert PLAN.network_limit(1, 20) == 2 * PLAN.network_limit(1, 10)
    assert PLAN.servers_limit(1, 10) == PLAN.network_limit(1, 10)
    busiest = max(server.step_bytes for server in PLAN.servers(2))
    assert PLAN.servers_limit(2, 10) == planning.examples_per_second(5, busiest, 10) > PLAN.servers_limit(1, 10)


def test_more_servers_do_not_speed_up_the_busiest_table() -> None:
    of_one, of_many = PLAN.servers_limit(1, 10), PLAN.servers_limit(50, 10)
    assert PLAN.servers_for_speed(0.9 * of_one, 10) == 1
    assert PLAN.servers_for_speed(1.1 * of_one, 10) == 2
    assert PLAN.servers_for_speed(1.1 * of_many, 10) is None


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model.shared_tokens=false", "model.heads=3", "model.hidden=[32, 16]"],
        ["model.profile=false", "model.history_length=0", "model.history_titles=0", "model.hidden=[]"],
        ["model.heads=3", "model.head_tables=true"],
    ],
)
def test_tables_and_layers_are_those_of_the_model(shop: list[str], overrides: list[str]) -> None:
    from dpsr.model.two_tower import TwoTower

    config, dataset = opened(shop, *overrides)
    model = TwoTower(config.model, dataset.schema)
    towers = [*model.query_tower.trainable_variables, *model.item_tower.trainable_variables]
    assert sorted(dense_shapes(config.model, dataset.schema)) == sorted(tuple(each.shape) for each in towers)
    plan = make_plan(config, dataset, sampled_steps=1)
    assert plan.dense.parameters == sum(int(np.prod(each.shape)) for each in towers)
    assert [(table.name, table.rows) for table in plan.tables] == [
        (name, table.rows) for name, table in model.tables.items()
    ]
    expected = expected_loads(config, dataset)
    assert [(load.name, load.rows, load.stored_bytes) for load in expected] == [
        (load.name, load.rows, load.stored_bytes) for load in plan.loads
    ], "the training places what the plan adds up"
    for load, counted in zip(expected, plan.loads, strict=True):
        assert load.traffic().total == pytest.approx(counted.traffic().total, rel=0.3), load.name


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model.shared_tokens=false", "training.token_dropout=0"],
        ["model.heads=2", "model.head_tables=true", "training.token_dropout=0"],
        ["loss.hard_negatives=5", "model.shared_tokens=false"],
        ["pretraining.mixed_share=0.5", "training.typo_share=0.3", "model.shared_tokens=false"],
    ],
)
def test_counts_are_those_of_training_steps(shop: list[str], overrides: list[str]) -> None:
    """Bags exactly, but for hard negatives; ids and distinct ids of other steps of a real training within 5 %."""
    from dpsr.training.recipes import make_recipe

    config, dataset = opened(shop, "training.batch_size=128", "loss.group_size=64", *overrides)
    recipe = make_recipe(config, dataset)
    stage = recipe.stages[-1]
    seen: dict[str, list[tuple[int, int, int]]] = {}

    def counting(tables: list[EmbeddingTable], bags: list[tf.RaggedTensor]) -> list[tf.Tensor]:
        for name, table in recipe.model.tables.items():
            ids = np.concatenate([each.values for at, each in zip(tables, bags, strict=True) if at is table])
            rows = sum(int(each.nrows()) for at, each in zip(tables, bags, strict=True) if at is table)
            seen.setdefault(name, []).append((rows, len(ids), len(np.unique(ids))))
        return lookup_together(tables, bags)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tower_step, "lookup_together", counting)
        for batch in itertools.islice(epoch_batches(stage.batches, seed=config.training.seed, epoch=1), 30):
            stage.step(batch)
    for table in make_plan(config, dataset).tables:
        bags, ids, distinct = np.mean(seen[table.name], axis=0)
        assert table.lookups.bags == pytest.approx(bags, rel=0.05 if config.loss.hard_negatives else 0)
        assert table.lookups.ids == pytest.approx(ids, rel=0.05)
        assert table.lookups.distinct == pytest.approx(distinct, rel=0.05)


def run(shop: list[str], *options: str) -> str:
    sets = [part for override in shop for part in ("--set", override)]
    result = CliRunner().invoke(main, ["cluster", "plan", "-c", str(EXAMPLE), *sets, *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_says_what_is_too_little(shop: list[str]) -> None:
    text = run(shop, "--examples-per-second", "1000", "--workers", "2")
    assert "TOO LITTLE" not in text
    assert "THE NETWORK IS THE LIMIT" not in text
    assert "TOO LITTLE" in run(shop, "--ps", "1", "--ps-memory", "0.001")
    assert "THE NETWORK IS THE LIMIT" in run(shop, "--examples-per-second", "100000", "--network", "0.01")
    assert "give --examples-per-second" in run(shop)


def test_the_command_counts_what_split_tables_send(shop: list[str]) -> None:
    split = [*shop, "cluster.split_above_bytes=20000", "model.combiner=sqrtn_by_kind"]
    plan = make_plan(*opened(split))
    assert max(plan.shards(table, 2) for table in plan.tables) == 2
    text = run(split, "--ps", "2")
    assert f"{plan.traffic(2).total:,.0f}" in text
    assert f"{plan.traffic(1).total:,.0f}" not in text
    assert plan.traffic(2).sums > 1.5 * plan.traffic(1).sums


def test_the_command_shows_the_bytes_of_the_plan(shop: list[str]) -> None:
    config, dataset = opened(shop)
    plan = make_plan(config, dataset)
    text = run(shop)
    for number in (plan.traffic().total, plan.peer_traffic().total):
        assert f"{number:,.0f}" in text
    assert f"{plan.peer_traffic().total / plan.traffic().total:.1f} times less" in text
