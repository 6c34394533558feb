"""The text of ``dpsr fleet status``."""

from __future__ import annotations

from collections import Counter

from tabulate import tabulate

from dpsr.serving.fleet.state import FleetStatus

_SHOWN = 10


def describe_status(status: FleetStatus) -> str:
    """Servers as a table; then aliases, models on their way, and problems."""
    rows = []
    for name, server in status.servers.items():
        count = Counter(server.models.values())
        state = "dead" if not server.alive else "drained" if server.drained else "alive"
        memory = f"{server.used_bytes / 2**30:.2f} / {server.memory_bytes / 2**30:.2f}"
        moving = ", ".join(f"{count[kind]} {kind}" for kind in ("loading", "draining", "unloading") if count[kind])
        rows.append((name, state, memory, count["ready"], moving))
    lines = [tabulate(rows, ("server", "state", "GiB", "models ready", "on their way"), tablefmt="simple"), ""]
    for alias, shares in status.aliases.items():
        lines.append(f"{alias} -> " + ", ".join(f"{model} {share:.1%}" for model, share in shares.items()))
    if status.missing:
        shown = [f"{model} ({count})" for model, count in list(status.missing.items())[:_SHOWN]]
        more = f" and {len(status.missing) - _SHOWN} more" if len(status.missing) > _SHOWN else ""
        lines.append(f"{len(status.missing)} models lack replicas: {', '.join(shown)}{more}")
    behind = status.behind()
    lines.append(
        f"routes {status.generation}, controller {status.controller}, proxies "
        + (", ".join(f"{name}{' (behind)' if name in behind else ''}" for name in status.proxies) or "none")
    )
    lines += [f"problem: {problem}" for problem in status.problems]
    return "\n".join(lines)
