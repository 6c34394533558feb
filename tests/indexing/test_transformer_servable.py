"""A transformer in the servable: answers of the model, and a published checkpoint served as it is."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset
from dpsr.indexing.catalogue import Catalogue
from dpsr.indexing.corpus import embed_catalogue, embed_items
from dpsr.indexing.publish import export
from dpsr.model.feature_tables import feature_tables
from dpsr.model.interface import Model
from dpsr.model.run_files import CheckpointError
from dpsr.model.text_encoders.transformer import TransformerEncoder
from dpsr.model.trained import load_model
from dpsr.model.two_tower import TwoTower
from dpsr.ops_cc.text_encoder import EncoderShape, EncoderWeights

from ..model.numpy_encoder import last_hidden_states
from ..model.published import BERT, WORDS, random_weights, write_checkpoint
from .conftest import ITEMS, Shop, make_shop

SMALL = {"layers": 2, "width": 12, "heads": 2, "intermediate": 16, "max_query_length": 6, "max_item_length": 9}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop whose towers read subwords by a transformer each, beside profile, history and its titles."""
    model = {"text_encoder": "transformer", "transformer": SMALL, "history_titles": 2}
    subwords = {"subwords": {"vocabulary": 80}}
    return make_shop(
        tmp_path_factory.mktemp("shop"), model=model, tokenizer={"min_count": 1, "oov_buckets": 50} | subwords
    )


def test_the_servable_answers_as_the_model(shop: Shop) -> None:
    version = export(shop.config, shop.dataset, shop.model, progress=False)  # compares tokens, heads and items
    assert (version / "assets/subwords.model").is_file()


def test_item_vectors_do_not_depend_on_the_batch_or_where_the_items_come_from(shop: Shop) -> None:
    tables = feature_tables(shop.config.model, shop.dataset)
    expected = shop.model.item_vectors(tables.items(tf.range(ITEMS)))
    np.testing.assert_allclose(embed_items(shop.model, shop.dataset, progress=False), expected, atol=1e-5)
    small = embed_items(shop.model, shop.dataset, batch_size=7, progress=False)
    np.testing.assert_allclose(small, expected, atol=1e-5)
    read = Catalogue.read(shop.config.data.items.path, shop.config, shop.dataset)
    np.testing.assert_allclose(embed_catalogue(shop.model, read, progress=False), expected, atol=1e-5)


@pytest.fixture(scope="module")
def weights() -> EncoderWeights:
    return random_weights(BERT)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory, weights: EncoderWeights) -> Shop:
    """A shop that names a published checkpoint and trains nothing."""
    folder = tmp_path_factory.mktemp("untouched")
    write_checkpoint(folder / "checkpoint", BERT, weights, pooling="mean")
    as_it_is = {"dimension": 8, "heads": 1, "residual": True}
    return make_shop(
        folder,
        model={
            "text_encoder": "transformer",
            "transformer": {"initial": str(folder / "checkpoint"), "max_query_length": 6, "max_item_length": 9},
            **as_it_is,
        },
        training={"epochs": 0},
    )


def shape_of(model: Model) -> EncoderShape:
    assert isinstance(model, TwoTower)
    assert isinstance(model.query_inputs.texts[0], TransformerEncoder)
    return model.query_inputs.texts[0].shape


def test_an_untouched_checkpoint_is_exported_and_served(untouched: Shop, weights: EncoderWeights) -> None:
    model = load_model(untouched.config, untouched.dataset)
    version = export(untouched.config, untouched.dataset, model, progress=False)
    embed = tf.saved_model.load(str(version)).signatures["embed_query"]
    texts = {
        "Red shoe": ["[CLS]", "red", "[UNK]", "[SEP]"],
        "": ["[CLS]", "[SEP]"],
        "steel hammers, kitchen sink": ["[CLS]", "steel", "hammer", "##s", "[UNK]", "[SEP]"],
    }
    found = embed(query=tf.constant(list(texts)))["heads"]
    shape = shape_of(model)
    for row, tokens in enumerate(texts.values()):
        ids = np.array([WORDS.index(token) for token in tokens])
        vector = last_hidden_states(ids, weights, shape)[-1].mean(axis=0)
        np.testing.assert_allclose(found[row, 0], vector / np.linalg.norm(vector), atol=1e-5)


def test_item_vectors_of_an_untouched_checkpoint_are_those_of_the_texts_alone(
    untouched: Shop, weights: EncoderWeights
) -> None:
    model, dataset = load_model(untouched.config, untouched.dataset), untouched.dataset
    vectors = embed_items(model, dataset, progress=False)
    shape, special = shape_of(model), dataset.subwords_schema
    for row in range(0, ITEMS, 30):
        ids = np.array([special.cls, *dataset.item_subwords[row][:7], special.sep])
        vector = last_hidden_states(ids, weights, shape)[-1].mean(axis=0)
        np.testing.assert_allclose(vectors[row], vector / np.linalg.norm(vector), atol=1e-5)


@pytest.mark.parametrize("change", [{"heads": 2}, {"residual": False}, {"dimension": 16}], ids=str)
def test_towers_that_would_change_the_vectors_are_refused(untouched: Shop, change: dict) -> None:
    model = untouched.config.model.model_copy(update=change)
    config: Config = untouched.config.model_copy(update={"model": model})
    wanted = "model.heads = 1, model.residual = true, model.dimension = 8"
    with pytest.raises(CheckpointError, match=f"nothing was trained.*run `dpsr train` first.*{wanted}"):
        load_model(config, untouched.dataset)


def test_without_a_checkpoint_to_start_from_an_untrained_model_is_refused(shop: Shop) -> None:
    with pytest.raises(CheckpointError, match="no trained model here; run `dpsr train` first"):
        load_model(shop.config, Dataset.load(shop.config.dataset_dir))


def test_a_folder_for_no_training_at_all_is_no_trained_model(untouched: Shop, tmp_path: Path) -> None:
    training = untouched.config.training.model_copy(update={"epochs": 3})
    config = untouched.config.model_copy(update={"training": training, "work_dir": str(tmp_path)})
    first, second = load_model(config, untouched.dataset), load_model(untouched.config, untouched.dataset)
    np.testing.assert_array_equal(
        embed_items(first, untouched.dataset, progress=False), embed_items(second, untouched.dataset, progress=False)
    )
