"""The fit of a weight for each query to clicks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from dpsr.indexing.fusion_candidates import Candidates
from dpsr.indexing.query_weight import LEAST_WEIGHT, MOST_WEIGHT, QueryWeight

_PENALTY = 10.0
"""Of the squared slopes of standardised features, against the cross-entropy summed over clicks."""
_FIRST_TEMPERATURE = 0.1


class _Clicks(NamedTuple):
    """Clicks whose item is among the candidates of their query, n of them."""

    dense: np.ndarray
    """float32 [n, 2k]."""
    lexical: np.ndarray
    """float32 [n, 2k], over the query's best."""
    counted: np.ndarray
    """bool [n, 2k]."""
    clicked_dense: np.ndarray
    """float32 [n], the scores of the clicked items."""
    clicked_lexical: np.ndarray
    features: np.ndarray
    """float64 [n, 9], standardised."""

    @classmethod
    def of(cls, candidates: Candidates, clicked: np.ndarray, chosen: np.ndarray, features: np.ndarray) -> _Clicks:
        """Those of the clicks at ``chosen``, bool [clicks]."""
        is_clicked = (candidates.rows == clicked[:, np.newaxis]) & candidates.counted
        held = chosen & is_clicked.any(axis=1)
        place = is_clicked[held].argmax(axis=1)[:, np.newaxis]
        dense, lexical = candidates.dense[held], candidates.normalised_lexical[held]
        clicked_dense, clicked_lexical = (
            np.take_along_axis(scores, place, axis=1)[:, 0] for scores in (dense, lexical)
        )
        return cls(dense, lexical, candidates.counted[held], clicked_dense, clicked_lexical, features[held])

    def loss(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Softmax cross-entropy of the clicked items among all candidates, and its gradient.

        Args:
            parameters: float64 [11]: slopes, logarithm of the weight of the mean features, and of the temperature.
        """
        slopes, level, temperature = parameters[:-2], parameters[-2], np.exp(parameters[-1])
        weight = np.exp(np.clip(self.features @ slopes + level, np.log(LEAST_WEIGHT), np.log(MOST_WEIGHT)))
        column = weight.astype(np.float32)[:, np.newaxis]
        logits = np.where(self.counted, (self.lexical + column * self.dense) / np.float32(temperature), -np.inf)
        best = logits.max(axis=1, keepdims=True)
        shares = np.exp(logits - best)
        total = shares.sum(axis=1, dtype=np.float64)
        dense = (shares * self.dense).sum(axis=1, dtype=np.float64) / total - self.clicked_dense
        lexical = (shares * self.lexical).sum(axis=1, dtype=np.float64) / total - self.clicked_lexical
        of_clicked = (self.clicked_lexical + weight * self.clicked_dense) / temperature
        loss = float((best[:, 0] + np.log(total) - of_clicked).sum()) + 0.5 * _PENALTY * float(slopes @ slopes)
        of_weight = dense * weight / temperature
        gradient = np.array([*(self.features.T @ of_weight + _PENALTY * slopes), of_weight.sum(), 0.0])
        gradient[-1] = -((lexical + weight * dense) / temperature).sum()
        return loss, gradient


def fit_query_weight(candidates: Candidates, clicked: np.ndarray, chosen: np.ndarray) -> QueryWeight:
    """The factor of the weight that minimises the cross-entropy of the clicked items under the weighted sums.

    Args:
        candidates: of n queries.
        clicked: int32 [n], the item row that each led to.
        chosen: bool [n], the clicks that are learnt from.

    Returns:
        The factor, 1 for a query with the mean features of these clicks.
    """
    features = candidates.features.astype(np.float64)
    mean, deviation = features[chosen].mean(axis=0), features[chosen].std(axis=0)
    # A feature that never changes says nothing, and gets no slope.
    scale = np.where(deviation > 1e-6, 1.0 / np.maximum(deviation, 1e-6), 0.0)
    clicks = _Clicks.of(candidates, clicked, chosen, (features - mean) * scale)
    first = np.array([*np.zeros(features.shape[1]), 0.0, np.log(_FIRST_TEMPERATURE)])
    slopes = minimize(clicks.loss, first, jac=True, method="L-BFGS-B").x[:-2] * scale
    return QueryWeight(float(np.float32(-slopes @ mean)), tuple(slopes.astype(np.float32).tolist()))
