"""Fingerprints of everything that decides a method's weights, or its ranked lists: a file of another one is stale."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from dpsr import __version__
from dpsr.baselines.combinations import stages_of
from dpsr.baselines.context import Baseline, Need
from dpsr.baselines.fitting.weights_file import file_identity
from dpsr.evaluation.compare.inputs import Inputs
from dpsr.evaluation.report.trec import run_tag

_LISTS_VERSION = 1
_DIGITS = 16  # hexadecimal


class Fingerprints:
    """Names of files by method."""

    def __init__(self, inputs: Inputs, registry: Mapping[str, Baseline]) -> None:
        """Takes what the methods are built from and measured on."""
        self._inputs = inputs
        self._registry = registry

    def trained(self, name: str) -> str:
        """File name of what was trained for a method: its name and a digest of dataset, seed and settings.

        The same for every split, sample and label.
        """
        entry, config = self._registry[name], self._inputs.config
        options = config.evaluation
        files = {file: about["sha256"] for file, about in self._inputs.dataset.manifest["files"].items()}
        lexical = config.index.lexical
        given = sorted(lexical.model_fields_set)
        checkpoint = self._checkpoint if Need.MODEL in entry.needs else None
        parts = (name, *entry.parts)
        runs = {part: _files(Path(options.runs[part])) for part in parts if part in options.runs}
        facts = [
            __version__,
            name,
            [(part, self._registry[part].version) for part in parts if part in self._registry],
            runs,
            files,
            self._inputs.seed,
            lexical.model_dump(),
            given,
            checkpoint,
            file_identity(None if options.word_vectors is None else Path(options.word_vectors)),
            options.checkpoint,
        ]
        return _named(name, facts)

    def lists(self, name: str) -> str:
        """File name of a method's ranked lists: the digest covers split, sample, candidates and labels too."""
        options = self._inputs.config.evaluation
        stages = stages_of(name, self._registry)
        parts = [self.trained(part) for part in (stages[:2] if stages else [name])]
        sample = [self._inputs.split, options.max_examples, options.candidates]
        return _named(name, [_LISTS_VERSION, parts, stages and stages[2], sample, self._labels])

    @cached_property
    def _labels(self) -> list[Any] | None:
        labels = self._inputs.config.evaluation.labels
        if labels is None:
            return None
        return [labels.model_dump(), sha256(Path(labels.path).read_bytes()).hexdigest()]

    @cached_property
    def _checkpoint(self) -> list[Any]:
        """The trained model: its configuration, and name, size and time of its files."""
        config = self._inputs.config
        folders = [config.checkpoint_dir, *([Path(config.model.initial)] if config.model.initial else [])]
        return [config.model.model_dump(), [_files(folder) for folder in folders]]


def _files(folder: Path) -> list[Any]:
    """Identities of all files below a folder."""
    return [file_identity(path) for path in sorted(folder.rglob("*")) if path.is_file()]


def _named(name: str, facts: list[Any]) -> str:
    digest = sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:_DIGITS]
    return f"{run_tag(name)}-{digest}"
