"""Laws of placement, over generated fleets."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dpsr.serving.fleet.eviction import RequestCounts, Resident, evict_for, room_for
from dpsr.serving.fleet.packing import stable_hashes
from dpsr.serving.fleet.placement import (
    BALANCE,
    Capacity,
    Demand,
    DoesNotFitError,
    Placement,
    place,
    place_one,
)

GIB = 1 << 30
laws = settings(max_examples=60, deadline=None, derandomize=True)


def a_fleet(
    seed: int, *, servers: int = 12, models: int = 150, in_use: float = 0.6
) -> tuple[list[Demand], list[Capacity]]:
    """Log-normal sizes, Zipf traffic; no replica has more than 0.4 of a server's mean load."""
    random = np.random.default_rng(seed)
    traffic = 1000.0 / np.arange(1, models + 1)[random.permutation(models)]
    mean = traffic.sum() / servers
    demands = [
        Demand(
            f"model{number}",
            int(random.lognormal(np.log(GIB), 0.7)),
            max(1 + int(random.integers(2)), int(np.ceil(load / (0.4 * mean)))),
            float(load),
        )
        for number, load in enumerate(traffic)
    ]
    used = sum(demand.bytes * demand.replicas for demand in demands)
    size = max(int(used / in_use / servers), max(demand.bytes for demand in demands))
    return demands, [Capacity(f"server{number}", size) for number in range(servers)]


def bytes_of(placement: Placement, demands: list[Demand]) -> dict[str, int]:
    """Server -> bytes, counted from the holders."""
    size = {demand.name: demand.bytes for demand in demands}
    used = dict.fromkeys(placement.bytes, 0)
    for model, servers in placement.holders.items():
        for server in servers:
            used[server] += size[model]
    return used


def loaded_bytes(placement: Placement, current: dict[str, tuple[str, ...]], demands: list[Demand]) -> int:
    size = {demand.name: demand.bytes for demand in demands}
    return sum(size[change.model] * len(change.load) for change in placement.moves_from(current))


demand_lists = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 4), st.one_of(st.just(0.0), st.floats(0.001, 50.0))), max_size=14
).map(lambda rows: [Demand(f"m{number}", *row) for number, row in enumerate(rows)])
capacity_lists = st.lists(st.integers(1, 30), min_size=1, max_size=7).map(
    lambda sizes: [Capacity(f"s{number}", size) for number, size in enumerate(sizes)]
)
holdings = st.dictionaries(
    st.sampled_from([f"m{number}" for number in range(16)]),
    st.lists(st.sampled_from([f"s{number}" for number in range(9)]), max_size=5).map(tuple),
)


@laws
@given(demand_lists, capacity_lists, holdings, st.dictionaries(st.sampled_from(["s0", "s1", "s2"]), st.integers(0, 12)))
def test_memory_is_never_exceeded_and_replicas_are_distinct(
    demands: list[Demand],
    capacities: list[Capacity],
    current: dict[str, tuple[str, ...]],
    taken: dict[str, int],
) -> None:
    try:
        placement, complete = place(demands, capacities, current, taken=taken), True
    except DoesNotFitError as error:
        placement, complete = error.placement, False
    assert placement.bytes == bytes_of(placement, demands)
    for capacity in capacities:
        used = placement.bytes[capacity.name]
        assert used == 0 or used + taken.get(capacity.name, 0) <= capacity.bytes
    for demand in demands:
        held = placement.holders[demand.name]
        assert len(set(held)) == len(held) <= demand.replicas
        assert not complete or len(held) == demand.replicas
        assert placement.load.keys() >= set(held)


@laws
@given(demand_lists, capacity_lists, holdings, st.randoms(use_true_random=False))
def test_the_order_of_the_arguments_does_not_matter(
    demands: list[Demand], capacities: list[Capacity], current: dict[str, tuple[str, ...]], random: object
) -> None:
    def outcome(*arguments: object) -> tuple[object, str]:
        try:
            return place(*arguments), ""
        except DoesNotFitError as error:
            return error.placement, str(error)

    def shuffled(values: object) -> list:
        values = list(values)
        random.shuffle(values)
        return values

    mixed = {name: tuple(shuffled(current[name])) for name in shuffled(current)}
    assert outcome(demands, capacities, current) == outcome(shuffled(demands), shuffled(capacities), mixed)


