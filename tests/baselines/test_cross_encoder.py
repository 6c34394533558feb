"""The cross-encoder: sequences, scores against NumPy, gradient, learning, and what it cannot start from."""

from pathlib import Path

import numpy as np
import pytest

from dpsr.baselines.context import BuildContext
from dpsr.baselines.cross_encoder import FROM_NOTHING, CrossEncoder, Start
from dpsr.baselines.examples import anonymous_examples
from dpsr.baselines.fitting.learner import PairTrainingSet
from dpsr.baselines.fitting.negatives import NegativePools
from dpsr.baselines.pair_sequences import pair_sequences
from dpsr.baselines.registry import ENTRIES
from dpsr.data.dataset.schema import INTERACTION, SubwordsSchema
from dpsr.data.dataset.tables import Bags, Dataset
from dpsr.evaluation.compare.evaluate import evaluate
from dpsr.evaluation.measures.judgements import area_under_curve
from dpsr.model.text_encoders.checkpoint_config import PublishedCheckpointError

from ..model.numpy_encoder import last_hidden_states
from ..model.published import BERT, WORDS, XLM_R, random_weights, write_checkpoint
from .coded_shop import CODES, COLOURS, make_shop

SPECIAL = SubwordsSchema(num_ids=100, fingerprint="f", pad=0, unk=1, cls=2, sep=3, mask=4)
ITEMS = ["steel sink", "red hammer", "kitchen sinks steel red", "", "a 1 2 hammer " * 20]
QUERIES = ["sink", "red red hammer", "a " * 60, ""]


def bags(texts: list[list[int]]) -> Bags:
    return Bags(np.array([row for text in texts for row in text], np.int32), np.cumsum([0, *map(len, texts)]))


@pytest.mark.parametrize("length", [5, 6, 9, 40])
def test_the_longer_text_of_a_pair_loses_its_end(length: int) -> None:
    random = np.random.default_rng(length)
    sizes = [(0, 0), (1, 9), (9, 1), (4, 4), (3, 3), (0, 30), (12, 11), (11, 12), (5, 0)]
    queries, items = ([random.integers(5, 100, size[side]).tolist() for size in sizes] for side in (0, 1))
    found = pair_sequences(bags(queries), bags(items), SPECIAL, length)
    for row, (query, item) in enumerate(zip(queries, items, strict=True)):
        query, item = list(query), list(item)
        while len(query) + len(item) + 3 > length:
            (item if len(item) >= len(query) else query).pop()
        place = slice(found.row_splits[row], found.row_splits[row + 1])
        assert found.tokens[place].tolist() == [2, *query, 3, *item, 3]
        assert found.segments[place].tolist() == [0] * (len(query) + 2) + [1] * (len(item) + 1)


def training_set(clicks: list[tuple[int, int]]) -> PairTrainingSet:
    records = np.zeros(len(clicks), INTERACTION)
    records["query"], records["item"] = np.array(clicks).T
    records["event"] = 1
    none = NegativePools(records["query"], [], [records], len(ITEMS))
    return PairTrainingSet(QUERIES, ITEMS, records, none, None, seed=3, similar=none, lists=lambda: None)


def published(folder: Path, family: dict) -> CrossEncoder:
    folder = write_checkpoint(folder, family, random_weights(family))
    return CrossEncoder(training_set([(0, 0)]), Start.from_checkpoint(folder))


def all_scores(scorer: CrossEncoder, queries: list[str] = QUERIES) -> np.ndarray:
    asked = anonymous_examples(np.array(queries, dtype=object), seed=1)
    return scorer.score(asked, np.tile(np.arange(len(ITEMS), dtype=np.int32), (len(queries), 1)))


@pytest.mark.parametrize("family", [BERT, XLM_R], ids=["bert", "xlm-roberta"])
def test_a_score_is_the_layer_over_the_checkpoints_state_of_the_first_token(family: dict, tmp_path: Path) -> None:
    scorer, weights = published(tmp_path, family), random_weights(family)
    # ``write_checkpoint`` writes a second token type of ones; XLM-RoBERTa has one type only.
    item_type = np.ones(8) if family is BERT else weights.type_embedding
    layer = scorer.weights()[-1]
    scores = all_scores(scorer)
    ids = {word: row for row, word in enumerate(WORDS)}
    for query, item, words in [
        (0, 0, "[CLS] sink [SEP] steel sink [SEP]"),
        (1, 2, "[CLS] red red hammer [SEP] kitchen sink ##s steel red [SEP]"),
        (3, 3, "[CLS] [SEP] [SEP]"),
    ]:
        tokens = np.array([ids[word] for word in words.split()])
        segments = np.cumsum(tokens == ids["[SEP]"]) - (tokens == ids["[SEP]"]) > 0
        # A token has a row of its own, so that its type is added to its word.
        rows = weights.words[tokens] + np.where(segments[:, None], item_type - weights.type_embedding, 0.0)
        states = last_hidden_states(np.arange(len(tokens)), weights._replace(words=rows), scorer._encoder.shape)
        assert scores[query, item] == pytest.approx(float(states[-1][0] @ layer), rel=1e-4, abs=1e-6)


def test_a_score_does_not_depend_on_the_other_pairs_and_their_order(tmp_path: Path) -> None:
    scorer = published(tmp_path, BERT)
    scores = all_scores(scorer)
    assert np.unique(scores).size == scores.size
    np.testing.assert_array_equal(all_scores(scorer, QUERIES[::-1]), scores[::-1])
    np.testing.assert_array_equal(all_scores(scorer, [QUERIES[1]] * 3), scores[[1, 1, 1]])
    one = anonymous_examples(np.array([QUERIES[2]], dtype=object), seed=1)
    assert scorer.score(one, np.array([[4]], np.int32)) == scores[2, 4]
    assert scorer.score(one.take(slice(0, 0)), np.zeros((0, 7), np.int32)).shape == (0, 7)


