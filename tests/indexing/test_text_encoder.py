"""A transformer of the query tower in int8: what is served, and what the precision costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.indexing.manifest import read_manifest
from dpsr.indexing.publish import export
from dpsr.indexing.text_encoder import describe_text_encoder, text_encoder_line

from .conftest import K, Shop, make_shop

TRANSFORMER = {"layers": 2, "width": 32, "heads": 4, "intermediate": 64, "max_query_length": 6, "max_item_length": 9}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = make_shop(
        tmp_path_factory.mktemp("shop"),
        model={"text_encoder": "transformer", "transformer": TRANSFORMER},
        tokenizer={"min_count": 1, "oov_buckets": 50, "subwords": {"vocabulary": 80}},
        index={"text_encoder_precision": "int8"},
    )
    for variable in tf.nest.flatten(shop.model.text_weights):
        if variable.shape.rank == 2:  # as large as trained ones: fresh blocks add little to a token
            variable.assign(5.0 * variable)
    return shop


@pytest.fixture(scope="module")
def published(shop: Shop) -> Path:
    return export(shop.config, shop.dataset, shop.model, progress=False)


def test_the_manifest_says_what_int8_costs(published: Path) -> None:
    manifest = read_manifest(published)
    measured = manifest["text_encoder"]
    assert measured["precision"] == "int8"
    assert measured["k"] == K
    assert 0.99 < measured["least_cosine"] < measured["cosine"] < 1.0
    assert 0.9 < measured["recall"] <= 1.0
    assert text_encoder_line(manifest).startswith("text encoder: int8; ")


def test_the_servable_holds_the_packed_matrices_alone(published: Path, shop: Shop) -> None:
    reader = tf.train.load_checkpoint(str(published / "variables" / "variables"))
    shapes = reader.get_variable_to_shape_map()
    of_bytes = [shapes[name] for name, kind in reader.get_variable_to_dtype_map().items() if kind == tf.int8]
    inputs, outputs = TRANSFORMER["width"], TRANSFORMER["intermediate"]
    matrices = 4 * inputs * inputs + 2 * inputs * outputs
    assert [shape for shape in of_bytes if shape] == [[TRANSFORMER["layers"], matrices]]
    assert not any(shape == [inputs, outputs] for shape in shapes.values())


def test_a_loss_is_measured_by_exact_search() -> None:
    vectors = np.eye(4, dtype=np.float32)
    exact = np.array([[[1, 0.5, 0, 0]], [[0, 0, 1, 0.5]]], np.float32)
    served = np.array([[[1, 0.5, 0, 0]], [[0.5, 0, 1, 0]]], np.float32)
    measured = describe_text_encoder("int8", exact, served, vectors, 2)
    assert measured["recall"] == 0.75
    assert measured["cosine"] == pytest.approx((1.25 + 1.0) / 2)
    assert measured["least_cosine"] == 1.0
