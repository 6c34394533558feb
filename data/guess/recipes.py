"""Training recipes by the size of a log, as ``docs/training.md`` recommends and ``docs/results.md`` measured them."""

from __future__ import annotations

from typing import NamedTuple

LARGE_LOG = 20_000_000
"""Clicks from which the paper's recipe is taken."""
MEDIUM_LOG = 1_000_000
"""Clicks from which a pre-training on the catalogue brings little."""
_FEW_CLICKS_AN_ITEM = 5

_SMALL_MODEL = """[model]
residual = true
shared_tokens = true
heads = 1
"""
_WIDE_MODEL = """[model]
dimension = 256
initial_idf = true
residual = true
shared_tokens = true
heads = 1
"""
_SOFTMAX = """
[loss]
kind = "softmax"
group_size = 512
"""


class Recipe(NamedTuple):
    """Sections of a configuration beside ``data``."""

    why: str
    toml: str
    catalogue_words: bool
    """Whether synthetic queries are sampled from the items' texts."""
    min_count: int = 1


def choose_recipe(clicks: int | None, items: int) -> Recipe:
    """The recipe for a number of clicks, None without a log, on a number of items."""
    if clicks is None:
        return Recipe(
            "no log: the model learns from synthetic queries of the catalogue's texts (as examples/chorus_icecat.toml)",
            _WIDE_MODEL
            + _SOFTMAX
            + "\n[pretraining]\nepochs = 15\nwords = [1, 5]\n@TEXT@\n[training]\nepochs = 0\nbatch_size = 512\n"
            "learning_rate = 0.02\ntable_learning_rate = 2.0\n",
            catalogue_words=True,
        )
    if clicks >= LARGE_LOG:
        return Recipe(
            f"about {clicks:,} clicks: the recipe of the DPSR paper (as examples/paper.toml)",
            '[model]\nheads = 2\nhidden = [128]\n\n[loss]\nkind = "hinge"\nmargin = 0.1\nmixing_ratio = 0.5\n'
            "group_size = 64\n\n[training]\nbatch_size = 64\nlearning_rate = 0.01\ntable_learning_rate = 0.01\n",
            catalogue_words=False,
            min_count=2,
        )
    if clicks >= MEDIUM_LOG:
        return Recipe(
            f"about {clicks:,} clicks: softmax loss on residual towers (as examples/dpsr_p.toml)",
            _SMALL_MODEL
            + _SOFTMAX
            + "popularity_correction = true\n\n[training]\nepochs = 3\nbatch_size = 512\nlearning_rate = 0.1\n"
            "table_learning_rate = 0.6\ntoken_dropout = 0.15\n",
            catalogue_words=False,
        )
    if clicks < _FEW_CLICKS_AN_ITEM * items:
        return Recipe(
            f"about {clicks:,} clicks on {items:,} items are few: much is learnt from the catalogue's texts "
            "(as examples/homedepot.toml)",
            _WIDE_MODEL
            + _SOFTMAX
            + "\n[pretraining]\nepochs = 12\nwords = [1, 5]\nmixed_share = 0.5\n@TEXT@\n[training]\nepochs = 6\n"
            "batch_size = 512\nlearning_rate = 0.02\ntable_learning_rate = 2.0\ntypo_share = 0.2\n",
            catalogue_words=True,
        )
    return Recipe(
        f"about {clicks:,} clicks on {items:,} items: softmax loss, pre-training on the catalogue's texts "
        "(as examples/bestbuy_xbox.toml)",
        _SMALL_MODEL
        + _SOFTMAX
        + "popularity_correction = true\n\n[pretraining]\nepochs = 20\nmixed_share = 0.1\n@TEXT@\n[training]\n"
        "epochs = 8\nbatch_size = 512\nlearning_rate = 0.05\ntable_learning_rate = 0.6\n"
        "token_dropout = 0.1\ntypo_share = 0.3\n",
        catalogue_words=True,
    )
