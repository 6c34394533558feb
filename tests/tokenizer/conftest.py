"""A tokenizer and its oracle, built from the same texts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dpsr.tokenizer_cc import Tokenizer, VocabularyBuilder

from .reference import ReferenceTokenizer
from .texts import HARD, SHOP

if TYPE_CHECKING:
    from dpsr.tokenizer_cc.tokenize_op import TokenizeLayer

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


@pytest.fixture(scope="session")
def layer(model_path: Path) -> TokenizeLayer:
    from dpsr.tokenizer_cc.tokenize_op import TokenizeLayer

    return TokenizeLayer(model_path)


@pytest.fixture(scope="session")
def servable_path(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel that was moved after it was written, and whose model file is gone."""
    import tensorflow as tf

    from dpsr.tokenizer_cc.tokenize_op import TokenizeLayer

    folder = tmp_path_factory.mktemp("servable")
    tokenizer.save(folder / "tokenizer.model")
    servable = tf.Module()
    servable.layer = TokenizeLayer(folder / "tokenizer.model")

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="query")])
    def tokenize(query: tf.Tensor) -> dict[str, tf.Tensor]:
        tokens = servable.layer(query)
        return {"values": tokens.values, "row_splits": tokens.row_splits}

    servable.tokenize = tokenize
    tf.saved_model.save(servable, str(folder / "written"), signatures={"tokenize": tokenize})
    (folder / "tokenizer.model").unlink()
    return Path(shutil.move(folder / "written", folder / "moved"))
