"""Servables of towers of another make: their answers are those of exact search in NumPy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tf_keras

from dpsr.config import ConfigError
from dpsr.indexing.dense.exact import exact_search
from dpsr.indexing.errors import ExportError
from dpsr.indexing.manifest import read_manifest, searcher_table
from dpsr.indexing.towers import export_towers
from dpsr.ops_cc import library
from dpsr.serving.client import PredictClient

ITEMS, K, D = 60, 10, 8
WORDS = ["red", "green", "blue", "shoe", "lamp", "phone", "case", "milk"]
GENRES = ["drama", "comedy", "crime"]


def phrases(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, 3)) for _ in range(count)]


def items_table(ids: list[Any] | None = None) -> pa.Table:
    rng = np.random.default_rng(4)
    return pa.table(
        {
            "item_id": ids or [f"sku-{number}" for number in range(ITEMS)],
            "title": phrases(ITEMS, 1),
            "genre": pa.array(rng.choice(GENRES, ITEMS).tolist()).dictionary_encode(),
            "year": rng.integers(1950, 2020, ITEMS),
        }
    )


def text_tower(dimension: int = D, outputs: int | None = None) -> tf_keras.Model:
    """Words of a text -> a vector, of any length; a tower with one string input."""
    tf_keras.utils.set_random_seed(5)
    layers = [
        tf_keras.layers.TextVectorization(vocabulary=WORDS, output_sequence_length=4),
        tf_keras.layers.Embedding(len(WORDS) + 2, 2 * dimension),
        tf_keras.layers.GlobalAveragePooling1D(),
        tf_keras.layers.Dense(outputs or dimension),
    ]
    return tf_keras.Sequential(layers)


class UserTower(tf_keras.Model):
    """A dict of a user id, an age and the words of a query; two heads."""

    def __init__(self) -> None:
        super().__init__()
        tf_keras.utils.set_random_seed(6)
        self.words = text_tower(D, 2 * D)
        self.users = tf_keras.layers.Embedding(20, 2 * D)
        self.unused = tf_keras.layers.Dense(1000)
        self.unused.build([None, 1000])

    def call(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        both = self.words(inputs["words"]) + 5.0 * self.users(inputs["user_id"]) + inputs["age"][:, tf.newaxis]
        return tf.reshape(both, [-1, 2, D])


USERS = {
    "user_id": [3, 1, 4, 1, 5],
    "age": np.array([0.1, 0.2, -3.0, 0.5, 7.0]),
    "words": phrases(5, 9),
}
TEXTS = ["red shoe", "blue milk lamp", "", "unheard of"]


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Of any length, 0.1 to 30."""
    rng = np.random.default_rng(2)
    return (rng.standard_normal((ITEMS, D)) * np.exp(rng.uniform(-2, 3, (ITEMS, 1)))).astype(np.float32)


def loaded(version: Path) -> Any:
    library.load_all()
    return tf.saved_model.load(str(version))


def ask(servable: Any, signature: str = "serving_default", **inputs: Any) -> dict[str, np.ndarray]:
    answer = servable.signatures[signature](**{name: tf.constant(values) for name, values in inputs.items()})
    return {name: tensor.numpy() for name, tensor in answer.items()}


def assert_exact(answer: dict[str, np.ndarray], ids: list[Any], vectors: np.ndarray, heads: np.ndarray) -> None:
    rows, scores = exact_search(vectors, heads, answer["score"].shape[1])
    np.testing.assert_allclose(answer["score"], scores, rtol=1e-4, atol=1e-4)
    wanted = [[item.encode() if isinstance(item, str) else item for item in np.array(ids, object)[of]] for of in rows]
    assert answer["item_id"].tolist() == wanted
    found = np.einsum("bmd,bkd->bkm", heads, vectors[rows])
    assert answer["head"].tolist() == found.argmax(axis=2).tolist()


