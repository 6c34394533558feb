"""A first configuration for a shop's files: a commented TOML text, and what was guessed for it."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dpsr.config import Config, parse_config
from dpsr.data.guess.recipes import choose_recipe
from dpsr.data.guess.roles import Guess, brands, guess_items, guess_log, guess_users
from dpsr.data.guess.sample import read_ids, read_sample

_READ_IDS = 2_000_000
_REJECTED_ROOM = 0.005
"""Share of rejected rows in a sample from which the default limit of 1 % is raised."""


@dataclass
class Proposal:
    """A configuration and how it came about."""

    text: str
    config: Config
    found: dict[str, list[str]] = field(default_factory=dict)
    """Input -> what was chosen and why."""
    doubts: list[str] = field(default_factory=list)


def propose(catalogue: str, log: str | None = None, users: str | None = None, *, name: str | None = None) -> Proposal:
    """Looks at a sample of the files of a shop and writes a configuration for them.

    Args:
        catalogue: path of the items, as in ``data.items.path``.
        log: path of the clicks; None for a catalogue without a log.
        users: path of the users' profiles.
        name: of the model; by default that of the catalogue's directory.

    Raises:
        DatasetError: a file is missing or cannot be read, or has no column that could be what is needed.
        ConfigError: the name is not a valid model name.
    """
    item_sample = read_sample(catalogue)
    items = guess_items(item_sample)
    clicks = None
    inputs: dict[str, tuple[str, Guess]] = {"items": (catalogue, items)}
    if users:
        inputs["users"] = (users, guess_users(read_sample(users)))
    if log:
        log_sample = read_sample(log)
        clicks = log_sample.rows
        ids, all_ids = read_ids(catalogue, items.columns["item_id"], _READ_IDS)
        inputs["interactions"] = (log, guess_log(log_sample, ids, all_ids=all_ids))
        if users and "user_id" not in inputs["interactions"][1].columns:
            inputs["interactions"][1].doubts.append("no column of users: the profiles are not used")
    recipe = choose_recipe(clicks, item_sample.rows)
    short = items.short_text
    if recipe.catalogue_words and clicks is None and (brand := brands(items)):
        items.text, short = [*items.text, *brand], [*short, *brand]
    name = name or _model_name(catalogue)
    sections = [_header(name), *_data(inputs)]
    sections += [_section(key, path, guess) for key, (path, guess) in inputs.items()]
    sections.append(f"[tokenizer]\nmin_count = {recipe.min_count}\n")
    chosen = f"text = {_array(short)}\n" if short and short != items.text else ""
    sections.append(f"# {recipe.why}\n{recipe.toml.replace('@TEXT@' + chr(10), chosen + chr(10))}")
    if items.numeric:
        ranges = _array([_contract_name(column) for column in items.numeric])
        sections.append(
            f"# Numeric columns that a request may restrict to a range.\n[index]\nfilter_range = {ranges}\n"
        )
    text = "\n".join(sections)
    found = {key: guess.reasons for key, (_, guess) in inputs.items()} | {"recipe": [recipe.why]}
    doubts = [f"{key}: {doubt}" for key, (_, guess) in inputs.items() for doubt in guess.doubts]
    return Proposal(text, parse_config(tomllib.loads(text), "the proposal"), found, doubts)


def _model_name(catalogue: str) -> str:
    path = Path(catalogue)
    folder = path if path.is_dir() else path.resolve().parent
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.name).strip("_.-")
    return name or "shop"


def _header(name: str) -> str:
    return (
        "# Written by `dpsr init` from a sample of the files; docs/data.md and docs/training.md explain the keys.\n"
        f"name = {_string(name)}\nwork_dir = {_string(f'runs/{name}')}\n"
    )


def _data(inputs: Mapping[str, tuple[str, Guess]]) -> list[str]:
    share = max(guess.rejected_share for _, guess in inputs.values())
    if share <= _REJECTED_ROOM:
        return []
    limit = min(1.0, math.ceil(100 * (1.2 * share + 0.01)) / 100)
    for _, guess in inputs.values():
        if guess.rejected_share == share:
            guess.doubts.append(
                f"{share:.1%} of the sampled rows cannot be used (unknown items or events, no query, no time); "
                f"data.max_rejected_share is {limit:g}"
            )
    return [
        f"[data]\n# {share:.1%} of the sampled rows cannot be used; `dpsr prepare` lists them in dataset/rejected.\n"
        f"max_rejected_share = {limit:g}\n"
    ]


def _section(key: str, path: str, guess: Guess) -> str:
    comments = [*guess.reasons, *(f"CHECK: {doubt}" for doubt in guess.doubts)]
    lines = [f"# {' '.join(comment.split())}" for comment in comments]
    lines += [f"[data.{key}]", f"path = {_string(path)}"]
    columns = {role: column for role, column in guess.columns.items() if role != column}
    columns |= {_contract_name(name): name for name in _features(guess) if _contract_name(name) != name}
    if columns:
        lines.append(f"columns = {{ {', '.join(f'{role} = {_string(name)}' for role, name in columns.items())} }}")
    if key == "items":
        lines.append(f"text = {_array([_contract_name(name) for name in guess.text])}")
    if guess.categorical:
        named = [_contract_name(name) for name in guess.categorical]
        lines.append(f"{'profile' if key == 'users' else 'categorical'} = {_array(named)}")
    if guess.numeric:
        lines.append(f"numeric = {_array([_contract_name(name) for name in guess.numeric])}")
    return "\n".join(lines) + "\n"


def _features(guess: Guess) -> list[str]:
    return [*guess.text, *guess.categorical, *guess.numeric]


def _contract_name(column: str) -> str:
    """A column's name as the dataset's files can have it: of ASCII letters, digits and ``_``."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", column):
        return column
    ascii_name = re.sub(r"[^A-Za-z0-9]+", "_", column).strip("_")
    return ascii_name or "column_" + "_".join(f"{ord(letter):x}" for letter in column[:8])


def _string(text: str) -> str:
    """A JSON string is a TOML string as well."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _array(names: Sequence[str]) -> str:
    return f"[{', '.join(map(_string, names))}]"
