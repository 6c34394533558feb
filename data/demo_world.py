"""The generated shop itself: its catalogue and its users, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dpsr.data.demo_catalogue import BRANDS, CHINESE_BRANDS, LEAVES, model_name

GENDERS = ("female", "male")
AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55+")
PURCHASE_POWERS = ("low", "middle", "high")
TASTES = 4
_LARGEST_MODEL = 99


@dataclass(frozen=True)
class Catalogue:
    """The items, each an entry of arrays [items]."""

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
    activity: np.ndarray
    """Cumulated share of the sessions, [users]."""


def make_catalogue(items: int, random: np.random.Generator) -> Catalogue:
    """A catalogue with an item in every leaf category at least."""
    weights = random.permutation(1.0 / np.arange(3, 3 + len(LEAVES)))
    leaf = np.concatenate(
        [np.arange(len(LEAVES)), random.choice(len(LEAVES), items - len(LEAVES), p=weights / weights.sum())]
    )
    random.shuffle(leaf)
    brand_number = {brand: number for number, brand in enumerate(BRANDS)}
    num_brands = np.array([len(each.brands) for each in LEAVES])
    place = np.minimum((random.random(items) ** 1.7 * num_brands[leaf]).astype(int), num_brands[leaf] - 1)
    brands = np.zeros((len(LEAVES), num_brands.max()), dtype=int)
    for row, each in enumerate(LEAVES):
        brands[row, : len(each.brands)] = [brand_number[brand] for brand in each.brands]
    num_attributes = np.array([len(each.attributes) for each in LEAVES])[leaf]
    first = random.integers(0, num_attributes)
    other = (first + random.integers(1, num_attributes)) % num_attributes
    second = np.where(random.random(items) < 0.35, other, -1)
    brand = brands[leaf, place]
    brand_level = random.normal(0, 0.6, len(BRANDS))
    return Catalogue(
        leaf=leaf,
        brand=brand,
        attributes=np.stack([first, second], axis=1),
        size=random.integers(0, np.array([len(each.sizes) for each in LEAVES])[leaf]),
        model=random.integers(1, _LARGEST_MODEL + 1, items),
        price_level=brand_level[brand] + random.normal(0, 0.8, items),
        popularity=random.lognormal(0, 1.0, items),
        quality=random.normal(0, 1, items),
        brand_tastes=random.normal(0, 1, (len(BRANDS), TASTES)),
    )


def make_users(users: int, random: np.random.Generator) -> Users:
    """Users whose profile shapes what they look for and what they like."""
    gender = random.integers(0, len(GENDERS), users)
    age_band = random.choice(len(AGE_BANDS), users, p=[0.18, 0.3, 0.24, 0.16, 0.12])
    purchase_power = random.choice(len(PURCHASE_POWERS), users, p=[0.35, 0.45, 0.2])
    sign = np.where(gender == 0, 1.0, -1.0)[:, None]
    age = (age_band[:, None] - 2) / 2.0
    tilts = np.array([leaf.tilt for leaf in LEAVES]), np.array([leaf.age for leaf in LEAVES])
    affinity = 1.2 * sign * tilts[0] + 1.5 * age * tilts[1] + random.normal(0, 0.9, (users, len(LEAVES)))
    shares = np.cumsum(np.exp(affinity), axis=1)
    of_profile = random.normal(0, 1, (len(GENDERS), len(AGE_BANDS), TASTES))[gender, age_band]
    activity = np.cumsum(random.lognormal(0, 1.0, users))
    return Users(
        gender=gender,
        age_band=age_band,
        purchase_power=purchase_power,
        leaf_shares=(shares / shares[:, -1:]).astype(np.float32),
        tastes=0.7 * of_profile + 0.7 * random.normal(0, 1, (users, TASTES)),
        activity=activity / activity[-1],
    )


def item_table(item_ids: pa.Array, catalogue: Catalogue, random: np.random.Generator) -> pa.Table:
    """The catalogue as ``items.parquet`` has it."""
    style = random.random(len(item_ids))
    noun = random.random(len(item_ids))
    price = np.array([leaf.price for leaf in LEAVES])[catalogue.leaf] * np.exp(0.45 * catalogue.price_level)
    return pa.table(
        {
            "item_id": item_ids,
            "title": [_title(catalogue, row, style[row], noun[row]) for row in range(len(item_ids))],
            "brand": [BRANDS[brand] for brand in catalogue.brand],
            "category": [LEAVES[leaf].name for leaf in catalogue.leaf],
            "department": [LEAVES[leaf].department for leaf in catalogue.leaf],
            "price": np.round(price, 2),
        }
    )


def _title(catalogue: Catalogue, row: int, style: float, noun: float) -> str:
    """English, a quarter with a Chinese part, a tenth in Chinese but for brand and model."""
    leaf = LEAVES[catalogue.leaf[row]]
    brand = BRANDS[catalogue.brand[row]]
    attributes = [leaf.attributes[place] for place in catalogue.attributes[row] if place >= 0]
    size = leaf.sizes[catalogue.size[row]]
    named = f"{brand} {model_name(catalogue.brand[row], catalogue.model[row])}"
    chinese = "".join(attribute.chinese for attribute in attributes) + leaf.chinese
    if style < 0.1:
        return f"{CHINESE_BRANDS.get(brand, brand)} {named.removeprefix(brand).strip()} {chinese} {size}"
    words = " ".join(attribute.title for attribute in attributes) + " " + leaf.nouns[int(noun * len(leaf.nouns))]
    english = f"{named} {words.title() if style < 0.6 else words} {size}"
    return f"{english} {CHINESE_BRANDS.get(brand, '')}{chinese}" if style > 0.75 else english


def user_table(user_ids: pa.Array, users: Users) -> pa.Table:
    """The users as ``users.parquet`` has them."""
    return pa.table(
        {
            "user_id": user_ids,
            "gender": [GENDERS[value] for value in users.gender],
            "age_band": [AGE_BANDS[value] for value in users.age_band],
            "purchase_power": [PURCHASE_POWERS[value] for value in users.purchase_power],
        }
    )
