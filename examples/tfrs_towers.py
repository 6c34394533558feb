"""A retrieval model of TensorFlow Recommenders behind `dpsr serve`: trained, exported and asked in under a minute.

    pip install '.[tfrs]'
    python examples/tfrs_towers.py [FOLDER]

Users like two of six genres; half of what they watch is of these. The user tower reads a user's id, the movie tower
title and genre. The servable answers the best movies of a user, by the words of a request and under filters too.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # before TensorFlow is imported: TensorFlow Recommenders asks for Keras 2
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import pyarrow as pa
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from dpsr.indexing.towers import export_towers
from dpsr.serving.client import PredictClient

GENRES = ["comedy", "crime", "documentary", "drama", "horror", "western"]
PLACES = ["Vienna", "the Harbour", "Winter", "the Desert", "a Small Town", "Paris", "the North", "Midnight"]
PEOPLE = ["The Baker", "Two Sisters", "A Stranger", "The Judge", "Lena", "The Band", "Old Friends", "The Captain"]
USERS, WATCHED, DIMENSION = 300, 40, 32


def generated_movies() -> pa.Table:
    """A movie of every pair of people and places: title, genre and year."""
    rng = np.random.default_rng(1)
    titles = [f"{people} of {place}" for people in PEOPLE for place in PLACES] * 5
    titles = [f"{title} {part}" for part, title in enumerate(titles, 1)]
    genres, years = rng.choice(GENRES, len(titles)), rng.integers(1950, 2025, len(titles))
    return pa.table({"movie_id": np.arange(1, len(titles) + 1), "title": titles, "genre": genres, "year": years})


def generated_log(movies: pa.Table) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """What users watched, by column, and the two genres that every user likes."""
    rng = np.random.default_rng(2)
    titles, genres = (np.array(movies[name].to_pylist()) for name in ("title", "genre"))
    likes = {f"user-{number}": rng.choice(GENRES, 2, replace=False).tolist() for number in range(USERS)}
    rows = []
    for user, liked in likes.items():
        known = rng.choice(np.flatnonzero(np.isin(genres, liked)), WATCHED // 2)
        rows += [(user, row) for row in [*known, *rng.integers(len(titles), size=WATCHED - len(known))]]
    users, watched = zip(*rows, strict=True)
    return {"user_id": np.array(users), "title": titles[list(watched)], "genre": genres[list(watched)]}, likes


class MovieTower(tf_keras.Model):
    """Title and genre of movies -> float32 [B, DIMENSION]."""

    def __init__(self, titles: list[str]) -> None:
        """Makes an embedding of every title and every genre."""
        super().__init__()
        self.titles = embedding_of(titles)
        self.genres = embedding_of(GENRES)

    def call(self, movies: dict[str, tf.Tensor]) -> tf.Tensor:
        """Adds the two."""
        return self.titles(movies["title"]) + self.genres(movies["genre"])


class Movielens(tfrs.models.Model):
    """The retrieval model of TensorFlow Recommenders' tutorial."""

    def __init__(self, users: list[str], titles: list[str]) -> None:
        """Makes both towers and the task."""
        super().__init__()
        self.user_model = embedding_of(users)
        self.movie_model = MovieTower(titles)
        self.task = tfrs.tasks.Retrieval()

    def compute_loss(self, watched: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Cross-entropy among the movies of a batch."""
        return self.task(self.user_model(watched["user_id"]), self.movie_model(watched))


def embedding_of(values: list[str]) -> tf_keras.Model:
    """A vector of every value, and one of all others."""
    lookup = tf_keras.layers.StringLookup(vocabulary=values)
    return tf_keras.Sequential([lookup, tf_keras.layers.Embedding(len(values) + 1, DIMENSION)])


class Towers(tf.Module):
    """The user tower as it is served: of a dict, so that a request may hold words beside the user."""

    def __init__(self, user_model: tf_keras.Model) -> None:
        """Takes the trained tower."""
        super().__init__()
        self.user_model = user_model

    def __call__(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """The vectors of users; the words are for the lexical searcher."""
        return self.user_model(inputs["user_id"])


def show(title: str, answer: dict[str, np.ndarray], movies: pa.Table) -> None:
    """Prints the movies of the first row."""
    print(f"\n{title}")
    rows = {movie["movie_id"]: movie for movie in movies.to_pylist()}
    for item, score in zip(answer["item_id"][0].tolist(), answer["score"][0].tolist(), strict=True):
        if item >= 0:
            movie = rows[item]
            print(f"  {score:6.3f}  {movie['genre']:<12} {movie['year']}  {movie['title']}")


def main(folder: Path) -> None:
    """Trains, exports, serves and asks."""
    tf_keras.utils.set_random_seed(3)
    movies = generated_movies()
    log, likes = generated_log(movies)
    model = Movielens(list(likes), movies["title"].to_pylist())
    model.compile(optimizer=tf_keras.optimizers.Adagrad(0.3))
    batches = tf.data.Dataset.from_tensor_slices(log).shuffle(20_000, seed=4).batch(512)
    model.fit(batches, epochs=8, verbose=2)

    users = list(likes)[:256]
    version = export_towers(
        Towers(model.user_model),
        movies,
        base_path=folder / "movies",
        id_column="movie_id",
        queries={"user_id": users, "words": [""] * len(users)},
        candidate_model=model.movie_model,
        candidate_columns=["title", "genre"],
        text=["title"],
        text_input="words",
        filters=["genre"],
        filter_range=["year"],
        k=5,
    )
    print(f"published: {version}")

    (folder / "models.config").write_text(
        f'model_config_list {{ config {{ name: "movies" base_path: "{folder}/movies" }} }}'
    )
    command = [sys.executable, "-m", "dpsr.cli", "serve", "--model-config-file", str(folder / "models.config")]
    command += ["--set", "serving.port=0", "--set", "serving.rest_port=-1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            ready = server.stdout.readline()
            print(ready.strip())
            with PredictClient(ready.split()[-1]) as client:
                user = {"user_id": [users[0]], "words": [""], "mode": ["dense"]}
                show(f"{users[0]} likes {' and '.join(likes[users[0]])}", client.predict("movies", user), movies)
                recent = user | {"filter_genre": ["western"], "filter_min_year": [2000.0]}
                answer = client.predict("movies", recent, signature="filtered")
                show(f"{users[0]}, westerns since 2000", answer, movies)
                words = user | {"words": ["winter in vienna"], "mode": ["hybrid"]}
                show(f"{users[0]}, winter in vienna", client.predict("movies", words), movies)
        finally:
            server.terminate()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