@laws
@given(demand_lists, capacity_lists, holdings)
def test_nothing_moves_without_a_reason(
    demands: list[Demand], capacities: list[Capacity], current: dict[str, tuple[str, ...]]
) -> None:
    try:
        placement = place(demands, capacities, current)
    except DoesNotFitError:
        assume(False)
    assert place(demands, capacities, placement.holders).moves_from(placement.holders) == []


@pytest.mark.parametrize("seed", range(20))
def test_the_bound_is_kept_where_it_is_feasible(seed: int) -> None:
    demands, capacities = a_fleet(seed)
    placement = place(demands, capacities)
    assert placement.max_over_mean <= BALANCE
    assert placement.hot == ()
    total = sum(demand.load for demand in demands)
    for capacity in capacities:
        held = [demand for demand in demands if capacity.name in placement.holders[demand.name]]
        load = sum(demand.load / demand.replicas for demand in held)
        assert load == pytest.approx(placement.load[capacity.name])
        assert placement.relative_load[capacity.name] == pytest.approx(load / (total / len(capacities)))


@pytest.mark.parametrize("seed", range(10))
def test_load_follows_memory_where_servers_differ(seed: int) -> None:
    demands, capacities = a_fleet(seed, in_use=0.5)
    capacities = [replace(one, bytes=one.bytes * (1 + number % 3)) for number, one in enumerate(capacities)]
    placement = place(demands, capacities)
    assert placement.max_over_mean <= BALANCE
    by_size = {factor: [one.name for one in capacities[factor - 1 :: 3]] for factor in (1, 2, 3)}
    small, large = (sum(placement.load[name] for name in by_size[factor]) for factor in (1, 3))
    assert 2.0 < large / small < 4.5


@pytest.mark.parametrize("seed", range(20))
def test_a_lost_server_moves_what_it_held(seed: int) -> None:
    demands, capacities = a_fleet(seed)
    before = place(demands, capacities).holders
    lost = capacities[seed % len(capacities)].name
    after = place(demands, [one for one in capacities if one.name != lost], before)
    held = sum(demand.bytes for demand in demands if lost in before[demand.name])
    assert held > 0
    assert held <= loaded_bytes(after, before, demands) <= 1.2 * held
    assert after.max_over_mean <= BALANCE


@pytest.mark.parametrize("seed", range(20))
def test_a_joined_server_takes_from_the_others_only(seed: int) -> None:
    demands, capacities = a_fleet(seed)
    before = place(demands, capacities)
    after = place(demands, [*capacities, Capacity("joined", capacities[0].bytes)], before.holders)
    changes = after.moves_from(before.holders)
    assert {server for change in changes for server in change.load} == {"joined"}
    assert after.max_over_mean <= BALANCE
    assert after.relative_load["joined"] >= 0.5
    assert all(after.load[name] <= before.load[name] + 1e-6 for name in before.load)
    again = place(demands, [*capacities, Capacity("joined", capacities[0].bytes)], after.holders)
    assert again.moves_from(after.holders) == []


@pytest.mark.parametrize("seed", range(10))
def test_a_lost_state_gives_the_same_placement(seed: int) -> None:
    """A model's rendezvous ranking depends on names alone: most replicas come back to where they were."""
    demands, capacities = a_fleet(seed, servers=20, models=400)
    before = place(demands, capacities).holders
    after = place(demands, [*capacities, Capacity("joined", capacities[0].bytes)]).holders
    stayed = sum(len(set(before[name]) & set(after[name])) for name in before)
    assert stayed / sum(map(len, before.values())) > 0.5


def test_hashes_are_those_of_every_release() -> None:
    assert stable_hashes(["", "shop", "日本"]).tolist() == [
        13020603013274838756,
        447892780787051604,
        4223062404410717160,
    ]


def test_current_replicas_stay_though_the_hash_ranks_others_first() -> None:
    demands = [Demand("a", GIB, 1, 1.0), Demand("b", GIB, 1, 1.0)]
    capacities = [Capacity(name, 10 * GIB) for name in ("x", "y")]
    for current in ({"a": ["x"], "b": ["y"]}, {"a": ["y"], "b": ["x"]}):
        assert place(demands, capacities, current).moves_from(current) == []


def test_superfluous_replicas_leave_the_most_loaded_server() -> None:
    demands = [Demand("a", 1, 1, 1.0), Demand("b", 1, 1, 1.0)]
    capacities = [Capacity(name, 10) for name in ("x", "y")]
    placement = place(demands, capacities, {"a": ("x", "y"), "b": ("x",)})
    assert placement.holders == {"a": ("y",), "b": ("x",)}


