"""A tokenizer and its oracle, built from the same texts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dpsr.tokenizer_cc import Tokenizer, VocabularyBuilder

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
