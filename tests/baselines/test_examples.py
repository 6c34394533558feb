"""Samples of clicks read in blocks, misspelt queries, and batches of examples."""

import unicodedata
from types import SimpleNamespace

import numpy as np
import pytest

from dpsr.baselines.examples import QueryExamples, load_clicks, make_examples, normalise_query, with_one_typo
from dpsr.data.dataset.schema import CLICK, INTERACTION, SKIP


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


def test_typos_keep_the_click_and_leave_out_texts_of_one_letter() -> None:
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


@pytest.mark.parametrize("at_most", [1, 40, 10_000])
def test_a_sample_does_not_depend_on_the_blocks_that_the_log_is_read_in(at_most: int) -> None:
    records = np.zeros(700, dtype=INTERACTION)
    records["item"] = np.arange(700)
    records["event"] = np.where(np.arange(700) % 3, CLICK, SKIP)
    clicks = records[records["event"] == CLICK]
    found = [
        load_clicks(
            SimpleNamespace(interaction_blocks=lambda _, n=n: np.array_split(records, n)),
            "train",
            at_most=at_most,
            seed=3,
        )
        for n in (1, 7, 700)
    ]
    assert len(found[0]) == min(at_most, len(clicks))
    assert len(set(found[0]["item"].tolist())) == len(found[0])
    assert set(found[0]["item"].tolist()) <= set(clicks["item"].tolist())
    assert found[0]["item"].tolist() == sorted(found[0]["item"].tolist())  # the order of the file
    assert found[0].tolist() == found[1].tolist() == found[2].tolist()


def test_batches_are_the_whole_in_order() -> None:
    examples = examples_of([str(i) for i in range(23)])
    batches = examples.batches(5)
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3]
    assert np.concatenate([batch.texts for batch in batches]).tolist() == examples.texts.tolist()
    assert np.concatenate([batch.tie_keys for batch in batches]).tolist() == examples.tie_keys.tolist()
