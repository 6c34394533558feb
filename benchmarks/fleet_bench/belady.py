"""Belady's optimum: the hits of a cache that knows the future (Belady, 1966)."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def hits_of_belady(order: Sequence[str], capacity: int) -> int:
    """Hits of a cache of ``capacity`` models of equal size that evicts what is asked for last, from empty."""
    later: dict[str, list[int]] = {}
    for place in range(len(order) - 1, -1, -1):
        later.setdefault(order[place], []).append(place)
    held: set[str] = set()
    queue: list[tuple[int, str]] = []
    hits = 0
    for name in order:
        later[name].pop()
        next_use = later[name][-1] if later[name] else len(order)
        if name in held:
            hits += 1
        else:
            while len(held) >= capacity:
                negative, victim = heapq.heappop(queue)
                current = later[victim][-1] if later[victim] else len(order)
                if victim in held and -negative == current:
                    held.remove(victim)
            held.add(name)
        heapq.heappush(queue, (-next_use, name))
    return hits