def test_a_model_that_outgrew_its_server_moves_and_the_others_stay() -> None:
    demands = [Demand("grown", 8, 1, 0.0), Demand("small", 2, 1, 0.0), Demand("other", 3, 1, 0.0)]
    capacities = [Capacity("x", 10), Capacity("y", 10)]
    current = {"grown": ["x"], "small": ["x"], "other": ["x"]}
    placement = place(demands, capacities, current)
    (change,) = placement.moves_from(current)
    assert change == ("other", ("y",), ("x",))


def test_fragmented_memory_is_cleared_by_the_fewest_bytes() -> None:
    """Of 12 bytes on three servers 6 are free, but nowhere 4: one model moves, and the smallest that is enough."""
    demands = [Demand("p", 1, 1, 1.0), Demand("q", 1, 1, 1.0), Demand("r", 2, 1, 1.0), Demand("s", 2, 1, 1.0)]
    capacities = [Capacity(name, 4) for name in ("x", "y", "z")]
    current = {"p": ["x"], "q": ["x"], "r": ["y"], "s": ["z"]}
    placement = place([*demands, Demand("large", 4, 1, 1.0)], capacities, current, balance=100.0)
    assert loaded_bytes(placement, current, [*demands, Demand("large", 4, 1, 1.0)]) == 4 + 2
    assert len(placement.holders["large"]) == 1


def test_a_hot_model_is_named_and_gets_a_server_to_itself() -> None:
    demands = [Demand("hot", 1, 1, 90.0), *(Demand(f"m{number}", 1, 1, 1.0) for number in range(10))]
    capacities = [Capacity(name, 20) for name in ("x", "y", "z")]
    placement = place(demands, capacities)
    assert placement.hot == ("hot",)
    alone = placement.holders["hot"][0]
    assert all(alone not in servers for model, servers in placement.holders.items() if model != "hot")
    spread = place([replace(demands[0], replicas=3), *demands[1:]], capacities)
    assert spread.hot == ()
    assert spread.max_over_mean <= BALANCE


def test_a_server_that_became_hot_gives_up_the_fewest_bytes_for_the_load() -> None:
    sizes = {"a": 8, "b": 1, "c": 4}
    capacities = [Capacity(name, 40) for name in ("x", "y")]
    current = {name: ["x"] for name in sizes} | {"d": ["y"]}
    demands = [Demand(name, size, 1, 10.0) for name, size in sizes.items()] + [Demand("d", 1, 1, 10.0)]
    assert place(demands, capacities, current).moves_from(current) == [("b", ("y",), ("x",))]


def test_models_without_traffic_are_placed_and_stay() -> None:
    demands = [Demand(f"m{number}", 1, 2, 0.0) for number in range(20)]
    capacities = [Capacity(f"s{number}", 20) for number in range(4)]
    placement = place(demands, capacities)
    assert placement.max_over_mean == 0.0
    joined = place(demands, [*capacities, Capacity("s4", 20)], placement.holders)
    assert joined.moves_from(placement.holders) == []


def test_every_model_that_fits_nowhere_is_named_and_the_rest_is_placed() -> None:
    demands = [
        Demand("large", 30 * GIB, 1, 1.0),
        Demand("many", GIB, 3, 1.0),
        Demand("fits", GIB, 1, 1.0),
        Demand("wide", 12 * GIB, 2, 1.0),
    ]
    capacities = [Capacity("x", 16 * GIB), Capacity("y", 10 * GIB)]
    with pytest.raises(DoesNotFitError) as raised:
        place(demands, capacities)
    text = str(raised.value)
    assert "models.large: 1 of 1 replicas fit nowhere, 30.00 GiB each; servers." in text
    assert "models.many: 1 of 3 replicas" in text
    assert "the fleet has 2 servers" in text
    assert "models.wide: 1 of 2 replicas fit nowhere, 12.00 GiB each; servers.y has most room" in text
    assert "3.00 GiB of 10.00 GiB" not in text
    assert "fits" not in text.replace("fit nowhere", "")
    assert "on_demand = true" in text
    assert raised.value.placement.holders["fits"] != ()
    assert raised.value.placement.holders["many"] == ("x", "y")