def test_precomputed_vectors_of_a_text_tower(vectors: np.ndarray, tmp_path: Path) -> None:
    base, tower = tmp_path / "movies", text_tower()
    version = export_towers(
        tower,
        items_table(),
        base_path=base,
        queries=TEXTS,
        item_vectors=vectors.astype(np.float64),
        k=K,
        progress=False,
    )
    assert version == base / "1"
    servable = loaded(version)
    assert set(servable.signatures) == {"serving_default", "embed_query"}
    heads = tower(tf.constant(TEXTS)).numpy()[:, np.newaxis]
    np.testing.assert_allclose(ask(servable, "embed_query", query=TEXTS)["heads"], heads, atol=1e-5)
    assert_exact(ask(servable, query=TEXTS), items_table()["item_id"].to_pylist(), vectors, heads)
    manifest = read_manifest(version)
    assert manifest["name"] == "movies"
    assert manifest["items"] == ITEMS
    assert (manifest["heads"], manifest["dimension"], manifest["item_id_type"]) == (1, D, "string")
    assert manifest["inputs"] == {"query": "string [None]"}
    assert manifest["searchers"]["dense"]["recall"] == {"serving_default": 1.0, "queries": len(TEXTS)}
    assert "1.0000" in searcher_table(version)


def test_two_heads_of_a_dict_of_inputs_with_filters(vectors: np.ndarray, tmp_path: Path) -> None:
    """Ids are integers; the optimiser and layers that no call reads stay behind."""
    tower, ids = UserTower(), list(range(1000, 1000 + ITEMS))
    pq.write_table(items_table(ids), tmp_path / "items.parquet")
    version = export_towers(
        tower,
        tmp_path / "items.parquet",
        base_path=tmp_path / "users",
        queries=USERS,
        item_vectors=vectors,
        filters=["genre"],
        filter_range=["year"],
        k=K,
        progress=False,
    )
    inputs = {**USERS, "user_id": np.array(USERS["user_id"], np.int64), "age": USERS["age"].astype(np.float32)}
    heads = tower({name: tf.constant(values) for name, values in inputs.items()}).numpy()
    servable = loaded(version)
    assert_exact(ask(servable, **inputs), ids, vectors, heads)
    table = items_table(ids)
    rows = np.flatnonzero((np.array(table["genre"].to_pylist()) == "crime") & (table["year"].to_numpy() >= 1980))
    assert 3 < len(rows) < ITEMS
    filters = {"filter_genre": ["crime"], "filter_min_year": [1980.0], "filter_max_year": [np.inf]}
    answer = ask(servable, "filtered", **inputs, **filters)
    count = min(K, len(rows))
    assert answer["shortfall"].tolist() == [K - count] * len(heads)
    answer = {name: values[:, :count] for name, values in answer.items() if name != "shortfall"}
    assert_exact(answer, np.array(ids)[rows].tolist(), vectors[rows], heads)
    names = [variable.name for variable in servable._query_model_resources if isinstance(variable, tf.Variable)]
    assert len(names) == 4, names
    size = sum(path.stat().st_size for path in (version / "variables").iterdir())
    assert size < 1_000_000  # the unused layer has 4 MB


def test_words_and_vectors_joined_by_ranks(vectors: np.ndarray, tmp_path: Path) -> None:
    base = tmp_path / "users"
    version = export_towers(
        UserTower(),
        items_table(),
        base_path=base,
        queries=USERS,
        item_vectors=vectors,
        text=["title"],
        text_input="words",
        filters=["genre"],
        k=K,
        progress=False,
    )
    servable = loaded(version)
    inputs = {**USERS, "user_id": np.array(USERS["user_id"], np.int64), "age": USERS["age"].astype(np.float32)}
    lists = {mode: ask(servable, **inputs, mode=[mode]) for mode in ("dense", "lexical", "hybrid", "")}
    titles = dict(zip(items_table()["item_id"].to_pylist(), items_table()["title"].to_pylist(), strict=True))
    for row, words in enumerate(USERS["words"]):
        ranks: dict[bytes, float] = {}
        for mode in ("dense", "lexical"):
            for rank, item in enumerate(lists[mode]["item_id"][row]):
                if item:
                    ranks[item] = ranks.get(item, 0.0) + 1.0 / (60 + rank + 1)
        best = sorted(ranks.values(), reverse=True)[:K]
        np.testing.assert_allclose(lists["hybrid"]["score"][row], best, rtol=1e-5)
        for item in lists["lexical"]["item_id"][row]:
            assert not item or set(titles[item.decode()].split()) & set(words.split())
    assert lists[""]["item_id"].tolist() == lists["hybrid"]["item_id"].tolist()
    fusion = read_manifest(version)["fusion"]
    assert fusion == {
        "kind": "reciprocal_ranks",
        "dense_weight": 1.0,
        "mode": "hybrid",
        "clicks": 0,
        "ndcg": {},
    }


