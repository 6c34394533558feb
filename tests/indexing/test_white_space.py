"""White space at the ends of values is stripped alike by Python, Arrow, the dataset and a servable."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from dpsr.config import parse_config
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.job import prepare
from dpsr.data.raw.values import trimmed_strings
from dpsr.data.raw.white_space import WHITE_SPACE
from dpsr.indexing.dense.ann import Index
from dpsr.indexing.filters import stripped
from dpsr.indexing.servable import dense_servable
from dpsr.model.two_tower import TwoTower
from dpsr.tokenizer_cc import Tokenizer, tokenize

CHARACTERS = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
NOT_WHITE_SPACE = "\u200b\ufeff\u2060\u00ad\u180e"
"""Characters without a glyph that are not white space: a value keeps them."""
PADDED = [f"{left}gold {right}" for left, right in zip(WHITE_SPACE, reversed(WHITE_SPACE), strict=True)]


def in_graph(texts: list[str | bytes]) -> list[bytes]:
    return stripped(tf.constant(texts)).numpy().tolist()


def test_white_space_is_that_of_python_arrow_and_tensorflow() -> None:
    expected = set(WHITE_SPACE)
    assert {character for character in CHARACTERS if character.isspace()} == expected
    by_arrow = pc.utf8_trim_whitespace(pa.array(CHARACTERS)).to_pylist()
    assert {c for c, left in zip(CHARACTERS, by_arrow, strict=True) if not left} == expected
    by_tensorflow = in_graph(list(CHARACTERS))
    assert {c for c, left in zip(CHARACTERS, by_tensorflow, strict=True) if not left} == expected


@pytest.mark.parametrize("text", [*PADDED, *NOT_WHITE_SPACE, "a\nb", "\u3000", "", f"{NOT_WHITE_SPACE[0]} x "])
def test_a_text_is_stripped_alike(text: str) -> None:
    assert in_graph([text]) == [text.strip().encode()]
    assert (trimmed_strings(pa.array([text])).to_pylist()[0] or "") == text.strip()


def test_bytes_that_are_no_utf8_are_kept() -> None:
    assert in_graph([b"\xff x \xff", b" \xe3\x80\x80caf\xe9\xe3\x80\x80 ", b"\xe3\x80"]) == [
        b"\xff x \xff",
        b"caf\xe9",
        b"\xe3\x80",
    ]


def test_the_tokenizer_skips_it(tmp_path: Path) -> None:
    from dpsr.tokenizer_cc import VocabularyBuilder

    builder = VocabularyBuilder(max_vocabulary=100, min_count=1, oov_buckets=5, bigrams=True, trigrams=True)
    builder.add(["red gold"])
    tokenizer = builder.build()
    tokenizer.save(tmp_path / "tokenizer.model")
    expected = tokenizer.encode("red gold").tolist()
    texts = [f"{space}red{space}gold{space}" for space in WHITE_SPACE]
    assert [tokenizer.encode(text).tolist() for text in texts] == [expected] * len(texts)
    assert tokenize(tf.constant(texts), tmp_path / "tokenizer.model").to_list() == [expected] * len(texts)


@pytest.fixture(scope="module")
def padded_shop(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A shop whose files have white space around every id, brand and profile value."""
    folder, spaces = tmp_path_factory.mktemp("padded"), len(WHITE_SPACE)

    def pad(values: list[str]) -> list[str]:
        return [f"{WHITE_SPACE[i % spaces]}{value}{WHITE_SPACE[-1 - i % spaces]}" for i, value in enumerate(values)]

    ids, users = [f"i{number}" for number in range(60)], [f"u{number}" for number in range(30)]
    brands = ["Acme", "零"] * 30
    items = {"item_id": pad(ids), "title": ["red shoe", "blue lamp"] * 30, "brand": pad(brands)}
    log = {"query": pad(["shoe"] * 300), "item_id": pad(ids * 5), "user_id": pad(users * 10), "timestamp": range(300)}
    pq.write_table(pa.table(items), folder / "items.parquet")
    pq.write_table(pa.table({"user_id": pad(users), "tier": pad(["gold", "銀"] * 15)}), folder / "users.parquet")
    pq.write_table(pa.table({name: list(values) for name, values in log.items()}), folder / "log.parquet")
    tree = {
        "name": "padded",
        "work_dir": str(folder / "work"),
        "data": {
            "items": {"path": str(folder / "items.parquet"), "categorical": ["brand"]},
            "users": {"path": str(folder / "users.parquet"), "profile": ["tier"]},
            "interactions": {"path": str(folder / "log.parquet")},
        },
        "model": {"dimension": 8, "hidden": [16], "history_length": 5},
        "index": {"k": 10},
    }
    config = parse_config(tree, "tests")
    prepare(config, progress=False)
    dataset = Dataset.load(config.dataset_dir)
    model = TwoTower(config.model, dataset.schema, tokenizer=Tokenizer.load(dataset.tokenizer_path))
    vectors = np.random.default_rng(1).normal(size=(60, 8)).astype(np.float32)
    servable = dense_servable(model, dataset, Index.build(vectors, 10, queries=vectors[:0]))
    servable.save(folder / "servable")
    return dataset


def test_the_dataset_has_the_bare_values(padded_shop: Dataset) -> None:
    assert padded_shop.schema.num_items == 60
    assert padded_shop.schema.num_users == 30
    assert padded_shop.query_texts().to_pylist() == ["shoe"]
    assert sorted(padded_shop.vocabularies["items.brand"]) == ["Acme", "零"]
    assert sorted(padded_shop.vocabularies["users.tier"]) == ["gold", "銀"]


@pytest.mark.parametrize("signature", ["filtered", "personalized"])
def test_a_servable_reads_padded_inputs_as_bare_ones(padded_shop: Dataset, signature: str) -> None:
    loaded = tf.saved_model.load(str(padded_shop.directory.parents[1] / "servable"))

    def answers(space: str) -> dict[str, list]:
        def pad(values: list[str]) -> tf.Tensor:
            return tf.constant([f"{space}{value}{space}" for value in values])

        inputs = {"query": pad(["shoe"]), "filter_brand": pad(["零"])}
        if signature == "personalized":
            inputs |= {"tier": pad(["銀"]), "history": pad(["i3", "i4"])[tf.newaxis]}
        return {name: found.numpy().tolist() for name, found in loaded.signatures[signature](**inputs).items()}

    bare = answers("")
    assert bare["shortfall"] == [0]
    assert all(int(item.decode()[1:]) % 2 for item in bare["item_id"][0])
    for space in ["\u3000", "\xa0", "\t \u2003", "\x85"]:
        assert answers(space) == bare
