"""The arithmetic of placement over arrays: rendezvous hashing with bounded loads, making room, and levelling."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

FILL_BELOW = 0.5
"""A server with less than this part of its share of the load, a new one as a rule, takes replicas from others."""
_AIM = 0.8
"""Part of the way from the mean to the bound that new replicas use, so that a small change exceeds no bound."""
_HOT_SLACK = 1.1
"""A server with one replica above the bound keeps others that add at most a tenth: their move would gain little."""
_LEAST_GAIN = 1 / 16
"""Part of the excess load that an exchange has to remove."""
_EPSILON = 1e-9
"""Relative error of sums of loads."""
_ROOM_SERVERS, _SWAP_MODELS, _SWAP_SERVERS = 64, 16, 32
"""Bounds of the searches: servers that may be cleared for one model; replicas and servers of an exchange."""


def stable_hashes(names: Iterable[str]) -> np.ndarray:
    """64-bit hashes of names, equal on every machine and in every release, uint64 [n]."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _mix(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: every bit of the result depends on every bit of the value."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Packing:
    """Replicas of models on servers; indices of both follow the order of the arguments."""

    def __init__(
        self,
        models: Sequence[str],
        model_bytes: Sequence[int],
        replica_load: Sequence[float],
        servers: Sequence[str],
        capacity: Sequence[int],
        *,
        taken: Sequence[int],
        used_load: Sequence[float],
        total_load: float,
        balance: float,
    ) -> None:
        """An empty packing.

        Args:
            models: names [n].
            model_bytes: memory of one replica, in bytes [n].
            replica_load: requests per second of one replica [n].
            servers: names [m].
            capacity: memory for models, in bytes [m].
            taken: part of it that others use, in bytes [m].
            used_load: requests per second that others cause [m].
            total_load: requests per second of everything that is placed, and of ``used_load``.
            balance: bound of a server's load over its share of ``total_load``, which is by capacity.
        """
        self.bytes = list(model_bytes)
        self.rate = list(replica_load)
        self.capacity = np.array(capacity, np.int64)
        self.free = self.capacity - np.array(taken, np.int64)
        self.load = np.array(used_load, np.float64)
        weights = np.maximum(self.capacity, 1).astype(np.float64)
        self.weights = weights / weights.sum()
        self.share = np.maximum(total_load * self.weights, np.finfo(np.float64).tiny)
        """Load of each server at perfect balance [m]."""
        self.bound = balance * self.share
        self.aim = self.share + _AIM * (self.bound - self.share)
        self.low = self.share / balance
        """What a server that takes replicas from others fills up to [m]."""
        self.holders: list[set[int]] = [set() for _ in models]
        self.residents: list[set[int]] = [set() for _ in servers]
        self.loaded: list[frozenset[int]] = [frozenset() for _ in models]
        """Servers on which a model is loaded already: its replica there costs its bytes when it moves."""
        self.joined = np.zeros(len(servers), np.bool_)
        """Servers that hold nothing yet: others are relieved to these first [m]."""
        self._model_hashes = stable_hashes(models)
        self._server_hashes = _mix(stable_hashes(servers))
        self._scores: tuple[int, np.ndarray] | None = None
        """Of the last model, whose replicas are placed one after the other."""

    def add(self, model: int, server: int) -> None:
        """Puts a replica on a server."""
        self.holders[model].add(server)
        self.residents[server].add(model)
        self.free[server] -= self.bytes[model]
        self.load[server] += self.rate[model]

    def remove(self, model: int, server: int) -> None:
        """Takes a replica from a server."""
        self.holders[model].remove(server)
        self.residents[server].remove(model)
        self.free[server] += self.bytes[model]
        self.load[server] -= self.rate[model]

    def relative(self, server: int) -> float:
        """Load of a server over its share."""
        return float(self.load[server] / self.share[server])

    def largest_part(self, model: int) -> float:
        """Part of the largest server that a replica needs, of its memory or of its bound, whichever is more."""
        if not len(self.capacity):
            return 0.0
        return max(self.bytes[model] / max(1, int(self.capacity.max())), self.rate[model] / float(self.bound.max()))

    def cost(self, model: int, server: int) -> int:
        """Bytes that have to be loaded where this replica leaves its server."""
        return self.bytes[model] if server in self.loaded[model] else 0

    def scores(self, model: int) -> np.ndarray:
        """Rendezvous weights of the servers for a model, float64 [m]: the highest is the first choice.

        ``-w / ln(u)`` with u uniform in (0, 1) makes a server of weight w the first in proportion to w.
        """
        if self._scores is None or self._scores[0] != model:
            mixed = _mix(self._model_hashes[model] ^ self._server_hashes)
            uniform = ((mixed >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
            self._scores = model, -self.weights / np.log(uniform)
        return self._scores[1]

    def _roomy(self, model: int) -> np.ndarray:
        """Servers that have the memory and do not hold the model, bool [m]."""
        mask = self.free >= self.bytes[model]
        mask[list(self.holders[model])] = False
        return mask

    def choose(self, model: int) -> int | None:
        """Server for a further replica: the first by rendezvous hashing with memory and within the bound.

        Where none is within the bound, the one that is least above it; None where no server has the memory.
        """
        roomy = self._roomy(model)
        if not roomy.any():
            return None
        after = self.load + self.rate[model]
        for limit in (self.aim, self.bound):
            bounded = roomy & (after <= limit)
            if bounded.any():
                return int(np.argmax(np.where(bounded, self.scores(model), -1.0)))
        return int(np.argmin(np.where(roomy, after / self.share, np.inf)))

    def shed_overfull(self) -> None:
        """Removes replicas from servers whose memory they exceed: the smallest that is enough, or the largest first."""
        for server in np.flatnonzero(self.free < 0).tolist():
            while self.free[server] < 0 and self.residents[server]:
                by_bytes = sorted(self.residents[server], key=lambda model: (self.bytes[model], model))
                enough = (model for model in by_bytes if self.bytes[model] >= -self.free[server])
                self.remove(next(enough, by_bytes[-1]), server)

    def clear_for(self, model: int) -> int | None:
        """Makes room for a model that fits nowhere, by moving smaller ones off one server.

        The search is bounded: the servers with most room, and moves to servers that have the room as they are.

        Returns:
            The server that has room now, the one with the fewest bytes to load elsewhere; None where there is none.
        """
        size = self.bytes[model]
        best: tuple[tuple[int, int], int, list[tuple[int, int]]] | None = None
        usable = [server for server in np.argsort(-self.free, kind="stable").tolist() if self._may_hold(model, server)]
        for server in usable[:_ROOM_SERVERS]:
            moves = self._clearing_moves(server, size)
            if moves is None:
                continue
            cost = sum(self.cost(moved, server) for moved, _ in moves), sum(self.bytes[moved] for moved, _ in moves)
            if best is None or cost < best[0]:
                best = cost, server, moves
        if best is None:
            return None
        _, server, moves = best
        for moved, target in moves:
            self._move(moved, server, target)
        return server

    def _may_hold(self, model: int, server: int) -> bool:
        movable = sum(self.bytes[other] for other in self.residents[server] if self.bytes[other] < self.bytes[model])
        return server not in self.holders[model] and self.free[server] + movable >= self.bytes[model]

    def _clearing_moves(self, server: int, size: int) -> list[tuple[int, int]] | None:
        """Moves (model, target) that leave ``size`` bytes free on a server, the fewest that a greedy choice finds."""
        need, free, load = size - int(self.free[server]), self.free.copy(), self.load.copy()
        smaller = [model for model in self.residents[server] if self.bytes[model] < size]
        smaller.sort(key=lambda model: (self.bytes[model], model))
        moves: list[tuple[int, int]] = []
        # One model just large enough, else the largest first.
        order = [model for model in smaller if self.bytes[model] >= need]
        order += [model for model in reversed(smaller) if self.bytes[model] < need]
        for model in order:
            roomy = free >= self.bytes[model]
            roomy[[server, *self.holders[model]]] = False
            if not roomy.any():
                continue
            bounded = roomy & (load + self.rate[model] <= self.bound)
            mask = bounded if bounded.any() else roomy
            target = int(np.argmin(np.where(mask, free, np.iinfo(np.int64).max)))  # the tightest: large gaps stay
            moves.append((model, target))
            free[target] -= self.bytes[model]
            load[target] += self.rate[model]
            need -= self.bytes[model]
            if need <= 0:
                return moves
        return None

    def _move(self, model: int, source: int, target: int) -> None:
        self.remove(model, source)
        self.add(model, target)

    def level(self) -> None:
        """Moves replicas from servers above the bound, and to servers with little load, until no move is left."""
        while self._relieve() | self._fill():
            pass

    def _limit(self, server: int) -> float:
        """Load above which a server is relieved: the bound, or more where one replica alone exceeds it."""
        hottest = max((self.rate[model] for model in self.residents[server]), default=0.0)
        limit = float(self.bound[server])
        return (limit if hottest <= limit else _HOT_SLACK * hottest) * (1.0 + _EPSILON)

    def _relieve(self) -> bool:
        """Moves replicas off servers above the bound, the fewest bytes per load first; True where any moved."""
        moved = False
        over = np.flatnonzero(self.load > self.bound * (1.0 + _EPSILON))
        for server in sorted(over.tolist(), key=lambda server: (-self.load[server] / self.share[server], server)):
            while self.load[server] > self._limit(server) and (self._move_off(server) or self._exchange(server)):
                moved = True
        return moved

    def _move_off(self, server: int) -> bool:
        excess = self.load[server] - self.bound[server]

        def order(model: int) -> tuple[bool, float, float, int]:
            rate = self.rate[model]
            emptied = self.load[server] - rate < FILL_BELOW * self.share[server]  # it would be filled again
            return emptied, self.cost(model, server) / min(rate, excess), -rate, model

        movable = sorted((model for model in self.residents[server] if self.rate[model] > 0.0), key=order)
        for targets in (self.joined, np.ones_like(self.joined)):
            if not targets.any():
                continue
            for model in movable:
                mask = targets & self._roomy(model) & (self.load + self.rate[model] <= self.bound)
                if mask.any():
                    self._move(model, server, int(np.argmin(np.where(mask, self.load / self.share, np.inf))))
                    return True
        return False

    def _exchange(self, server: int) -> bool:
        """Exchanges a replica for one of less load on another server, where memory allows no simple move."""
        excess = self.load[server] - self.bound[server]
        best: tuple[float, float, int, int, int] | None = None
        hottest = sorted(self.residents[server], key=lambda model: (-self.rate[model], model))[:_SWAP_MODELS]
        for other in np.argsort(self.load / self.share, kind="stable")[:_SWAP_SERVERS].tolist():
            for given in hottest:
                if other == server or other in self.holders[given]:
                    continue
                for taken in self.residents[other]:
                    gain = self.rate[given] - self.rate[taken]
                    size = self.bytes[given] - self.bytes[taken]
                    if (
                        gain >= excess * _LEAST_GAIN
                        and server not in self.holders[taken]
                        and -self.free[server] <= size <= self.free[other]
                        and self.load[other] + gain <= self.bound[other]
                    ):
                        gain = min(gain, excess)
                        cost = (self.cost(given, server) + self.cost(taken, other)) / gain
                        best = min(filter(None, (best, (cost, -gain, other, given, taken))))
        if best is None:
            return False
        _, _, other, given, taken = best
        self.remove(taken, other)
        self._move(given, server, other)
        self.add(taken, server)
        return True

    def _fill(self) -> bool:
        """Fills servers with little load from those above their share; True where any replica moved."""
        moved = False
        empty = np.flatnonzero(self.load < FILL_BELOW * self.share * (1.0 - _EPSILON))
        for server in sorted(empty.tolist(), key=lambda server: (self.load[server] / self.share[server], server)):
            while self.load[server] < self.low[server] and self._take(server):
                moved = True
        return moved

    def _take(self, server: int) -> bool:
        """Moves one replica to a server from the most loaded one that can give; neither crosses the mean by it."""
        donors = np.flatnonzero(self.load > self.share)
        for donor in donors[np.argsort(-(self.load / self.share)[donors], kind="stable")].tolist():
            spare = self.load[donor] - self.low[donor]
            wanted = min(spare, self.share[server] - self.load[server])
            movable = [
                model
                for model in self.residents[donor]
                if 0.0 < self.rate[model] <= wanted
                and self.bytes[model] <= self.free[server]
                and server not in self.holders[model]
            ]
            if movable:
                cheapest = min(
                    movable,
                    key=lambda model: (self.cost(model, donor) / self.rate[model], -self.rate[model], model),
                )
                self._move(cheapest, donor, server)
                return True
        return False
