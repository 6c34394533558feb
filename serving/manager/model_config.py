"""Models and versions to serve: TensorFlow Serving's ``ModelServerConfig``, read and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from dpsr.config import ServingConfig
from dpsr.serving.errors import ServableError

MAX_VERSION = 2**63 - 1
"""The highest version that ``ModelSpec`` holds."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LABEL = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class VersionPolicy:
    """Versions to serve: the ``count`` highest that work, the named ones, or all."""

    count: int | None = 1
    """None for all."""
    versions: frozenset[int] | None = None
    """Exactly these versions; the count is ignored."""

    def candidates(self, found: Iterable[int]) -> list[int]:
        """Versions on disk that the policy admits, highest first."""
        chosen = (version for version in found if self.versions is None or version in self.versions)
        return sorted(chosen, reverse=True)

    @property
    def limit(self) -> float:
        """Number of candidates that are served."""
        return float("inf") if self.versions is not None or self.count is None else self.count


@dataclass(frozen=True)
class ServedModel:
    """One model of the configuration."""

    name: str
    base_path: Path
    """The directory whose integer-named entries are versions."""
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict)
    """Label -> version; clients may name a version by its label."""


def read_model_config(file: Path) -> list[ServedModel]:
    """Reads a text ``ModelServerConfig``; relative base paths start from the file's directory.

    Raises:
        ServableError: the file cannot be read, or describes a model that cannot be served.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    try:
        config = text_format.Parse(file.read_text(encoding="utf-8"), model_server_config_pb2.ModelServerConfig())
    except OSError as error:
        raise _invalid(f"{file}: {error.strerror}; name a text ModelServerConfig") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise _invalid(f"{file}: not a text ModelServerConfig: {error}") from None
    try:
        return parse_model_config(config, relative_to=file.resolve().parent)
    except ServableError as error:
        raise _invalid(f"{file}: {error.message}") from None


def served_models(config: ServingConfig, default: ServedModel | None = None) -> list[ServedModel]:
    """Models of the model config file, or the default model without such a file.

    Raises:
        ServableError: the file cannot be used, or neither a file nor a default is given.
    """
    if config.model_config_file:
        return read_model_config(Path(config.model_config_file))
    if default is None:
        raise _invalid("no model to serve; name a configuration (-c) or a model config file (--model-config-file)")
    return [default]


def parse_model_config(config: Any, *, relative_to: Path | None = None) -> list[ServedModel]:
    """Checks a ``ModelServerConfig`` message.

    Args:
        config: the message.
        relative_to: directory from which relative base paths start; None refuses them.

    Raises:
        ServableError: INVALID_ARGUMENT; a model of it cannot be served.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise _invalid("ModelServerConfig has no model_config_list; other kinds of configuration are not supported")
    models = [_parse_model(entry, relative_to) for entry in config.model_config_list.config]
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise _invalid(f"model {name} is configured twice")
    return models


def _parse_model(entry: Any, relative_to: Path | None) -> ServedModel:
    if not _NAME.fullmatch(entry.name):
        raise _invalid(f"name {entry.name!r} of a model: expected letters, digits, '_', '-' and '.'")
    if entry.model_platform not in ("", "tensorflow"):
        raise _invalid(f"model {entry.name}: model_platform {entry.model_platform!r}; expected 'tensorflow'")
    path = Path(entry.base_path)
    if not entry.base_path or not (path.is_absolute() or relative_to):
        raise _invalid(f"Expected model {entry.name} to have an absolute path or URI; got base_path()={path}")
    labels = dict(entry.version_labels)
    for label, version in labels.items():
        if not _LABEL.fullmatch(label) or version < 0:
            raise _invalid(
                f"model {entry.name}: label {label!r} of version {version}: expected a label of letters, digits, '_', "
                "'-' and '.', and a version of at least 0"
            )
    base_path = path if relative_to is None else relative_to / path
    return ServedModel(entry.name, base_path, _parse_policy(entry), labels)


def _parse_policy(entry: Any) -> VersionPolicy:
    policy = entry.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return VersionPolicy(count=None)
    if kind == "specific":
        if not policy.specific.versions:
            raise _invalid(f"model {entry.name}: the specific version policy names no version")
        return VersionPolicy(versions=frozenset(policy.specific.versions))
    return VersionPolicy(count=max(policy.latest.num_versions, 1) if kind == "latest" else 1)


def _invalid(message: str) -> ServableError:
    return ServableError(grpc.StatusCode.INVALID_ARGUMENT, message)
