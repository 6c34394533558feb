"""Queries with a slip of the finger, and examples by batches."""

import unicodedata

import numpy as np

from dpsr.baselines.examples import QueryExamples, make_examples, normalise_query, with_one_typo
from dpsr.data.dataset.schema import INTERACTION


def examples_of(texts: list[str]) -> QueryExamples:
    records = np.zeros(len(texts), dtype=INTERACTION)
    records["query"] = np.arange(len(texts))
    records["item"] = np.arange(len(texts)) * 3
    return make_examples(np.array(texts, dtype=object), records, seed=4)


def edit_distance(a: str, b: str) -> int:
    """Damerau's distance (optimal string alignment)."""
    d = np.add.outer(np.arange(len(a) + 1), np.arange(len(b) + 1))
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            d[i, j] = min(d[i - 1, j] + 1, d[i, j - 1] + 1, d[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                d[i, j] = min(d[i, j], d[i - 2, j - 2] + 1)
    return int(d[-1, -1])


def test_a_typo_is_one_edit_that_changes_the_query() -> None:
    texts = ["Call of Duty", "fable 3", "aaaa", "ab", "激安 スマホ", "XBOX-360", "Straße"] * 60
    typos = with_one_typo(examples_of(texts), seed=1)
    assert len(typos) == len(texts)
    for before, after in zip(texts, typos.texts, strict=True):
        assert edit_distance(before, after) == 1, (before, after)
        assert normalise_query(before) != normalise_query(after)


def test_typos_keep_the_click_and_leave_out_what_is_too_short_to_misspell() -> None:
    texts = ["x", "halo", "", "3", "?!", "gears of war"]
    typos = with_one_typo(examples_of(texts), seed=1)
    assert typos.item_rows.tolist() == [3, 15]
    assert typos.tie_keys.tolist() == examples_of(texts).tie_keys[[1, 5]].tolist()


def test_every_kind_of_edit_comes_up() -> None:
    lengths = {len(text) - 7 for text in with_one_typo(examples_of(["skyrims"] * 200), seed=2).texts}
    assert lengths == {-1, 0, 1}
    same_letters = [sorted(t) == sorted("skyrims") for t in with_one_typo(examples_of(["skyrims"] * 200), seed=2).texts]
    assert any(same_letters)
    assert not all(same_letters)


def test_typos_are_a_function_of_the_seed() -> None:
    texts = ["gears of war", "halo reach"] * 20
    first, again, other = (with_one_typo(examples_of(texts), seed=seed).texts.tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_same_query_differs_in_form_case_and_white_space_only() -> None:
    assert normalise_query("  Call OF\tduty ") == "call of duty"
    assert normalise_query(unicodedata.normalize("NFD", "Pokémon")) == normalise_query("POKÉMON")
    assert normalise_query("ｈａｌｏ") == "halo"
    assert normalise_query("halo 3") != normalise_query("halo3")


def test_batches_are_the_whole_in_order() -> None:
    examples = examples_of([str(i) for i in range(23)])
    batches = examples.batches(5)
    assert [len(chunk) for chunk in batches] == [5, 5, 5, 5, 3]
    assert np.concatenate([chunk.texts for chunk in batches]).tolist() == examples.texts.tolist()
    assert np.concatenate([chunk.tie_keys for chunk in batches]).tolist() == examples.tie_keys.tolist()
