"""The click log of the generated shop: sessions of one query, ten shown items, clicks, purchases and skips."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsr.data.demo_shop.catalogue import LEAVES
from dpsr.data.demo_shop.queries import Intent, grades, make_intents, query_texts
from dpsr.data.demo_shop.titles import row_ids
from dpsr.data.demo_shop.world import MOST_ATTRIBUTES, WORN, Catalogue, Users

SHOWN = 10
"""Items on a result page."""
_SESSIONS_AT_ONCE = 1 << 15
_START = np.datetime64("2025-01-06T00:00:00", "ms")
_WEEKS = 8
_ANONYMOUS_SHARE = 0.1
_FOLLOW_UP_SHARE = 0.4
"""Of the pages: a user asks again, in other words, for what an earlier page was about."""
_FOLLOW_UP_DELAY = 600_000.0
"""Mean of the time between the two, in milliseconds."""
_JUDGED_ITEMS = 50_000
_SENSE_DRAWS, _SENSE_PAGES, _SENSE_SHARE = 8, 20, 0.1
"""Queries of 20 pages or more, in 8 batches or more, may have senses, each meant by a tenth of the users."""


class Groups:
    """Items by a key, drawn within a group in proportion to their popularity."""

    def __init__(self, keys: np.ndarray, items: np.ndarray, popularity: np.ndarray, num_keys: int) -> None:
        """Sorts items [n] by keys [n], integers in 0..num_keys - 1; ``popularity`` is of the items, [n]."""
        order = np.argsort(keys, kind="stable")
        self._items = items[order].astype(np.int32)
        self._mass = np.concatenate([[0.0], np.cumsum(popularity[order], dtype=np.float64)])
        self._ends = np.cumsum(np.bincount(keys, minlength=num_keys))

    def draw(self, keys: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """One item for every key and number in 0..1; all groups asked for have items."""
        end = self._ends[keys]
        start = np.where(keys > 0, self._ends[keys - 1], 0)
        target = self._mass[start] + uniform * (self._mass[end] - self._mass[start])
        place = np.searchsorted(self._mass, target, side="right") - 1
        return self._items[np.clip(place, start, end - 1)]


class Sessions:
    """Draws sessions; see docs/demo_shop.md for the model."""

    def __init__(self, catalogue: Catalogue, users: Users, random: np.random.Generator) -> None:
        """Groups the catalogue for drawing."""
        self._catalogue = catalogue
        self._users = users
        self._random = random
        self._texts: dict[int, str] = {}
        rows, popularity = np.arange(len(catalogue.leaf), dtype=np.int32), catalogue.popularity
        self._num_brands = len(catalogue.brand_tastes)
        self._by_leaf = Groups(catalogue.leaf, rows, popularity, len(LEAVES))
        self._by_brand = Groups(
            catalogue.leaf.astype(np.int16) * self._num_brands + catalogue.brand,
            rows,
            popularity,
            len(LEAVES) * self._num_brands,
        )
        has, place = np.nonzero(catalogue.attributes >= 0)
        has, place = has.astype(np.int32), place.astype(np.int8)
        keys = catalogue.leaf[has].astype(np.int16) * MOST_ATTRIBUTES + catalogue.attributes[has, place]
        self._by_attribute = Groups(keys, has, popularity[has], len(LEAVES) * MOST_ATTRIBUTES)
        self._num_sizes = np.array([len(leaf.sizes) for leaf in LEAVES])
        self._fit_of_leaf = np.array([0 if leaf.department in WORN else 1 for leaf in LEAVES])
        self._all = Groups(np.zeros(len(rows), dtype=np.int8), rows, popularity, 1)

    def tables(self, *, clicks: int | None, sessions: int | None) -> Iterator[pa.Table]:
        """The log in batches of sessions, up to ``clicks`` clicks or ``sessions`` result pages; one of them is None."""
        missing, start = clicks or sessions or 0, 0.0
        delay = _FOLLOW_UP_DELAY * missing / (_WEEKS * 7 * 86_400_000)
        while missing > 0:
            batch = self._draw(_SESSIONS_AT_ONCE, delay)
            clicked = batch["clicked"].sum(axis=1)
            per_session = clicked if sessions is None else np.ones_like(clicked)
            last = int(np.searchsorted(np.cumsum(per_session), missing)) + 1
            batch = {name: values[:last] for name, values in batch.items()}
            gap = _WEEKS * 7 * 86_400_000 * per_session.mean() / (clicks or sessions or 1)
            times = start + np.cumsum(self._random.exponential(gap, len(batch["user"])))
            start = float(times[-1])
            missing -= int(per_session[:last].sum())
            yield self._rows(batch, times.astype(np.int64))

    def relevance_tables(self, queries: int) -> Iterator[pa.Table]:
        """The true grades (1 to 3) of ``queries`` queries, drawn in proportion to their frequency, a table for each.

        All items are judged, or a random part of a large catalogue.
        """
        batch = self._draw(_SESSIONS_AT_ONCE, delay=1.0)
        codes = np.unique(batch["code"])
        texts = np.array(query_texts(codes), dtype=object)
        chosen = self._random.permutation(np.unique(texts))[:queries]
        items = self._catalogue
        rows = np.arange(len(items.leaf))
        if len(rows) > _JUDGED_ITEMS:
            rows = np.sort(self._random.choice(len(rows), _JUDGED_ITEMS, replace=False))
        judged = items.leaf[rows], items.brand[rows], items.attributes[rows], items.size[rows], items.model[rows]
        for text in chosen:
            grade = np.zeros(len(rows), dtype=np.int8)
            for code in codes[texts == text]:  # one text may mean several things: the best counts
                grade = np.maximum(grade, grades(Intent.of_codes(np.array([code])), *judged))
            found = np.flatnonzero(grade)
            yield pa.table(
                {
                    "query": pa.array([text] * len(found), pa.string()),
                    "item_id": row_ids("I", rows[found], len(items.leaf)),
                    "grade": grade[found],
                }
            )

    def senses_table(self) -> pa.Table:
        """The queries of several meanings: which departments their askers have in mind, and how often.

        A query is there if its second department is meant by a tenth of its askers at least.
        """
        departments = sorted({leaf.department for leaf in LEAVES})
        of_leaf = np.array([departments.index(leaf.department) for leaf in LEAVES])
        codes, pages = np.unique(
            np.concatenate([self._draw(_SESSIONS_AT_ONCE, delay=1.0)["code"] for _ in range(_SENSE_DRAWS)]),
            return_counts=True,
        )
        texts, query = np.unique(np.array(query_texts(codes), dtype=object), return_inverse=True)
        times = np.zeros((len(texts), len(departments)), dtype=np.int64)
        np.add.at(times, (query, of_leaf[Intent.of_codes(codes).leaf]), pages)
        shares = times / times.sum(axis=1, keepdims=True)
        several = (np.sort(shares, axis=1)[:, -2] >= _SENSE_SHARE) & (times.sum(axis=1) >= _SENSE_PAGES)
        row, sense = np.nonzero(several[:, None] & (shares >= _SENSE_SHARE))
        return pa.table(
            {
                "query": pa.array(texts[row], pa.string()),
                "department": pa.array(departments).take(pa.array(sense)),
                "share": np.round(shares[row, sense], 3),
            }
        )

    def _draw(self, sessions: int, delay: float) -> dict[str, np.ndarray]:
        """Sessions: ``user`` [n] (-1 anonymous), ``code`` [n], ``shown`` [n, SHOWN], and ``clicked``, ``bought``.

        ``delay`` is the mean number of sessions, of all users, between one and another about the same need.
        """
        random = self._random
        user = np.searchsorted(self._users.activity, random.random(sessions))
        user = np.minimum(user, len(self._users.activity) - 1)
        wanted = self._wanted_items(user)
        first = self._first_pages(sessions, delay)
        user, wanted = user[first], wanted[first]
        intent, code = self._ask(wanted)
        shown, grade = self._show(intent, wanted)
        appeal = 1.1 * grade - 4.2 + self._taste(user[:, None], shown) + 0.2 * self._catalogue.quality[shown]
        examined = random.random(shown.shape) < 1.0 / (1.0 + np.arange(SHOWN)) ** 0.6
        clicked = examined & (random.random(shown.shape) < 1.0 / (1.0 + np.exp(-appeal)))
        bought = clicked & (random.random(shown.shape) < 0.05 * grade)
        anonymous = (random.random(sessions) < _ANONYMOUS_SHARE)[first]
        return {
            "user": np.where(anonymous, -1, user),
            "code": code,
            "shown": shown,
            "clicked": clicked,
            "bought": bought,
        }

    def _first_pages(self, sessions: int, delay: float) -> np.ndarray:
        """For each of some sessions in the order of time the first one about the same need, often itself; [n]."""
        random, here = self._random, np.arange(sessions)
        before = here - 1 - random.exponential(delay, sessions).astype(np.int64)
        page = np.where((random.random(sessions) < _FOLLOW_UP_SHARE) & (before >= 0), before, here)
        while (page[page] != page).any():  # a follow-up of a follow-up
            page = page[page]
        return page

    def _wanted_items(self, user: np.ndarray) -> np.ndarray:
        """The item that each user has in mind: of a category they care for, the most liked of four popular ones."""
        random = self._random
        position = random.random(len(user), dtype=np.float32)[:, None]
        leaf = np.minimum((self._users.leaf_shares[user] < position).sum(axis=1), len(LEAVES) - 1)
        four = self._by_leaf.draw(np.repeat(leaf[:, None], 4, axis=1), random.random((len(user), 4)))
        liking = self._taste(user[:, None], four) + random.gumbel(0, 0.5, four.shape)
        return four[np.arange(len(user)), liking.argmax(axis=1)]

    def _ask(self, wanted: np.ndarray) -> tuple[Intent, np.ndarray]:
        catalogue = self._catalogue
        both = catalogue.attributes[wanted].astype(np.int64)
        second = (both[:, 1] >= 0) & (self._random.random(len(wanted)) < 0.5)
        attribute = np.where(second, both[:, 1], both[:, 0])
        intent = make_intents(
            catalogue.leaf[wanted].astype(np.int64),
            catalogue.brand[wanted].astype(np.int64),
            attribute,
            catalogue.size[wanted].astype(np.int64),
            catalogue.model[wanted].astype(np.int64),
            self._random,
        )
        return intent, intent.codes()

    def _show(self, intent: Intent, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The page of a fair but noisy engine that knows the truth: items (-1 a gap) and their grades, [n, SHOWN]."""
        random, count = self._random, len(wanted)

        def drawn(groups: Groups, keys: np.ndarray, number: int) -> np.ndarray:
            return groups.draw(np.repeat(keys[:, None], number, axis=1), random.random((count, number)))

        of_leaf = drawn(self._by_leaf, intent.leaf, 13)
        of_brand = drawn(self._by_brand, intent.leaf * self._num_brands + self._catalogue.brand[wanted], 6)
        attribute = np.where(intent.attribute >= 0, intent.attribute, self._catalogue.attributes[wanted, 0])
        of_attribute = drawn(self._by_attribute, intent.leaf * MOST_ATTRIBUTES + attribute, 6)
        candidates = np.concatenate(
            [
                wanted[:, None],
                np.where((intent.brand >= 0)[:, None], of_brand, of_leaf[:, :6]),
                np.where((intent.attribute >= 0)[:, None], of_attribute, of_leaf[:, 6:12]),
                of_leaf[:, 12:],
                drawn(self._all, np.zeros(count, dtype=int), 2),
            ],
            axis=1,
        )
        candidates.sort(axis=1)
        items = self._catalogue
        asked = Intent(*(values[:, None] for values in intent))
        grade = grades(
            asked,
            items.leaf[candidates],
            items.brand[candidates],
            items.attributes[candidates],
            items.size[candidates],
            items.model[candidates],
        )
        score = grade + 0.4 * np.log(items.popularity[candidates]) + random.normal(0, 0.8, candidates.shape)
        score[:, 1:][candidates[:, 1:] == candidates[:, :-1]] = -np.inf  # the same item again
        order = np.argsort(-score, axis=1, kind="stable")[:, :SHOWN]
        shown = np.take_along_axis(candidates, order, axis=1)
        grade = np.take_along_axis(grade, order, axis=1)
        gap = np.take_along_axis(score, order, axis=1) == -np.inf
        return np.where(gap, -1, shown), np.where(gap, -100, grade)  # a gap of a short page gets no click

    def _taste(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """How much users like items, whatever they asked for: the brand, the size, a price that suits the purse."""
        catalogue, users = self._catalogue, self._users
        leaf = catalogue.leaf[item]
        stands_for = catalogue.brand_tastes[catalogue.brand[item]]
        stands_for = 1.2 * stands_for + 1.0 * catalogue.attribute_tastes[leaf, catalogue.attributes[item, 0]]
        liking = (users.tastes[user] * stands_for).sum(axis=-1) / 2.0
        purse = users.purchase_power[user] - 1.0
        fitting = (users.fits[user, self._fit_of_leaf[leaf]] * self._num_sizes[leaf]).astype(np.int8)
        fits = catalogue.size[item] == fitting
        return liking + np.where(fits, 0.8, -0.4) - 0.4 * (catalogue.price_level[item] - purse) ** 2

    def _rows(self, batch: dict[str, np.ndarray], times: np.ndarray) -> pa.Table:
        """The events of sessions in the order of time, as the log has them."""
        clicked, bought = batch["clicked"], batch["bought"]
        place = np.arange(SHOWN)
        last = np.where(clicked.any(axis=1), SHOWN - 1 - clicked[:, ::-1].argmax(axis=1), -1)
        skipped = ~clicked & (place < last[:, None]) & (batch["shown"] >= 0)
        parts = [np.nonzero(mask) for mask in (clicked, bought, skipped)]
        session = np.concatenate([part[0] for part in parts])
        position = np.concatenate([part[1] for part in parts])
        event = np.repeat(np.arange(3), [len(part[0]) for part in parts])
        delay = np.choose(event, [4_000 * (position + 1), 90_000 + 20_000 * position, np.zeros_like(position)])
        time = times[session] + delay
        order = np.lexsort((position, event, session, time))
        session, position, event, time = session[order], position[order], event[order], time[order]
        user = batch["user"][session]
        codes, query = np.unique(batch["code"][session], return_inverse=True)
        users = row_ids("U", user, len(self._users.gender))
        return pa.table(
            {
                "query": self._texts_of(codes).take(pa.array(query)),
                "item_id": row_ids("I", batch["shown"][session, position], len(self._catalogue.leaf)),
                "user_id": pc.if_else(pa.array(user >= 0), users, None),
                "timestamp": pa.array(_START + time.astype("timedelta64[ms]"), pa.timestamp("ms")),
                "event": pa.array(["click", "purchase", "skip"]).take(pa.array(event)),
                "position": pa.array((position + 1).astype(np.int8)),
            }
        )

    def _texts_of(self, codes: np.ndarray) -> pa.Array:
        new = [code for code in codes.tolist() if code not in self._texts]
        self._texts.update(zip(new, query_texts(np.array(new, dtype=np.int64)), strict=True))
        return pa.array([self._texts[code] for code in codes.tolist()], pa.string())
