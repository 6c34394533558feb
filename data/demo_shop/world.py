"""The generated shop itself: its catalogue and its users, drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dpsr.data.demo_shop.catalogue import BRANDS, LARGEST_MODEL, LEAVES
from dpsr.data.demo_shop.titles import Titles, row_ids

GENDERS = ("female", "male")
AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55+")
PURCHASE_POWERS = ("low", "middle", "high")
TASTES = 4
MOST_ATTRIBUTES = 8
"""No leaf category has more."""
FITS = 2
"""What fixes the sizes that a user buys: the body for what is worn, the household for everything else."""
WORN = ("sports", "fashion")
"""Departments whose sizes are sizes of a body."""
_ROWS_AT_ONCE = 1 << 17


@dataclass(frozen=True)
class Catalogue:
    """The items, each an entry of arrays [items], small enough to hold many millions."""

    leaf: np.ndarray
    brand: np.ndarray
    attributes: np.ndarray
    """Places in the leaf's list, [items, 2]; -1 for none."""
    size: np.ndarray
    model: np.ndarray
    price_level: np.ndarray
    """Standard normal within the leaf: 0 is the median price."""
    popularity: np.ndarray
    quality: np.ndarray
    brand_tastes: np.ndarray
    """What a brand stands for, [brands, TASTES]."""
    attribute_tastes: np.ndarray
    """What an attribute of a leaf category stands for, [leaves, MOST_ATTRIBUTES, TASTES]."""


@dataclass(frozen=True)
class Users:
    """The users, each an entry of arrays [users]."""

    gender: np.ndarray
    age_band: np.ndarray
    purchase_power: np.ndarray
    leaf_shares: np.ndarray
    """How often a user looks for each leaf category, cumulated, [users, leaves]."""
    tastes: np.ndarray
    """[users, TASTES]."""
    fits: np.ndarray
    """Where on the scale of sizes a user stands, 0..1, [users, FITS]."""
    activity: np.ndarray
    """Cumulated share of the sessions, [users]."""


def make_catalogue(items: int, random: np.random.Generator) -> Catalogue:
    """A catalogue with an item in every leaf category at least."""
    weights = random.permutation(1.0 / np.arange(3, 3 + len(LEAVES)))
    leaf = np.empty(items, dtype=np.int8)
    leaf[: len(LEAVES)] = np.arange(len(LEAVES))
    shares = weights / weights.sum()
    leaf[len(LEAVES) :] = _in_pieces(
        items - len(LEAVES), np.int8, lambda rows: random.choice(len(LEAVES), rows.stop - rows.start, p=shares)
    )
    random.shuffle(leaf)
    brand_number = {brand: number for number, brand in enumerate(BRANDS)}
    num_brands = np.array([len(each.brands) for each in LEAVES])
    brands = np.zeros((len(LEAVES), num_brands.max()), dtype=np.int16)
    for row, each in enumerate(LEAVES):
        brands[row, : len(each.brands)] = [brand_number[brand] for brand in each.brands]

    def some_brand(rows: slice) -> np.ndarray:
        number = num_brands[leaf[rows]]
        place = np.minimum((random.random(len(number)) ** 1.7 * number).astype(int), number - 1)
        return brands[leaf[rows], place]

    brand = _in_pieces(items, np.int16, some_brand)
    num_attributes = np.array([len(each.attributes) for each in LEAVES], dtype=np.int8)
    first = _in_pieces(items, np.int8, lambda rows: random.integers(0, num_attributes[leaf[rows]].astype(int)))
    step = _in_pieces(items, np.int8, lambda rows: random.integers(1, num_attributes[leaf[rows]].astype(int)))
    has_second = _in_pieces(items, np.bool_, lambda rows: random.random(rows.stop - rows.start) < 0.35)
    second = np.where(has_second, (first + step) % num_attributes[leaf], np.int8(-1))
    brand_level = random.normal(0, 0.6, len(BRANDS))
    num_sizes = np.array([len(each.sizes) for each in LEAVES])

    def drawn(dtype: type, draw: Callable[[int], np.ndarray]) -> np.ndarray:
        return _in_pieces(items, dtype, lambda rows: draw(rows.stop - rows.start))

    return Catalogue(
        leaf=leaf,
        brand=brand,
        attributes=np.stack([first, second], axis=1),
        size=_in_pieces(items, np.int8, lambda rows: random.integers(0, num_sizes[leaf[rows]])),
        model=drawn(np.int8, lambda count: random.integers(1, LARGEST_MODEL + 1, count)),
        price_level=_in_pieces(
            items,
            np.float32,
            lambda rows: brand_level[brand[rows]] + random.normal(0, 0.8, rows.stop - rows.start),
        ),
        popularity=drawn(np.float32, lambda count: random.lognormal(0, 1.0, count)),
        quality=drawn(np.float32, lambda count: random.normal(0, 1, count)),
        brand_tastes=random.normal(0, 1, (len(BRANDS), TASTES)),
        attribute_tastes=random.normal(0, 1, (len(LEAVES), MOST_ATTRIBUTES, TASTES)),
    )


