"""A tokenizer and its oracle, built from the same texts."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf

from dpsr.tokenizer_cc import Tokenizer, VocabularyBuilder
from dpsr.tokenizer_cc.tokenize_op import TokenizeLayer

from .reference import ReferenceTokenizer
from .texts import HARD, SHOP

SETTINGS = {"max_vocabulary": 150, "min_count": 1, "oov_buckets": 13, "bigrams": True, "trigrams": True}


@pytest.fixture(scope="session")
def build() -> Callable[..., Tokenizer]:
    """Builds a tokenizer; keyword arguments replace SETTINGS."""

    def _build(texts: list[str | bytes], **settings: object) -> Tokenizer:
        builder = VocabularyBuilder(**{**SETTINGS, **settings})
        builder.add(texts)
        return builder.build()

    return _build


@pytest.fixture(scope="session")
def tokenizer(build: Callable[..., Tokenizer]) -> Tokenizer:
    return build(SHOP + HARD)


@pytest.fixture(scope="session")
def reference() -> ReferenceTokenizer:
    return ReferenceTokenizer.build(SHOP + HARD, **SETTINGS)


@pytest.fixture(scope="session")
def model_path(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tokenizer.model"
    tokenizer.save(path)
    return path


class Servable(tf.Module):
    """What an export makes of a layer."""

    def __init__(self, layer: TokenizeLayer) -> None:
        super().__init__()
        self.layer = layer

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="query")])
    def tokenize(self, query: tf.Tensor) -> dict[str, tf.Tensor]:
        tokens = self.layer(query)
        return {"values": tokens.values, "row_splits": tokens.row_splits}

    def save(self, path: Path) -> None:
        tf.saved_model.save(self, str(path), signatures={"tokenize": self.tokenize})


@pytest.fixture(scope="session")
def layer(model_path: Path) -> TokenizeLayer:
    return TokenizeLayer(model_path)


@pytest.fixture(scope="session")
def servable_path(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that was moved after it was written, and whose model file is gone."""
    folder = tmp_path_factory.mktemp("servable")
    tokenizer.save(folder / "tokenizer.model")
    Servable(TokenizeLayer(folder / "tokenizer.model")).save(folder / "written")
    (folder / "tokenizer.model").unlink()
    return Path(shutil.move(folder / "written", folder / "moved"))