def test_the_missing_memory_is_stated() -> None:
    with pytest.raises(
        DoesNotFitError, match=r"servers\.y has most room, 6\.00 GiB of 8\.00 GiB, 1\.50 GiB too little"
    ):
        place([Demand("a", 15 << 29, 1, 1.0)], [Capacity("x", GIB), Capacity("y", 8 * GIB)], taken={"y": 2 * GIB})


def test_a_fleet_without_servers_is_an_error_and_one_without_models_is_none() -> None:
    with pytest.raises(DoesNotFitError, match="the fleet has 0 servers"):
        place([Demand("a", 1, 1, 1.0)], [])
    assert place([], []).max_over_mean == 0.0
    assert place([], [Capacity("x", 1)], {"gone": ["x"]}).moves_from({"gone": ["x"]}) == [("gone", (), ("x",))]


def test_one_model_goes_where_place_would_put_it() -> None:
    demand, capacities = Demand("a", 4, 1, 1.0), [Capacity(f"s{number}", 8) for number in range(6)]
    (expected,) = place([demand], capacities, balance=100.0).holders["a"]
    assert place_one(demand, capacities, {}, {}, balance=100.0) == expected
    second = place_one(demand, capacities, {}, {}, {expected}, balance=100.0)
    assert second not in (None, expected)
    assert place_one(demand, capacities, {expected: 5}, {}, balance=100.0) == second
    assert place_one(demand, capacities, {one.name: 5 for one in capacities}, {}) is None
    assert place_one(demand, capacities, {}, {}, [one.name for one in capacities]) is None


def test_one_model_keeps_to_the_bound() -> None:
    capacities = [Capacity(f"s{number}", 8) for number in range(3)]
    demand = Demand("a", 1, 1, 1.0)
    for idle in capacities:
        loads = {one.name: 0.0 if one is idle else 10.0 for one in capacities}
        assert place_one(demand, capacities, {}, loads) == idle.name


@laws
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3), st.integers(0, 9), st.booleans()), max_size=8),
    st.integers(0, 30),
    st.integers(0, 40),
)
def test_eviction_frees_enough_keeps_pinned_models_and_spares_what_it_can(
    rows: list[tuple[int, int, int, bool]], needed: int, spare: int
) -> None:
    residents = [Resident(f"m{number}", *row) for number, row in enumerate(rows)]
    capacity = Capacity("s", sum(resident.bytes for resident in residents) + spare)
    evicted = evict_for(needed, capacity, residents)
    free = {resident.name: resident.bytes for resident in residents if not resident.pinned}
    if evicted is None:
        assert sum(free.values()) + spare < needed
        return
    freed = sum(free[name] for name in evicted)  # a pinned one has no entry
    assert len(set(evicted)) == len(evicted)
    assert freed + spare >= needed
    assert all(freed - free[name] + spare < needed for name in evicted)
    if spare >= needed:
        assert evicted == []


def test_the_least_wanted_goes_first_and_of_equals_the_least_recently_used() -> None:
    residents = [
        Resident("wanted", 1, 5.0, 0.0),
        Resident("recent", 1, 1.0, 9.0),
        Resident("old", 1, 1.0, 2.0),
    ]
    assert evict_for(2, Capacity("s", 3), residents) == ["old", "recent"]


def test_room_is_made_where_the_fewest_requests_are_lost() -> None:
    capacities = [Capacity("x", 2), Capacity("y", 2), Capacity("z", 2)]
    residents = {
        "x": [Resident("a", 1, 5.0), Resident("b", 1, 3.0)],
        "y": [Resident("c", 2, 2.0)],
        "z": [Resident("d", 2, 1.0, pinned=True)],
    }
    demand = Demand("new", 1, 1, 0.0)
    assert room_for(demand, capacities, residents, {}) == ("y", ["c"])
    assert room_for(demand, capacities, residents, {}, {"y"}) == ("x", ["b"])
    assert room_for(demand, capacities, residents, {}, {"x", "y"}) is None
    assert room_for(demand, capacities, residents | {"z": []}, {}) == ("z", [])


def test_counts_of_requests_decay_with_the_requests_of_all_models() -> None:
    counts = RequestCounts()
    counts.add({"a": 4, "b": 4})
    assert counts.count("a") == 4.0
    counts.add({"b": 16})  # half-life: 8 requests a model
    assert counts.count("a") == pytest.approx(2.0)
    assert counts.count("b") == pytest.approx(2.0 + 16.0)
    assert counts.count("never") == 0.0
    counts.forget({"b"})
    assert counts.count("a") == 0.0
    assert counts.count("b") == pytest.approx(18.0)