def test_training_raises_the_clicked_item_above_its_negatives(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, BERT, random_weights(BERT))
    start = Start.from_checkpoint(folder)
    plan = start.plan._replace(batch=8, learning_rate=1e-2, round=200, most_rounds=1)
    scorer = CrossEncoder(training_set([(0, 1), (1, 3)]), Start(start.tokenizer, start.transformer, plan))
    before = all_scores(scorer)
    assert not ((before[0].argmax() == 1) and (before[1].argmax() == 3))
    scorer.fit(progress=False)
    after = all_scores(scorer)
    assert after[0].argmax() == 1
    assert after[1].argmax() == 3


def test_a_step_follows_the_gradient_of_the_softmax(tmp_path: Path) -> None:
    """The layer's first step is against the slope of the loss of the scores that ``score`` gives."""
    folder = write_checkpoint(tmp_path, BERT, random_weights(BERT))
    start = Start.from_checkpoint(folder)
    plain = start.transformer.model_copy(update={"dropout": 0.0})
    scorer = CrossEncoder(training_set([(0, 1)]), Start(start.tokenizer, plain, start.plan._replace(negatives=(0, 2))))
    weights, rows = scorer.weights(), [1, 0, 2]

    def loss() -> float:
        scores = all_scores(scorer, QUERIES[:1])[0, rows].astype(np.float64)
        return float(np.log(np.exp(scores).sum()) - scores[0])

    slopes = np.empty(8)
    for place in range(8):
        nudged = [array.copy() for array in weights]
        nudged[-1][place] += 1e-2
        scorer.assign(nudged)
        above = loss()
        nudged[-1][place] -= 2e-2
        scorer.assign(nudged)
        slopes[place] = (above - loss()) / 2e-2
    scorer.assign(weights)
    step = scorer._step(10)
    texts = scorer._subwords([QUERIES[0]]).take(np.zeros(3, int)), scorer._subwords([ITEMS[row] for row in rows])
    pairs = pair_sequences(*texts, scorer._special, scorer._length)
    assert float(step(*pairs, np.zeros(2, np.int64))) == pytest.approx(loss(), rel=1e-5)  # warm-up: the rate is 0
    step(*pairs, np.zeros(2, np.int64))
    moved = scorer.weights()[-1] - weights[-1]
    np.testing.assert_array_equal(np.sign(moved), -np.sign(slopes))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset.load(make_shop(tmp_path_factory.mktemp("coded"), skips=True, subwords=120).dataset_dir)


def test_it_learns_relations_that_only_clicks_contain(dataset: Dataset, tmp_path: Path) -> None:
    def trained() -> CrossEncoder:
        context = BuildContext(dataset, ENTRIES, seed=1, work_dir=tmp_path, progress=False)
        start = Start.from_nothing(context.subwords)
        quick = Start(start.tokenizer, start.transformer, FROM_NOTHING._replace(batch=32, most_rounds=4, lists=50))
        return context.trained(CrossEncoder(context.pair_training_set, quick))

    asked = anonymous_examples(np.array(CODES, dtype=object), seed=1)
    items = np.broadcast_to(np.arange(60, dtype=np.int32), (len(CODES), 60))
    scores = trained().score(asked, items)
    colour = items % len(COLOURS)
    areas = [
        area_under_curve(row, colours == code) for code, (row, colours) in enumerate(zip(scores, colour, strict=True))
    ]
    assert np.mean(areas) > 0.9, areas
    np.testing.assert_array_equal(trained().score(asked, items), scores)  # the weights of the file


def test_weights_of_another_start_are_not_taken(tmp_path: Path) -> None:
    first, second = (
        write_checkpoint(tmp_path / name, BERT, random_weights(BERT, seed)) for seed, name in enumerate("ab")
    )
    data = training_set([(0, 0)])
    settings = [CrossEncoder(data, Start.from_checkpoint(folder)).settings for folder in (first, first, second)]
    assert settings[0] == settings[1] != settings[2]


def test_without_subwords_of_the_dataset_they_are_those_of_the_catalogue(dataset: Dataset, tmp_path: Path) -> None:
    plain = Dataset.load(make_shop(tmp_path, skips=False).dataset_dir)
    assert plain.schema.subwords is None
    contexts = [BuildContext(each, ENTRIES, seed=1, progress=False) for each in (plain, plain, dataset)]
    fingerprints = [context.subwords.fingerprint for context in contexts]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    schema = dataset.schema.subwords
    assert schema is not None
    assert fingerprints[2] == schema.fingerprint
    tokens = contexts[0].subwords.tokens(contexts[0].item_texts[0])
    assert tokens
    assert not contexts[0].missing(ENTRIES["cross-encoder"].needs)


def test_a_folder_without_a_checkpoint_is_an_error_before_anything_is_measured(
    dataset: Dataset, tmp_path: Path
) -> None:
    config = make_shop(tmp_path, skips=False)
    options = config.evaluation.model_copy(update={"checkpoint": str(tmp_path)})
    with pytest.raises(PublishedCheckpointError, match=r"config\.json is missing"):
        evaluate(config.model_copy(update={"evaluation": options}), dataset, None, progress=False)
