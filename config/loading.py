"""Reads a configuration file, applies overrides, and reports every problem at once."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydantic

from dpsr.config.index import IndexConfig
from dpsr.config.run import Config
from dpsr.config.section import Section
from dpsr.config.serving import ServingConfig
from dpsr.errors import DpsrError

RENAMED = {"cluster.dense_every": "cluster.dense_sync_steps"}
"""Keys of earlier releases: an error names the key of today."""
_ALL_MATCHING = "leave it out: a filter finds k items whenever k match"
REPLACED = {
    "evaluation.dssm": 'list "dssm" in evaluation.baselines instead',
    "index.filter_candidates": _ALL_MATCHING,
    "index.filter_reach": _ALL_MATCHING,
}
"""Keys of earlier releases that have no successor of the same values, and the remedy that the error names."""


class ConfigError(DpsrError, ValueError):
    """A configuration that cannot be used; the message names every offending key."""


class _ServingOnly(Section):
    serving: ServingConfig = ServingConfig()


class _IndexOnly(Section):
    index: IndexConfig


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """Reads and checks a configuration file.

    Args:
        path: a TOML file.
        overrides: ``section.key=value`` strings; the value is TOML, or else a bare string.

    Raises:
        ConfigError: the file is missing or not TOML, or a key is unknown, missing or out of its range.
    """
    try:
        tree = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))  # an editor may have begun the file with a BOM
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    for override in overrides:
        _apply_override(tree, override)
    return parse_config(tree, str(path))


def load_serving_config(overrides: Sequence[str] = ()) -> ServingConfig:
    """The ``[serving]`` section of a server that has no configuration file: defaults and overrides.

    Raises:
        ConfigError: as ``load_config``.
    """
    tree: dict[str, Any] = {}
    for override in overrides:
        _apply_override(tree, override)
    try:
        return _ServingOnly.model_validate(tree).serving
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(_explain("--set", problem) for problem in error.errors())) from None


def parse_index_config(values: dict[str, Any], origin: str) -> IndexConfig:
    """Checks the keys of a section ``[index]`` that belongs to no configuration file; ``origin`` names it in errors.

    Raises:
        ConfigError: as ``load_config``.
    """
    try:
        return _IndexOnly.model_validate({"index": values}).index
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(_explain(origin, problem) for problem in error.errors())) from None


def parse_config(tree: dict[str, Any], origin: str) -> Config:
    """Checks a configuration that is already a tree of tables; ``origin`` names it in errors.

    Raises:
        ConfigError: as ``load_config``.
    """
    try:
        return Config.model_validate(tree)
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(_explain(origin, problem) for problem in error.errors())) from None


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigError(f"--set {override}: expected section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for part in parts[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {override}: {part} is a value, not a section")
    tree[parts[-1]] = value


def _explain(origin: str, problem: Any) -> str:
    """One line for one pydantic error: the key, what was found, what is allowed."""
    key = ".".join(str(part) for part in problem["loc"])
    if key in RENAMED:
        return f"{origin}: {key} is now called {RENAMED[key]}; rename the key"
    if key in REPLACED:
        return f"{origin}: {key} is no longer a key; {REPLACED[key]}"
    if problem["type"] == "extra_forbidden":
        known = ", ".join(_keys_of_section(problem["loc"][:-1]))
        return f"{origin}: unknown key {key} (known here: {known})"
    if problem["type"] == "missing":
        return f"{origin}: key {key} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if not key:
        return f"{origin}: {message}"
    return f"{origin}: {key} = {problem['input']!r}: {message[:1].lower()}{message[1:]}"


def _keys_of_section(location: Sequence[int | str]) -> list[str]:
    section: Any = Config
    for part in location:
        annotation = section.model_fields[str(part)].annotation
        options = getattr(annotation, "__args__", (annotation,))
        section = next(option for option in options if isinstance(option, type) and issubclass(option, Section))
    return sorted(section.model_fields)