def test_clicked_items_choose_the_fusion(vectors: np.ndarray, tmp_path: Path) -> None:
    """Each query is the title of its item, which vectors drawn at random know nothing of."""
    table = items_table()
    clicked = [f"sku-{number}" for number in range(0, ITEMS, 2)]
    queries = table["title"].to_pylist()[::2]
    version = export_towers(
        text_tower(),
        table,
        base_path=tmp_path / "movies",
        queries=queries,
        item_vectors=vectors,
        text=["title"],
        clicked=[*clicked[:-1], "no such item"],
        k=K,
        progress=False,
    )
    fusion = read_manifest(version)["fusion"]
    assert fusion["clicks"] == len(clicked) - 1
    ranks = fusion["ndcg"]
    assert ranks["lexical"] > 2 * ranks["dense"]
    assert max(ranks.values()) == ranks[fusion["mode"] if fusion["mode"] in ranks else fusion["kind"]]


@pytest.mark.parametrize(("count", "tuned_on"), [(300, "queries"), (40, "perturbed item vectors")])
def test_an_approximate_index_is_tuned_on_queries_or_else_on_items(count: int, tuned_on: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((2000, D)).astype(np.float32)
    vectors *= np.exp(rng.uniform(-1, 2, (2000, 1))).astype(np.float32)
    tower = tf_keras.Sequential([tf_keras.layers.Dense(D, use_bias=False)])
    version = export_towers(
        tower,
        pa.table({"item_id": np.arange(2000)}),
        base_path=tmp_path / "points",
        queries=rng.standard_normal((count, 5)),
        input_name="point",
        item_vectors=vectors,
        exact_below=0,
        k=K,
        progress=False,
    )
    manifest = read_manifest(version)
    assert manifest["index_tuned_on"] == tuned_on
    assert manifest["inputs"] == {"point": "float32 [None, 5]"}
    assert manifest["searchers"]["dense"]["kind"] == "hashed"
    assert 0.95 <= manifest["searchers"]["dense"]["recall"]["serving_default"] <= 1.0


def test_a_keras_3_model_and_one_that_was_saved_before(vectors: np.ndarray, tmp_path: Path) -> None:
    keras = pytest.importorskip("keras", minversion="3")
    lookup = keras.layers.StringLookup(vocabulary=["ann", "bob"])
    tower = keras.Sequential([lookup, keras.layers.Embedding(3, D)])
    users = ["ann", "bob", "eve"]
    heads = np.asarray(tower(tf.constant(users)))[:, np.newaxis]
    options = {"queries": users, "item_vectors": vectors, "input_name": "user", "k": K, "progress": False}
    ids = items_table()["item_id"].to_pylist()
    version = export_towers(tower, items_table(), base_path=tmp_path / "three", **options)
    assert_exact(ask(loaded(version), user=users), ids, vectors, heads)
    two = tf_keras.Sequential(
        [tf_keras.layers.StringLookup(vocabulary=["ann", "bob"]), tf_keras.layers.Embedding(3, D)]
    )
    heads = two(tf.constant(users)).numpy()[:, np.newaxis]
    two.save(tmp_path / "saved", save_format="tf")
    version = export_towers(
        tf.saved_model.load(tmp_path / "saved"), items_table(), base_path=tmp_path / "two", **options
    )
    assert_exact(ask(loaded(version), user=users), ids, vectors, heads)


def retrieval(users: list[str], titles: list[str]) -> Any:
    tfrs = pytest.importorskip("tensorflow_recommenders", reason="the extra tfrs is not installed")

    class Movies(tfrs.models.Model):
        def __init__(self) -> None:
            super().__init__()
            tf_keras.utils.set_random_seed(1)
            self.user_model, self.movie_model = (
                tf_keras.Sequential(
                    [tf_keras.layers.StringLookup(vocabulary=known), tf_keras.layers.Embedding(len(known) + 1, D)]
                )
                for known in (users, titles)
            )
            self.task = tfrs.tasks.Retrieval()

        def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
            return self.task(self.user_model(features["user"]), self.movie_model(features["title"]))

    return Movies()


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Starts ``dpsr serve`` on versions; gives its address."""
    started = []

    def start(base: Path) -> str:
        config = base.parent / "models.config"
        config.write_text(f'model_config_list {{ config {{ name: "{base.name}" base_path: "{base}" }} }}')
        command = [sys.executable, "-m", "dpsr.cli", "serve", "--model-config-file", str(config)]
        command += ["--set", "serving.port=0", "--set", "serving.rest_port=-1"]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)))
        line = started[-1].stdout.readline()
        assert line.startswith(f"ready: {base.name} version 1 on "), line
        return line.split()[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_trained_tfrs_model_behind_a_real_server(serve: Callable[[Path], str], tmp_path: Path) -> None:
    users = [f"user-{number}" for number in range(30)]
    titles = [f"movie {number}" for number in range(ITEMS)]
    model = retrieval(users, titles)
    rng = np.random.default_rng(1)
    who = rng.integers(len(users), size=2000)
    seen = {"user": np.array(users)[who], "title": np.array(titles)[2 * who + rng.integers(2, size=2000)]}
    model.compile(optimizer=tf_keras.optimizers.Adagrad(0.5))
    data = tf.data.Dataset.from_tensor_slices(seen).batch(100)
    history = model.fit(data, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    base = tmp_path / "movies"
    export_towers(
        model.user_model,
        pa.table({"movie": titles}),
        base_path=base,
        queries=users,
        candidate_model=model.movie_model,
        candidate_columns="movie",
        id_column="movie",
        input_name="user",
        k=2,
        progress=False,
    )
    with PredictClient(serve(base)) as client:
        answer = client.predict("movies", {"user": users})
    heads = model.user_model(tf.constant(users)).numpy()[:, np.newaxis]
    assert_exact(answer, titles, model.movie_model(tf.constant(titles)).numpy(), heads)
    layers = pytest.importorskip("tensorflow_recommenders").layers
    stock = layers.factorized_top_k.BruteForce(model.user_model, k=2)
    stock.index(model.movie_model(tf.constant(titles)), tf.constant(titles))
    assert stock(tf.constant(users))[1].numpy().tolist() == answer["item_id"].tolist()
    watched = [{f"movie {2 * user}".encode(), f"movie {2 * user + 1}".encode()} for user in range(len(users))]
    hits = np.mean([set(found) == own for found, own in zip(answer["item_id"].tolist(), watched, strict=True)])
    assert hits > 0.9


def test_the_example_runs(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_recommenders", reason="the extra tfrs is not installed")
    example = Path(__file__).parents[2] / "examples/tfrs_towers.py"
    done = subprocess.run([sys.executable, str(example), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    _, liked, westerns, words = done.stdout.split("\nuser-0")
    genres = liked.splitlines()[0].removeprefix(" likes ").split(" and ")
    assert [line.split()[1] in genres for line in liked.splitlines()[1:6]] == [True] * 5
    assert [line.split()[1] for line in westerns.splitlines()[1:6]] == ["western"] * 5
    assert "Winter" in words or "Vienna" in words


def columns_tower(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
    return tf.stack([tf.cast(inputs["year"], tf.float32), tf.strings.to_number(inputs["rank"])], axis=1)


@pytest.mark.parametrize("library_of_table", ["pyarrow", "pandas"])
def test_a_candidate_model_of_several_columns(library_of_table: str, tmp_path: Path) -> None:
    columns = {"item_id": [5, 6, 7], "year": [1, 2, 3], "rank": ["3", "1", "2"]}
    items = pa.table(columns)
    if library_of_table == "pandas":
        items = pytest.importorskip("pandas", reason="pandas is not installed").DataFrame(columns)
    version = export_towers(
        tf_keras.Sequential([tf_keras.layers.Lambda(lambda x: x)]),
        items,
        base_path=tmp_path / "columns",
        queries=[[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]],
        candidate_model=columns_tower,
        candidate_columns=["year", "rank"],
        progress=False,
    )
    answer = ask(loaded(version), query=np.array([[1, 0], [0, 1], [-1, -1]], np.float32))
    assert answer["item_id"].tolist() == [[7, 6, 5], [5, 7, 6], [6, 5, 7]]
    assert answer["score"].tolist() == [[3, 2, 1], [3, 2, 1], [-3, -4, -5]]


HIDDEN: dict[str, tf.Variable] = {}


class Unsaveable(tf.Module):
    """Reads a variable that is not its own."""

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        return tf.ones([tf.size(texts), D]) * HIDDEN["scale"]


def in_python(texts: tf.Tensor) -> tf.Tensor:
    """A vector by a function that no other process has."""
    return tf.ensure_shape(tf.py_function(lambda given: tf.ones([len(given), D]), [texts], tf.float32), [None, D])


def bad(name: str, good: np.ndarray) -> dict[str, Any]:
    """The arguments of an export that has to fail."""
    table, one = items_table(), good.copy()
    one[7, 3] = np.nan
    infinite = good.astype(np.float64)
    infinite[2, 2] = 1e300
    blank = table.set_column(1, "title", pa.array(["", None, " !! "] * (ITEMS // 3)))
    missing = table.set_column(0, "item_id", pa.array(["a", None, *(str(n) for n in range(ITEMS - 2))]))
    doubled = table.set_column(0, "item_id", pa.array(["a", "a", *(str(n) for n in range(ITEMS - 2))]))
    minus = table.set_column(0, "item_id", pa.array([-1, *range(ITEMS - 1)]))
    holes = table.append_column("hole", pa.array([None] + ["x"] * (ITEMS - 1)))
    nested = table.append_column("tags", pa.array([["x"]] * ITEMS))
    flat = tf_keras.Sequential([tf_keras.layers.Lambda(lambda texts: tf.strings.length(texts))])
    double = tf_keras.Sequential([tf_keras.layers.Lambda(lambda texts: tf.ones([tf.size(texts), D], tf.float64))])
    nan = tf_keras.Sequential([tf_keras.layers.Lambda(lambda texts: tf.fill([tf.size(texts), D], np.nan))])
    python = tf_keras.Sequential([tf_keras.layers.Lambda(in_python)])
    return {
        "width": {"item_vectors": good[:, :5]},
        "number": {"item_vectors": good[1:]},
        "nan": {"item_vectors": one},
        "infinite": {"item_vectors": infinite},
        "matrix": {"item_vectors": good[0]},
        "neither": {"item_vectors": None},
        "missing id": {"items": missing},
        "doubled id": {"items": doubled},
        "id of nothing": {"items": minus},
        "no items": {"items": table.slice(0, 0), "item_vectors": good[:0]},
        "no table": {"items": 7},
        "no file": {"items": "/nowhere/items.parquet"},
        "column": {"filters": ["colour"]},
        "nested": {"items": nested, "filters": ["tags"]},
        "range": {"filter_range": ["title"]},
        "blank": {"items": blank, "text": ["title"]},
        "collision": {"input_name": "filter_genre"},
        "name": {"input_name": "user id"},
        "rank": {"query_model": flat},
        "type": {"query_model": double},
        "call": {"queries": {"words": [1, 2]}},
        "nan query": {"query_model": nan},
        "python": {"query_model": python},
        "function": {"query_model": lambda texts: texts},
        "unsaveable": {"query_model": Unsaveable()},
        "lengths": {"queries": {"a": ["x"], "b": ["x", "y"]}},
        "no queries": {"queries": []},
        "ragged": {"queries": [["x"], ["y", "z"]]},
        "text input": {"text": ["title"], "text_input": "word"},
        "text input without text": {"text_input": "query"},
        "clicked": {"text": ["title"], "clicked": ["x"] * len(TEXTS)},
        "clicks": {"text": ["title"], "clicked": ["x"]},
        "hole": {"items": holes, "item_vectors": None, "candidate_model": text_tower(), "candidate_columns": "hole"},
        "candidate": {"item_vectors": None, "candidate_model": text_tower(), "candidate_columns": ["title"]},
    }[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("width", r"item_vectors: vectors of items have 5 dimensions, those of the query model 8"),
        ("number", r"item_vectors: found 59 vectors for 60 items \(items\); expected one for each item"),
        ("nan", r"the vectors of 1 items are NaN or infinite in float32, the first one that of item 'sku-7'"),
        ("infinite", r"the vectors of 1 items are NaN or infinite in float32, the first one that of item 'sku-2'"),
        ("matrix", r"item_vectors: found float32 \[8\]; expected numbers \[items, d\]"),
        ("neither", "expected item_vectors, or candidate_model"),
        ("missing id", r"items: 1 items have no id in column 'item_id', the first one in row 1"),
        ("doubled id", r"items: column 'item_id' has id 'a' 2 times"),
        ("id of nothing", r"column 'item_id' has id -1, which stands for no item"),
        ("no items", "items: has no items"),
        ("no table", "items are int .*expected a pyarrow table"),
        ("no file", r"/nowhere/items.parquet: cannot be read as Parquet"),
        ("column", r"items: column 'colour', which filters names, is missing \(found: item_id, title, genre, year\)"),
        ("nested", r"items: column 'tags' is list<.*expected one string or number"),
        ("range", "column 'title' holds no numbers"),
        ("blank", "no item has a word in title"),
        ("collision", "input 'filter_genre' would collide"),
        ("name", "input 'user id' cannot be named so in a signature"),
        ("rank", r"the query model returns int32 \[2\] for 2 queries; expected a tensor float32 \[2, d\]"),
        ("type", r"the query model returns float64 \[2, 8\] for 2 queries"),
        ("call", r"the query model cannot be called with words int64 \(2,\) as a dict; give `queries`"),
        ("nan query", r"the query model gives NaN or infinite numbers for query 0 of 4"),
        ("python", "does not load or answer in a fresh process"),
        ("function", "the query model is function, which TensorFlow cannot save"),
        ("unsaveable", "the query model cannot be saved; nothing was published: .*untracked"),
        ("lengths", r"queries: expected as many examples of every input \(found: {'a': 1, 'b': 2}\)"),
        ("no queries", "queries: expected at least one example"),
        ("ragged", "queries: input 'query' is no array"),
        ("text input", r"text_input = 'word': expected the input of strings .*\(found in queries: query object \[4\]"),
        ("text input without text", "text_input is of a search by words"),
        ("clicked", r"clicked: no id is one of the items \(found: 'x', ...; items: 'sku-0'"),
        ("clicks", "clicked: found 1 ids for 4 queries"),
        ("hole", "column 'hole' misses 1 values, and the candidate model reads it"),
        ("candidate", r"the candidate model cannot be called with \['title'\] of the items"),
    ],
)
def test_what_cannot_be_published_is_named_and_changes_nothing(
    name: str, message: str, vectors: np.ndarray, tmp_path: Path
) -> None:
    HIDDEN["scale"] = tf.Variable(1.0)
    base = tmp_path / "movies"
    (base / "1").mkdir(parents=True)
    good = {
        "query_model": text_tower(),
        "items": items_table(),
        "queries": TEXTS,
        "item_vectors": vectors,
        "progress": False,
    }
    arguments = good | bad(name, vectors)
    with pytest.raises(ExportError, match=message):
        export_towers(arguments.pop("query_model"), arguments.pop("items"), base_path=base, **arguments)
    assert [path.name for path in base.iterdir()] == ["1"]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"k": 0}, "index.k = 0"),
        ({"leaves": 3}, "unknown key index.leaves"),
        ({"mode": "hybrid"}, 'mode = "hybrid"'),
        ({"mode": "lexical"}, 'mode = "lexical"'),
        ({"memory": {}}, "memory is of the log that dpsr has prepared"),
        ({"lexical": {"popularity": 0.5}}, "lexical.popularity is of the log that dpsr has prepared"),
        ({"text_encoder_precision": "int8"}, "text_encoder_precision is of towers that dpsr has trained"),
    ],
)
def test_keys_of_the_index_are_checked(
    index: dict[str, Any], message: str, vectors: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        export_towers(text_tower(), items_table(), base_path=tmp_path, queries=TEXTS, item_vectors=vectors, **index)
