"""What a fleet would do: the plan, and the checks before a start."""

from __future__ import annotations

from pathlib import Path

from dpsr.config import FleetConfig
from dpsr.serving.fleet.errors import FleetError
from dpsr.serving.fleet.placement import Placement, place
from dpsr.serving.fleet.plan_text import describe_plan
from dpsr.serving.fleet.server_link import ServerLink
from dpsr.serving.fleet.state import Orders, read_state
from dpsr.serving.fleet.targets import Sizes, capacities, resident_demands
from dpsr.serving.fleet.up import servers_that_answer


def describe_plan_of(fleet: FleetConfig) -> str:
    """Which server would hold what, and what would move from where it is now.

    Raises:
        FleetError: a model fits nowhere, or its base path holds no servable.
    """
    sizes = _sizes(fleet)
    orders = read_state(Path(fleet.state_dir) / "orders.json", Orders) or Orders()
    demands, room = resident_demands(fleet, sizes), capacities(fleet, set(fleet.servers) - orders.drained)
    on_demand = [name for name, model in fleet.models.items() if model.on_demand]
    current = {model: servers for model, servers in _configured(fleet).items() if model not in on_demand}
    text = describe_plan(_place(fleet, sizes, current, orders), demands, room, current)
    if on_demand:
        total = sum(sizes[name] for name in on_demand) / 2**30
        text += (
            f"\n\n{len(on_demand)} models on demand, {total:.2f} GiB: loaded at a request, where residents leave room"
        )
    return text


def check_startable(fleet: FleetConfig, *, servers_must_answer: bool) -> None:
    """Checks everything that would keep a fleet from its configuration, before anything is changed.

    Raises:
        FleetError: a base path holds no servable, a model fits nowhere, or a server does not answer.
    """
    sizes = _sizes(fleet)
    _place(fleet, sizes, _configured(fleet), Orders())
    largest = max((server.memory_gib for server in fleet.servers.values()), default=0.0) * 2**30
    too_large = [f"{name} ({sizes[name] / 2**30:.2f} GiB)" for name in fleet.models if sizes[name] > largest]
    if too_large:
        raise FleetError(
            f"models larger than any server ({largest / 2**30:.2f} GiB): {', '.join(too_large)}; add a larger server"
        )
    for name in fleet.servers:  # a server does not start without its file, and only a fleet writes it
        if not fleet.config_file(name).exists():
            ServerLink.write_config(fleet.config_file(name), {})
    silent = (
        [name for name, answers in servers_that_answer(fleet).items() if not answers] if servers_must_answer else []
    )
    if silent:
        places = ", ".join(f"servers.{name} at {fleet.servers[name].address}" for name in silent)
        raise FleetError(
            f"nothing listens at the address of {places}; start each by: dpsr serve --model-config-file "
            f"{fleet.config_file(silent[0])} --set serving.model_config_poll_seconds=1, or take it out of fleet.toml"
        )


def _sizes(fleet: FleetConfig) -> dict[str, int]:
    measured = Sizes()
    sizes = measured.measure(fleet)
    if measured.problems:
        raise FleetError("\n".join(measured.problems.values()))
    return sizes


def _configured(fleet: FleetConfig) -> dict[str, list[str]]:
    """Model -> servers whose config file names it."""
    found: dict[str, list[str]] = {}
    for server in sorted(fleet.servers):
        for model in ServerLink.read_config(fleet.config_file(server)):
            found.setdefault(model, []).append(server)
    return found


def _place(fleet: FleetConfig, sizes: dict[str, int], current: dict[str, list[str]], orders: Orders) -> Placement:
    if not fleet.servers:
        raise FleetError("the fleet has no servers; add [servers.NAME] with address and memory_gib, or use --local N")
    room = capacities(fleet, set(fleet.servers) - orders.drained)
    return place(resident_demands(fleet, sizes), room, current)
