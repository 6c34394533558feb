"""The towers as they are served: the trained ones, over packed transformers."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from dpsr.model.inference_model import InferenceModel, for_inference

from .test_transformer import make_model, queries_and_items
from .test_two_tower import make_model as make_bag_model


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("dimension", [8, 6])
def test_towers_for_inference_give_the_vectors_of_the_trained_ones(shared: bool, dimension: int) -> None:
    model = make_model({"norm": "pre"}, shared_tokens=shared, dimension=dimension, heads=2, hidden=[5])
    queries, items = queries_and_items(1, 9, 20)
    packed = for_inference(model)
    assert isinstance(packed, InferenceModel)
    np.testing.assert_allclose(packed.query_heads(queries), model.query_heads(queries), atol=1e-5)
    np.testing.assert_allclose(packed.item_vectors(items), model.item_vectors(items), atol=1e-5)


def test_int8_is_near_the_trained_model() -> None:
    model = make_model({"width": 64, "intermediate": 128}, dimension=16)
    queries, _ = queries_and_items(1, 50, 1)
    served = for_inference(model, "int8").query_heads(queries)
    assert np.min(np.sum(served * model.query_heads(queries), -1)) > 0.999


def test_weights_are_packed_as_they_were_then() -> None:
    model = make_model()
    queries, _ = queries_and_items(1, 4, 1)
    packed, before = for_inference(model), model.query_heads(queries)
    for variable in tf.nest.flatten(model.text_weights):
        variable.assign(variable * 2.0)
    np.testing.assert_allclose(packed.query_heads(queries), before, atol=1e-5)


def test_other_models_are_served_as_they_are() -> None:
    bags = make_bag_model()
    assert for_inference(bags) is bags
    packed = for_inference(make_model())
    assert for_inference(packed) is packed
