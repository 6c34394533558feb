"""The arithmetic of ``dpsr cluster plan``, against hand arithmetic, the real model and the real pipeline."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from dpsr.cli import main
from dpsr.cluster import plan as planning
from dpsr.cluster.plan import INT32, INT64, TENSOR_OVERHEAD, Plan, Table, make_plan
from dpsr.config import Config, load_config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.demo_shop.shop import generate
from dpsr.data.prepare.job import prepare
from dpsr.model.embeddings import EmbeddingTable, lookup_together
from dpsr.training import step

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


BAGS = Table("tokens", rows=1000, dimension=8, one_id=False, bags=10, ids=35, distinct=20)
COLUMN = Table("item.brand", rows=50, dimension=8, one_id=True, bags=10, ids=10, distinct=4)
PLAN = Plan((BAGS, COLUMN), dense_parameters=100, dense_tensors=2, batch_size=5, wire=4, dense_sync_steps=1)


def test_a_bag_table_sends_ids_lengths_and_one_vector_a_bag_each_way() -> None:
    traffic = BAGS.wire_bytes(wire=4)
    assert traffic.ids == 35 * INT32 + 10 * INT32
    assert traffic.sums == traffic.gradients == 10 * 8 * 4
    assert BAGS.wire_bytes(wire=2).sums == 10 * 8 * 2


def test_every_shard_sends_sums_of_its_own() -> None:
    one, four = BAGS.wire_bytes(4), BAGS.wire_bytes(4, shards=4)
    assert four.sums == 4 * one.sums
    assert four.gradients == 4 * one.gradients
    assert four.ids == 35 * INT32 + 4 * 10 * INT32


def test_a_column_sends_its_distinct_rows() -> None:
    traffic = COLUMN.wire_bytes(wire=4)
    assert (traffic.ids, traffic.sums, traffic.gradients) == (4 * INT32, 4 * 8 * 4, 4 * 8 * 4)


def test_the_peer_sends_distinct_rows_and_wide_ids() -> None:
    traffic = BAGS.peer_wire_bytes()
    assert (traffic.ids, traffic.sums, traffic.gradients) == (20 * INT64, 20 * 8 * 4, 20 * 8 * 4)


def test_dense_layers_are_sent_every_step_or_their_changes_every_call() -> None:
    assert PLAN.dense_traffic().dense == 2 * 400
    of_eight = Plan(PLAN.tables, 100, 2, 5, 4, dense_sync_steps=8).dense_traffic()
    assert of_eight.dense == 4 * 400 / 8
    assert of_eight.overhead == TENSOR_OVERHEAD * 4 * 2 / 8


def test_the_total_is_the_sum_of_its_parts() -> None:
    parts = [BAGS.wire_bytes(4), COLUMN.wire_bytes(4), PLAN.dense_traffic()]
    assert PLAN.traffic().total == sum(part.total for part in parts)
    by_hand = (180 + 320 + 320 + 4 * TENSOR_OVERHEAD) + (16 + 128 + 128 + 3 * TENSOR_OVERHEAD)
    by_hand += 800 + 4 * TENSOR_OVERHEAD
    assert PLAN.traffic().total == by_hand


def test_memory_and_parameter_servers() -> None:
    assert BAGS.stored_bytes == 1000 * 8 * 4 * 2
    assert PLAN.stored_bytes == 64_000 + 3_200 + 800
    assert PLAN.parameter_servers(memory=68_000 / 0.8) == 1
    assert PLAN.parameter_servers(memory=68_000 / 0.8 - 1) == 2
    assert PLAN.parameter_servers(memory=20_000) == 5


def test_the_network_is_full_where_bytes_say_so() -> None:
    assert planning.examples_per_second(64, step_bytes=125_000, gigabits=1) == 64 * 1000
    assert planning.workers_before_saturation(step_bytes=125_000, step_seconds=0.01, gigabits=1) == pytest.approx(10)
    assert PLAN.network_limit(20) == 2 * PLAN.network_limit(10)


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
    from dpsr.cluster.loads import DENSE, loads_of_model
    from dpsr.model.two_tower import TwoTower

    config, dataset = opened(shop, *overrides)
    model = TwoTower(config.model, dataset.schema)
    towers = [*model.query_tower.trainable_variables, *model.item_tower.trainable_variables]
    assert sorted(planning.dense_shapes(config.model, dataset.schema)) == sorted(tuple(each.shape) for each in towers)
    plan = make_plan(config, dataset, sampled_steps=1)
    assert plan.dense_parameters == sum(int(np.prod(each.shape)) for each in towers)
    assert [(table.name, table.rows) for table in plan.tables] == [
        (name, table.rows) for name, table in model.tables.items()
    ]
    loads = {load.name: load.rows for load in loads_of_model(config, dataset.schema)}
    assert loads == {**{name: table.rows for name, table in model.tables.items()}, DENSE: plan.dense_parameters}


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
    from dpsr.training.trainer import Training

    config, dataset = opened(shop, "training.batch_size=128", "loss.group_size=64", *overrides)
    training = Training(config, dataset, progress=False)
    seen: dict[str, list[tuple[int, int, int]]] = {}

    def counting(tables: list[EmbeddingTable], bags: list[tf.RaggedTensor]) -> list[tf.Tensor]:
        for name, table in training._model.tables.items():
            ids = np.concatenate([each.values for at, each in zip(tables, bags, strict=True) if at is table])
            rows = sum(int(each.nrows()) for at, each in zip(tables, bags, strict=True) if at is table)
            seen.setdefault(name, []).append((rows, len(ids), len(np.unique(ids))))
        return lookup_together(tables, bags)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "lookup_together", counting)
        for batch in training._epoch_batches(training._training.first_epoch + 1, 0).take(30):
            training._step(batch)
    for table in make_plan(config, dataset).tables:
        bags, ids, distinct = np.mean(seen[table.name], axis=0)
        assert table.bags == pytest.approx(bags, rel=0.05 if config.loss.hard_negatives else 0)
        assert table.ids == pytest.approx(ids, rel=0.05)
        assert table.distinct == pytest.approx(distinct, rel=0.05)


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


def test_the_command_shows_the_bytes_of_the_plan(shop: list[str]) -> None:
    config, dataset = opened(shop)
    plan = make_plan(config, dataset, dense_sync_steps=config.cluster.dense_sync_steps_at(config.training.batch_size))
    text = run(shop)
    for number in (plan.traffic().total, plan.peer_traffic().total):
        assert f"{number:,.0f}" in text
    assert f"{plan.peer_traffic().total / plan.traffic().total:.1f} times less" in text