def make_users(users: int, random: np.random.Generator) -> Users:
    """Users whose profile shapes what they look for and what they like."""
    gender = random.integers(0, len(GENDERS), users)
    age_band = random.choice(len(AGE_BANDS), users, p=[0.18, 0.3, 0.24, 0.16, 0.12])
    purchase_power = random.choice(len(PURCHASE_POWERS), users, p=[0.35, 0.45, 0.2])
    sign = np.where(gender == 0, 1.0, -1.0)[:, None]
    age = (age_band[:, None] - 2) / 2.0
    tilts = np.array([leaf.tilt for leaf in LEAVES]), np.array([leaf.age for leaf in LEAVES])
    leaf_shares = np.empty((users, len(LEAVES)), dtype=np.float32)
    for rows in _pieces(users):
        noise = random.normal(0, 0.9, (rows.stop - rows.start, len(LEAVES)))
        affinity = 1.2 * sign[rows] * tilts[0] + 1.5 * age[rows] * tilts[1] + noise
        shares = np.cumsum(np.exp(affinity), axis=1)
        leaf_shares[rows] = shares / shares[:, -1:]
    of_profile = random.normal(0, 1, (len(GENDERS), len(AGE_BANDS), TASTES))[gender, age_band]
    activity = np.cumsum(random.lognormal(0, 1.0, users))
    return Users(
        gender=gender,
        age_band=age_band,
        purchase_power=purchase_power,
        leaf_shares=leaf_shares,
        tastes=1.1 * of_profile + 0.8 * random.normal(0, 1, (users, TASTES)),
        fits=random.random((users, FITS), dtype=np.float32),
        activity=activity / activity[-1],
    )


def item_tables(catalogue: Catalogue, random: np.random.Generator) -> Iterator[pa.Table]:
    """The catalogue as ``items.parquet`` has it, piece after piece."""
    titles, items = Titles(), len(catalogue.leaf)
    names, departments = pa.array([leaf.name for leaf in LEAVES]), pa.array([leaf.department for leaf in LEAVES])
    median = np.array([leaf.price for leaf in LEAVES])
    style = _in_pieces(items, np.float32, lambda rows: random.random(rows.stop - rows.start))
    noun = _in_pieces(items, np.float32, lambda rows: random.random(rows.stop - rows.start) * (1 - 1e-6))
    for rows in _pieces(items):
        leaf = catalogue.leaf[rows]
        title = titles.compose(
            leaf,
            catalogue.brand[rows],
            catalogue.attributes[rows],
            catalogue.size[rows],
            catalogue.model[rows],
            style[rows],
            noun[rows],
        )
        price = median[leaf] * np.exp(0.45 * catalogue.price_level[rows].astype(float))
        yield pa.table(
            {
                "item_id": row_ids("I", np.arange(rows.start, rows.stop), items),
                "title": title,
                "brand": pa.array(BRANDS).take(pa.array(catalogue.brand[rows])),
                "category": names.take(pa.array(leaf)),
                "department": departments.take(pa.array(leaf)),
                "price": np.round(price, 2),
            }
        )


def user_tables(users: Users) -> Iterator[pa.Table]:
    """The users as ``users.parquet`` has them, piece after piece."""
    for rows in _pieces(len(users.gender)):
        yield pa.table(
            {
                "user_id": row_ids("U", np.arange(rows.start, rows.stop), len(users.gender)),
                "gender": pa.array(GENDERS).take(pa.array(users.gender[rows])),
                "age_band": pa.array(AGE_BANDS).take(pa.array(users.age_band[rows])),
                "purchase_power": pa.array(PURCHASE_POWERS).take(pa.array(users.purchase_power[rows])),
            }
        )


def _pieces(rows: int) -> Iterator[slice]:
    for start in range(0, rows, _ROWS_AT_ONCE):
        yield slice(start, min(rows, start + _ROWS_AT_ONCE))


def _in_pieces(rows: int, dtype: type, draw: Callable[[slice], np.ndarray]) -> np.ndarray:
    """A column [rows], drawn piece after piece so that only its small type is ever held whole."""
    column: np.ndarray = np.empty(rows, dtype=dtype)
    for piece in _pieces(rows):
        column[piece] = draw(piece)
    return column
