"""Training in rounds, with early stopping by the valid split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from tqdm import tqdm


class Weighted(Protocol):
    """What has weights."""

    def weights(self) -> list[np.ndarray]:
        """Returns all weights, in an order of its own."""
        ...

    def assign(self, weights: list[np.ndarray]) -> None:
        """Sets the weights that ``weights`` returned."""
        ...


@dataclass(frozen=True)
class Rounds:
    """How long to train."""

    size: int
    """Examples between two measurements."""
    most: int
    patience: int = 3
    """Rounds without a better measurement after which training ends."""


def run_rounds(
    model: Weighted,
    one_round: Callable[[tqdm], float],
    quality: Callable[[], float] | None,
    rounds: Rounds,
    *,
    name: str,
    progress: bool,
) -> None:
    """Leaves the model with the weights of the best round by ``quality``, or of the last one without it.

    Args:
        model: what is trained.
        one_round: trains on ``rounds.size`` examples, advances the bar by each, and returns the mean loss.
        quality: the measure on the valid split, the higher the better; None where the split has no click.
        rounds: their size and number.
        name: shown before the progress bar.
        progress: show the bar.
    """
    best, best_round, kept = -np.inf, -1, model.weights()
    with tqdm(total=rounds.most * rounds.size, desc=name, unit="ex", unit_scale=True, disable=not progress) as bar:
        for each in range(rounds.most):
            loss = one_round(bar)
            if quality is None:
                continue
            found = quality()
            bar.set_postfix(loss=f"{loss:.3f}", valid=f"{found:.3f}")
            if found > best:
                best, best_round, kept = found, each, model.weights()
            elif each - best_round >= rounds.patience:
                break
    if quality is not None:
        model.assign(kept)
