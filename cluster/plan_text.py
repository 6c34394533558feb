"""What ``dpsr cluster plan`` prints of a plan."""

from __future__ import annotations

from tabulate import tabulate

from dpsr.cluster.plan import USABLE_MEMORY, Plan

GIB = 1 << 30


def describe(plan: Plan, ps: int | None, ps_memory: float, workers: int, network: float, speed: float | None) -> str:
    """The text of ``dpsr cluster plan``."""
    needed = plan.parameter_servers(ps_memory * GIB)
    ps = ps or needed
    parts = [_table_of_tables(plan), _memory(plan, ps, needed, ps_memory), _table_of_traffic(plan)]
    parts += [_peer(plan), _network(plan, ps, workers, network, speed)]
    return "\n\n".join(parts)


def _table_of_tables(plan: Plan) -> str:
    rows = []
    for table in plan.tables:
        counts = (f"{count:,.0f}" for count in (table.bags, table.ids, table.distinct))
        rows.append([table.name, f"{table.rows:,}", _size(table.stored_bytes), *counts])
    rows.append(["dense layers", "", _size(8 * plan.dense_parameters), "", "", ""])
    headers = ["table", "rows", "with accumulators", "bags a step", "ids", "distinct ids"]
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=("left", *["right"] * 5))


def _memory(plan: Plan, ps: int, needed: int, ps_memory: float) -> str:
    text = (
        f"memory: {_size(plan.stored_bytes)} in all, {_size(plan.stored_bytes / ps)} on each of {ps} parameter "
        f"server{'s' * (ps > 1)} where it is spread evenly"
    )
    if ps < needed:
        return (
            f"{text}\n        TOO LITTLE: with {ps_memory:g} GiB each, {USABLE_MEMORY:.0%} of it for tables, it takes "
            f"{needed}; raise --ps or --ps-memory"
        )
    return f"{text}; {needed} would do ({ps_memory:g} GiB each, {USABLE_MEMORY:.0%} of it for tables)"


def _table_of_traffic(plan: Plan) -> str:
    names = ["ids", "sums", "gradients", "dense", "overhead", "total"]
    ours, peer = plan.traffic(), plan.peer_traffic()
    rows = [[name, *(f"{getattr(each, name):,.0f}" for each in (ours, peer))] for name in names]
    headers = [f"bytes of a step ({plan.batch_size} examples)", "bags summed on ps", "rows sent to the worker"]
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=("left", "right", "right"))


def _peer(plan: Plan) -> str:
    ours = plan.traffic().total
    ratio = plan.peer_traffic().total / ours
    of_example = ours / plan.batch_size
    return f"wire: {ratio:.1f} times less than with rows sent to the worker; {of_example:,.0f} bytes an example"


def _network(plan: Plan, ps: int, workers: int, network: float, speed: float | None) -> str:
    limit = plan.network_limit(network)
    lines = [
        f"network: a link of {network:g} Gbit/s carries {limit:,.0f} examples/s; {ps} parameter server"
        f"{'s' * (ps > 1)} with one each {limit * ps:,.0f} where the traffic is spread evenly"
    ]
    if speed is None:
        lines.append(
            "         give --examples-per-second of one worker (or train once) to see how many workers that is"
        )
        return "\n".join(lines)
    most = ps * limit / speed
    total = min(workers * min(speed, limit), ps * limit)
    lines.append(f"         one worker at {speed:,.0f} examples/s uses {speed / limit:.1%} of its link")
    if workers <= most:
        share = workers / most
        lines.append(
            f"         {workers} workers: {total:,.0f} examples/s, {share:.1%} of the parameter servers' links; "
            f"these are full at {most:,.0f} workers"
        )
    else:
        wanted = -(-workers * speed // limit)
        lines.append(
            f"         {workers} workers: THE NETWORK IS THE LIMIT, {total:,.0f} of {workers * speed:,.0f} examples/s; "
            f"the links of {ps} are full at {most:,.1f} workers\n"
            f"         it takes {wanted:,.0f} parameter servers, or a faster network"
        )
    return "\n".join(lines)


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"
