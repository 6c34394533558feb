"""What ``dpsr evaluate --tune`` chose for BM25: a file of the run that every later command reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pydantic

from dpsr.config import Config, ConfigError, LexicalConfig

TUNED_FILE = "evaluation/lexical.json"
"""Relative to ``work_dir``."""


@dataclass(frozen=True)
class TunedLexical:
    """Keys of ``index.lexical`` with the values that the clicks of the valid split chose."""

    lexical: dict[str, Any]
    """``k1``, ``b``, ``popularity`` and ``weights`` by column, those that were left to choose."""
    clicks: int
    """Examples they were chosen on."""
    ndcg: dict[str, float]
    """The mean nDCG of the lists (``valid_clicks.gain``) ``before`` and ``after``."""
    text: list[str]
    """The text columns of the items."""
    bigrams: bool

    def line(self) -> str:
        """One line for the terminal."""
        values = {**self.lexical, **self.lexical.get("weights", {})}
        chosen = ", ".join(f"{name} = {value:g}" for name, value in values.items() if name != "weights")
        figures = f"nDCG {self.ndcg['before']:.4f} -> {self.ndcg['after']:.4f} on {self.clicks:,} clicks"
        return f"tuned BM25: {chosen or 'the configuration leaves nothing to choose'} ({figures})"

    def write(self, work_dir: Path) -> Path:
        """Writes the file of a run, and returns its path."""
        path = work_dir / TUNED_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return path


def with_tuned(config: Config) -> Config:
    """The configuration of a run with what was tuned; keys that it has itself stay as they are.

    Raises:
        ConfigError: the file is damaged, or was tuned for other text columns or without or with bigrams.
    """
    path, given = Path(config.work_dir) / TUNED_FILE, config.index.lexical
    if not path.exists():
        return config
    remedy = "run `dpsr evaluate --tune` again, or remove the file"
    try:
        tuned = TunedLexical(**json.loads(path.read_text(encoding="utf-8")))
        explicit = given.model_dump(include=given.model_fields_set)
        weights = {**tuned.lexical.get("weights", {}), **given.weights}
        lexical = LexicalConfig(**{**tuned.lexical, **explicit, "weights": weights})
    except (OSError, TypeError, ValueError, AttributeError, pydantic.ValidationError) as error:
        raise ConfigError(f"{path}: not what `dpsr evaluate --tune` writes ({error}); {remedy}") from None
    of_run = list(config.data.items.text), given.bigrams
    if (tuned.text, tuned.bigrams) != of_run:
        raise ConfigError(
            f"{path}: tuned for {_described(tuned.text, tuned.bigrams)}, and the run has {_described(*of_run)}; "
            f"{remedy}"
        )
    index = config.index.model_copy(update={"lexical": lexical})
    return config.model_copy(update={"index": index})


def lexical_text(lexical: Mapping[str, Any]) -> str:
    """BM25's parameters as text; ``lexical`` has the keys of ``LexicalConfig``."""
    weights = "".join(f", {column} = {weight:g}" for column, weight in sorted(lexical["weights"].items()))
    popularity = f", popularity = {lexical['popularity']:g}" if lexical["popularity"] else ""
    return f"k1 = {lexical['k1']:g}, b = {lexical['b']:g}{weights}{popularity}"


def _described(text: list[str], bigrams: bool) -> str:
    return f"data.items.text = {', '.join(text)} and index.lexical.bigrams = {str(bigrams).lower()}"
