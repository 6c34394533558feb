"""What ``dpsr cluster plan`` prints of a plan."""

from __future__ import annotations

from tabulate import tabulate

from dpsr.cluster.plan import USABLE_MEMORY, Plan

GIB = 1 << 30


def describe(plan: Plan, ps: int | None, ps_memory: float, workers: int, network: float, speed: float | None) -> str:
    """The text of ``dpsr cluster plan``.

    Args:
        plan: the loads of a training.
        ps: parameter servers; None for as many as the memory needs.
        ps_memory: memory of each of them, GiB.
        workers: workers.
        network: link of every task, Gbit/s.
        speed: examples/s of one worker; None if not known.
    """
    needed = plan.servers_for_memory(ps_memory * GIB)
    ps = ps or needed or 1
    sections = [_tables(plan, ps), _memory(plan, ps, needed, ps_memory), _traffic(plan, ps), _peer(plan, ps)]
    return "\n\n".join([*sections, _network(plan, ps, workers, network, speed)])


def _tables(plan: Plan, ps: int) -> str:
    rows = []
    for table in plan.tables:
        counts = (f"{count:,.0f}" for count in table.lookups)
        rows.append([table.name, f"{table.rows:,}", _size(table.stored_bytes), plan.shards(table, ps), *counts])
    rows.append([plan.dense.name, "", _size(plan.dense.stored_bytes), 1, "", "", ""])
    headers = ["table", "rows", "with accumulators", "shards", "bags a step", "ids", "distinct ids"]
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=("left", *["right"] * 6))


def _memory(plan: Plan, ps: int, needed: int | None, ps_memory: float) -> str:
    fullest = max(server.stored_bytes for server in plan.servers(ps))
    text = f"memory: {_size(plan.stored_bytes)} in all, {_size(fullest)} on the fullest parameter server of {ps}"
    each = f"{ps_memory:g} GiB each, {USABLE_MEMORY:.0%} of it for tables"
    if needed is None:
        largest = max(load.stored_bytes / load.most_shards(plan.split_above_bytes) for load in plan.loads)
        return (
            f"{text}\n        TOO LITTLE: no number of parameter servers with {each}, is enough, since the largest "
            f"shard takes {_size(largest)}; lower cluster.split_above_bytes ({plan.split_above_bytes:,}), or raise "
            "--ps-memory"
        )
    if fullest > USABLE_MEMORY * ps_memory * GIB:
        return f"{text}\n        TOO LITTLE: with {each}, it takes {needed}; raise --ps or --ps-memory"
    return f"{text}; {needed} would do ({each})"


def _traffic(plan: Plan, ps: int) -> str:
    names = ["ids", "sums", "gradients", "dense", "overhead", "total"]
    ours, peer = plan.traffic(ps), plan.peer_traffic()
    rows = [[name, *(f"{getattr(each, name):,.0f}" for each in (ours, peer))] for name in names]
    headers = [f"bytes of a step ({plan.batch_size} examples)", "bags summed on ps", "rows sent to the worker"]
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=("left", "right", "right"))


def _peer(plan: Plan, ps: int) -> str:
    ours = plan.traffic(ps).total
    ratio, of_example = plan.peer_traffic().total / ours, ours / plan.batch_size
    return f"wire: {ratio:.1f} times less than with rows sent to the worker; {of_example:,.0f} bytes an example"


def _network(plan: Plan, ps: int, workers: int, network: float, speed: float | None) -> str:
    limit, of_servers = plan.network_limit(ps, network), plan.servers_limit(ps, network)
    busiest = max(server.step_bytes for server in plan.servers(ps)) / plan.traffic(ps).total
    lines = [
        f"network: a link of {network:g} Gbit/s carries {limit:,.0f} examples/s of a worker; the busiest "
        f"parameter server of {ps} moves {busiest:.0%} of the bytes: its link is full at {of_servers:,.0f} examples/s"
    ]
    if speed is None:
        lines.append(
            "         give --examples-per-second of one worker (or train once) to see how many workers that is"
        )
        return "\n".join(lines)
    most, wanted = of_servers / speed, workers * speed
    lines.append(f"         one worker at {speed:,.0f} examples/s uses {speed / limit:.1%} of its link")
    if workers <= most:
        lines.append(
            f"         {workers} workers: {workers * min(speed, limit):,.0f} examples/s, {workers / most:.1%} of the "
            f"busiest link of a parameter server; it is full at {most:,.0f} workers"
        )
        return "\n".join(lines)
    reached, enough = min(workers * min(speed, limit), of_servers), plan.servers_for_speed(wanted, network)
    remedy = (
        f"it takes {enough:,} parameter servers, or a faster network"
        if enough
        else "no number of parameter servers is enough, since one of them holds the busiest table or shard: it takes a "
        "faster network, cluster.wire = 'bfloat16', or a larger cluster.dense_sync_steps"
    )
    lines.append(
        f"         {workers} workers: THE NETWORK IS THE LIMIT, {reached:,.0f} of {wanted:,.0f} examples/s; "
        f"the busiest link is full at {most:,.1f} workers\n         {remedy}"
    )
    return "\n".join(lines)


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"
