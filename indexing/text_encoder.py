"""What the precision of a served transformer costs: its query vectors beside those of the trained one."""

from __future__ import annotations

from typing import Any

import numpy as np

from dpsr.indexing.dense.exact import exact_search, kth_scores, recall_at_k
from dpsr.ops_cc.packed_encoder import Precision


def describe_text_encoder(
    precision: Precision, exact: np.ndarray, served: np.ndarray, vectors: np.ndarray, k: int
) -> dict[str, Any]:
    """Compares the query vectors that are served with the model's, for the manifest.

    Args:
        precision: of the transformer's matrices.
        exact: float32 [n, heads, d], of the trained model.
        served: float32 [n, heads, d].
        vectors: float32 [items, d].
        k: items of an answer.

    Returns:
        ``precision``; ``cosine`` and ``least_cosine`` of a served head with the model's, the mean and the least;
        ``recall``, the share of the k best items that exact search with the served heads finds; ``k``; ``queries``.
    """
    cosines = (exact * served).sum(-1)
    found, _ = exact_search(vectors, served, k)
    recall = recall_at_k(vectors, exact, found, kth_scores(vectors, exact, k))
    return {
        "precision": precision,
        "cosine": float(cosines.mean()),
        "least_cosine": float(cosines.min()),
        "recall": recall,
        "k": k,
        "queries": len(exact),
    }


def text_encoder_line(manifest: dict[str, Any]) -> str:
    """The same as a line of text; empty for a version without a transformer."""
    if "text_encoder" not in manifest:
        return ""
    measured = manifest["text_encoder"]
    return (
        f"text encoder: {measured['precision']}; beside the trained model over {measured['queries']:,} queries: cosine "
        f"{measured['cosine']:.5f} (least {measured['least_cosine']:.4f}), recall@{measured['k']} "
        f"{measured['recall']:.4f}"
    )
