"""A lexical index that takes over postings: the bits of one that reads all texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from dpsr.config import LexicalConfig
from dpsr.indexing.catalogue import ItemRows
from dpsr.indexing.lexical.build import TERMS_FILE, EarlierWords, build_lexical
from dpsr.ops_cc.bm25 import Bm25Earlier, Bm25Error, Bm25Field, Bm25Index, build_bm25, document_counts
from dpsr.tokenizer_cc.terms import TermTokenizer

COLUMNS = ("title", "brand")
Item = tuple[str | None, str | None]


def draw(rng: np.random.Generator) -> Item:
    """Words of a skewed distribution, some of them twice; some items have none."""
    words = (80 * rng.random(rng.integers(0, 9)) ** 3).astype(int)
    title = " ".join(f"word{number}" for number in [*words, *words[:2]])
    return (title if rng.random() < 0.9 else None), (f"brand {rng.integers(4)}" if rng.random() < 0.8 else "")


def rows_of(items: list[Item | None]) -> ItemRows:
    columns = {name: pa.array([item and item[field] for item in items]) for field, name in enumerate(COLUMNS)}
    removed = np.flatnonzero([item is None for item in items]).astype(np.int32)
    ids = np.array([str(row) for row in range(len(items))], object)
    return ItemRows(ids, pa.table(columns).cast(pa.schema([(name, pa.string()) for name in COLUMNS])), removed=removed)


def built(
    items: list[Item | None], config: LexicalConfig, folder: Path, earlier: EarlierWords | None = None
) -> tuple[Bm25Index, TermTokenizer]:
    index = build_lexical(rows_of(items), COLUMNS, config, folder, earlier=earlier)
    return index, TermTokenizer.load(folder / TERMS_FILE)


def assert_equal(found: Bm25Index, expected: Bm25Index) -> None:
    for name, mine, theirs in zip(Bm25Index._fields, found, expected, strict=True):
        assert mine.dtype == theirs.dtype, name
        np.testing.assert_array_equal(mine, theirs, err_msg=name)


@pytest.mark.parametrize("weights", [{}, {"title": 2.0}, {"title": 0.3, "brand": 2.7}])
def test_it_has_the_bits_of_an_index_of_all_texts(weights: dict[str, float], tmp_path: Path) -> None:
    """Over a chain of versions: items go, change in place of a tombstone, come back and are added behind."""
    rng = np.random.default_rng(len(weights))
    config = LexicalConfig(k1=0.9, b=0.6, weights=weights)
    base: list[Item] = [draw(rng) for _ in range(700)]
    items: list[Item | None] = [*base]
    index, tokenizer = built(items, config, tmp_path)
    for _ in range(4):
        before = items
        items = [item if rng.random() < 0.9 else None for item in base]
        items += [draw(rng) for _ in range(rng.integers(0, 40))]
        kept = [row for row in range(len(base)) if items[row] is not None and before[row] is not None]
        earlier = EarlierWords(tokenizer, index, np.array(kept, np.int32))
        index, tokenizer = built(items, config, tmp_path, earlier)
        (tmp_path / "all").mkdir(exist_ok=True)
        expected, of_all = built(items, config, tmp_path / "all")
        assert (tmp_path / TERMS_FILE).read_bytes() == (tmp_path / "all" / TERMS_FILE).read_bytes()
        assert tokenizer.num_documents == of_all.num_documents == sum(item is not None for item in items)
        assert_equal(index, expected)


def test_long_lists_are_bitmaps(tmp_path: Path) -> None:
    """A word of every second item: lists that lie in bitmaps, and several ranges."""
    items: list[Item | None] = [("red shoe" if row % 2 else "blue shoe", "") for row in range(40_000)]
    index, tokenizer = built(items, LexicalConfig(), tmp_path)
    now = [*items[:30_000], *[None] * 10_000, *[("green red boot", "x")] * 9]
    earlier = EarlierWords(tokenizer, index, np.arange(30_000, dtype=np.int32))
    found, _ = built(now, LexicalConfig(), tmp_path, earlier)
    assert_equal(found, built(now, LexicalConfig(), tmp_path)[0])


def test_a_document_counts_once_in_all_its_fields(tmp_path: Path) -> None:
    index, tokenizer = built([("red red", "red"), ("blue", "red"), None], LexicalConfig(), tmp_path)
    assert dict(zip(map(tokenizer.text, range(2)), tokenizer.document_frequencies, strict=True)) == {
        "red": 2,
        "blue": 1,
    }
    assert document_counts(index, np.array([False, True, True])).tolist() == [1, 1]


def postings() -> Bm25Index:
    return build_bm25([Bm25Field(np.array([0, 2, 3]), np.array([0, 1, 1]))], 2)


def merged(index: Bm25Index, documents: list[int], terms: list[int]) -> Bm25Index:
    earlier = Bm25Earlier(index, np.array(documents, np.int32), np.array(terms, np.int32))
    return build_bm25([Bm25Field(np.array([0, 0, 0, 1]), np.array([1]))], 2, earlier=earlier)


@pytest.mark.parametrize(
    ("documents", "terms", "error"),
    [
        ([1, 0], [0, 1], r"row 1 of the earlier index is document 0; expected an ascending one below 3, or -1"),
        ([0, 3], [0, 1], r"row 1 of the earlier index is document 3; expected an ascending one below 3, or -1"),
        ([0, 2], [0, 1], r"document 2 has terms, and postings of the earlier index; expected one of them"),
        ([0, 1], [0, 2], r"term 1 is term 2 of the earlier index; expected -1 to 1"),
        ([0], [0, 1], r"documents has shape \[1\]; expected \[2\]"),
        ([0, 1], [0], r"earlier_terms has shape \[1\]; expected \[2\]"),
    ],
)
def test_what_does_not_fit_is_named(documents: list[int], terms: list[int], error: str) -> None:
    with pytest.raises(Bm25Error, match=error):
        merged(postings(), documents, terms)


def test_a_damaged_index_is_refused() -> None:
    index = postings()
    assert merged(index, [0, 1], [0, 1]).list_weights.tolist() == [1, 1]
    for name in ("rows", "term_lists", "list_starts", "entries", "postings"):
        array = np.array(getattr(index, name))
        array.flat[len(array.flat) // 2] = 255
        damaged = index._replace(**{name: array})
        with pytest.raises(Bm25Error, match="damaged"):
            merged(damaged, [0, 1], [0, 1])
        with pytest.raises(tf.errors.InvalidArgumentError, match="damaged"):
            document_counts(damaged, np.ones(2, bool))
