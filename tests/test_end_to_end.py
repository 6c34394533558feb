"""The promise of the README: from a log to answered Predict calls, through the command line and real processes."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsr.config import Config, load_config
from dpsr.serving import READY_PREFIX

ROOT = Path(__file__).resolve().parent.parent


def dpsr(*arguments: str, expect: int = 0) -> str:
    """Runs one ``dpsr`` command in a process of its own and returns what it printed."""
    command = [sys.executable, "-m", "dpsr.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The arguments that configure a small shop, prepared, trained, evaluated and exported."""
    work = tmp_path_factory.mktemp("shop")
    dpsr("demo-shop", "--out", str(work / "shop"), "--items", "1000", "--users", "400", "--clicks", "30000")
    arguments = ["-c", str(ROOT / "examples" / "demo_shop.toml"), "--set", f"work_dir={work}"]
    for name in ("items", "users", "interactions"):
        arguments += ["--set", f"data.{name}.path={work / 'shop' / name}.parquet"]
    arguments += ["--set", "evaluation.max_examples=2000"]
    arguments += ["--set", "serving.port=0", "--set", "serving.rest_port=0"]
    dpsr("prepare", *arguments)
    dpsr("train", *arguments)
    dpsr("evaluate", *arguments)
    dpsr("export", *arguments)
    return arguments


@pytest.fixture(scope="module")
def config(shop: list[str]) -> Config:
    return load_config(shop[1], [value for flag, value in zip(shop[2::2], shop[3::2], strict=True) if flag == "--set"])


@pytest.fixture(scope="module")
def target(shop: list[str]) -> Iterator[str]:
    """A real server process; stopped by SIGTERM, after which it must have ended cleanly."""
    command = [sys.executable, "-m", "dpsr.cli", "serve", *shop]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    address = next(line.split()[-1] for line in process.stdout if line.startswith(READY_PREFIX))
    yield address
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0


def test_the_model_beats_bm25_in_top_1(config: Config) -> None:
    report = json.loads((Path(config.work_dir) / "evaluation" / "metrics.json").read_text())
    top_1 = {name: values["top_1"] for name, values in report["retrievers"].items()}
    assert top_1["dpsr"] > top_1["bm25"] > top_1["popularity"]


def test_search_prints_items_for_every_query(shop: list[str], target: str) -> None:
    output = dpsr("search", *shop, "--target", target, "-k", "3", "phone", "milk powder")
    assert "phone" in output
    assert len([line for line in output.splitlines() if line[:2].strip().isdigit()]) == 6


def test_a_misspelt_query_finds_what_the_right_one_finds(config: Config, target: str) -> None:
    from dpsr.data.demo_shop.shop import SHOWCASE_TYPO
    from dpsr.serving.client import PredictClient

    misspelt, right = SHOWCASE_TYPO
    with PredictClient(target) as client:
        items = client.predict(config.name, {"query": [right, misspelt]})["item_id"]
    best = items[0, 0]
    assert best in items[1, :10]


def test_answers_are_the_servables_own(config: Config, target: str) -> None:
    """The server's answer equals the loaded SavedModel's, for the plain and the personalized signature."""
    from dpsr.data.dataset.tables import Dataset
    from dpsr.serving.client import PredictClient

    dataset = Dataset.load(config.dataset_dir)
    queries = dataset.query_texts().to_pylist()[:5]
    with PredictClient(target) as client:
        plain = client.predict(config.name, {"query": queries})
        inputs: dict[str, object] = {"query": queries}
        inputs |= {column: [""] * len(queries) for column in dataset.schema.profile}
        inputs["history"] = np.zeros((len(queries), 0), dtype=object)
        unknown = client.predict(config.name, inputs, signature="personalized")
        vectors = client.predict(config.name, {"query": queries}, signature="embed_query")["heads"]
    np.testing.assert_array_equal(plain["item_id"], unknown["item_id"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0, rtol=1e-5)
    assert plain["item_id"].shape == plain["score"].shape == plain["head"].shape
    assert (np.diff(plain["score"], axis=1) <= 0).all()


def test_ids_are_the_same_offline_and_online(config: Config, target: str) -> None:
    from dpsr.serving.client import PredictClient
    from dpsr.tokenizer_cc import Tokenizer

    texts = ["iPhone 15 Pro", "ＦＵＬＬ width", "手机 128gb", "", "naïve café", "\U0001f600 ok"]
    values, row_splits = Tokenizer.load(config.dataset_dir / "tokenizer.model").encode_batch(texts)
    with PredictClient(target) as client:
        answer = client.predict(config.name, {"query": texts}, signature="tokenize")
    np.testing.assert_array_equal(answer["values"], values)
    np.testing.assert_array_equal(answer["row_splits"], row_splits)


def test_another_catalogue_becomes_the_next_version(shop: list[str], config: Config, tmp_path: Path) -> None:
    items = pq.read_table(config.data.items.path).slice(0, 100)
    renamed = pa.array([f"new-{row}" for row in range(len(items))])
    pq.write_table(items.set_column(items.column_names.index("item_id"), "item_id", renamed), tmp_path / "new.parquet")
    dpsr("export", *shop, "--items", str(tmp_path / "new.parquet"))
    assert sorted(path.name for path in config.model_base_path.iterdir() if path.name.isdigit()) == ["1", "2"]
    manifest = json.loads((config.model_base_path / "2" / "assets.extra" / "manifest.json").read_text())
    assert manifest["items"] == 100


def test_explain_shows_kinds_and_ids(shop: list[str]) -> None:
    output = dpsr("explain", *shop, "phone zzqx")
    assert "trigram" in output
    assert "unseen" in output
