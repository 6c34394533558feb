"""Reads a configuration file, applies overrides, and reports every problem at once."""

from __future__ import annotations

import os
import tomllib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from dpsr.config.fleet import FleetConfig
from dpsr.config.index import IndexConfig
from dpsr.config.run import Config
from dpsr.config.section import Section
from dpsr.config.serving import ServingConfig
from dpsr.errors import DpsrError

S = TypeVar("S", bound=Section)

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
    return parse_config(_read_tree(path, overrides), str(path))


def load_fleet_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> FleetConfig:
    """Reads and checks ``fleet.toml``; its relative paths start from its directory.

    Raises:
        ConfigError: as ``load_config``.
    """
    tree = _read_tree(path, overrides)
    fleet = _checked(FleetConfig, tree, str(path))
    return _checked(FleetConfig, _with_absolute_paths(fleet, Path(path).resolve().parent), str(path))


def _read_tree(path: str | os.PathLike[str], overrides: Sequence[str]) -> dict[str, Any]:
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
    return tree


def _with_absolute_paths(fleet: FleetConfig, folder: Path) -> dict[str, Any]:
    """The configuration as a tree, every path of which starts from the root."""
    tree = fleet.model_dump(exclude_unset=True)
    tree["state_dir"] = str(folder / tree["state_dir"])
    for server in tree.get("servers", {}).values():
        if server.get("config_file"):
            server["config_file"] = str(folder / server["config_file"])
    for model in tree["models"].values():
        model["base_path"] = str(folder / model["base_path"])
    proxy = tree.get("proxy", {})
    for key in ("tls_certificate", "tls_client_ca", "server_ca", "server_certificate"):
        if proxy.get(key):
            proxy[key] = str(folder / proxy[key])
    return tree


def load_serving_config(overrides: Sequence[str] = ()) -> ServingConfig:
    """The ``[serving]`` section of a server that has no configuration file: defaults and overrides.

    Raises:
        ConfigError: as ``load_config``.
    """
    tree: dict[str, Any] = {}
    for override in overrides:
        _apply_override(tree, override)
    return _checked(_ServingOnly, tree, "--set").serving


def parse_index_config(values: dict[str, Any], origin: str) -> IndexConfig:
    """Checks the keys of a section ``[index]`` that belongs to no configuration file; ``origin`` names it in errors.

    Raises:
        ConfigError: as ``load_config``.
    """
    return _checked(_IndexOnly, {"index": values}, origin).index


def parse_config(tree: dict[str, Any], origin: str) -> Config:
    """Checks a configuration that is already a tree of tables; ``origin`` names it in errors.

    Raises:
        ConfigError: as ``load_config``.
    """
    return _checked(Config, tree, origin)


def _checked(kind: type[S], tree: dict[str, Any], origin: str) -> S:
    try:
        return kind.model_validate(tree)
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(_explain(kind, origin, problem) for problem in error.errors())) from None


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


def _explain(kind: type[Section], origin: str, problem: Any) -> str:
    """One line for one pydantic error: the key, what was found, what is allowed."""
    key = ".".join(str(part) for part in problem["loc"])
    if key in RENAMED:
        return f"{origin}: {key} is now called {RENAMED[key]}; rename the key"
    if key in REPLACED:
        return f"{origin}: {key} is no longer a key; {REPLACED[key]}"
    if problem["type"] == "extra_forbidden":
        known = ", ".join(_keys_of_section(kind, problem["loc"][:-1]))
        return f"{origin}: unknown key {key} (known here: {known})"
    if problem["type"] == "missing":
        return f"{origin}: key {key} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if not key:
        return f"{origin}: {message}"
    return f"{origin}: {key} = {problem['input']!r}: {message[:1].lower()}{message[1:]}"


def _keys_of_section(kind: type[Section], location: Sequence[int | str]) -> list[str]:
    section: Any = kind
    for part in location:
        if typing.get_origin(section) is dict:  # a table of sections: the part is the name of one
            section = typing.get_args(section)[1]
            continue
        annotation = section.model_fields[str(part)].annotation
        options = (annotation, *(() if typing.get_origin(annotation) is dict else typing.get_args(annotation)))
        section = next(
            option
            for option in options
            if typing.get_origin(option) is dict or (isinstance(option, type) and issubclass(option, Section))
        )
    return sorted(section.model_fields)
