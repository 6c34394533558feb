"""The variant of an alias for a key: the same arithmetic as the proxy's, for tests and tools."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

BUCKETS = 1 << 32


def bounds(shares: Mapping[str, float]) -> list[tuple[str, int]]:
    """Models with the end of their part of the buckets, by name; the last part ends at the last bucket.

    Args:
        shares: model -> share; the shares sum to 1.
    """
    total, found = 0.0, []
    for model, share in sorted(shares.items()):
        total += share
        found.append((model, round(total * BUCKETS)))
    return [*found[:-1], (found[-1][0], BUCKETS)]


def variant_of(alias: str, key: str, shares: Mapping[str, float]) -> str:
    """The variant that a key gets: by the first 32 bits of SHA-256 of alias, a zero byte and the key.

    Args:
        alias: name of the alias, so that the parts of two experiments are independent.
        key: value of the sticky header or input.
        shares: model -> share; the shares sum to 1.
    """
    bucket = int.from_bytes(hashlib.sha256(f"{alias}\0{key}".encode()).digest()[:4], "big")
    return next(model for model, bound in bounds(shares) if bucket < bound)
