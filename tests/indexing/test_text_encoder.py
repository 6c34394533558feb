"""What the precision of a served transformer costs."""

from __future__ import annotations

import numpy as np
import pytest

from dpsr.indexing.text_encoder import describe_text_encoder


def test_a_loss_is_measured_by_exact_search() -> None:
    vectors = np.eye(4, dtype=np.float32)
    exact = np.array([[[1, 0.5, 0, 0]], [[0, 0, 1, 0.5]]], np.float32)
    served = np.array([[[1, 0.5, 0, 0]], [[0.5, 0, 1, 0]]], np.float32)
    measured = describe_text_encoder("int8", exact, served, vectors, 2)
    assert measured["recall"] == 0.75
    assert measured["cosine"] == pytest.approx((1.25 + 1.0) / 2)
    assert measured["least_cosine"] == 1.0
