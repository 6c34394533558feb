"""The subword encoders beside others, on real titles and queries in English and Chinese.

    python benchmarks/subwords.py                       # texts of DPSR_DATA
    python benchmarks/subwords.py --lines FILE          # any text file, a text a line

Every row is one vocabulary, trained on a part of the texts. All encode all texts with it, in turns on one thread;
a figure is the median of the rounds in processor time, MB are of UTF-8 input. Hugging Face tokenizers has to give the
same ids. Peers that are not installed are left out; ``pip install --no-build-isolation -e '.[bench]'`` brings all.
"""

from __future__ import annotations

import argparse
import base64
import importlib.util
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tokenizers
from tabulate import tabulate
from tokenizer import read_lines, seconds

from dpsr.tokenizer_cc.hugging_face import compile_pipeline
from dpsr.tokenizer_cc.subword_training import train_pipeline
from dpsr.tokenizer_cc.subwords import SubwordTokenizer

VOCABULARY = 16_000
TRAINED_ON = 40_000
INSTALL_PEERS = "pip install --no-build-isolation -e '.[bench]'"


class Row(NamedTuple):
    """A vocabulary, and what encodes with it: each returns how many ids."""

    name: str
    pipeline: tokenizers.Tokenizer
    peers: dict[str, Callable[[list[str]], int]]


def is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def word_piece_row(name: str, pipeline: tokenizers.Tokenizer) -> Row:
    """BERT's pipeline; TensorFlow Text runs the same job in its op."""
    if not is_installed("tensorflow_text"):
        return Row(name, pipeline, {})
    import tensorflow as tf
    import tensorflow_text

    vocabulary = sorted(pipeline.get_vocab().items(), key=lambda entry: entry[1])
    fast = tensorflow_text.FastBertTokenizer([word for word, _ in vocabulary], lower_case_nfd_strip_accents=True)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def encode(texts: tf.Tensor) -> tf.Tensor:
        return tf.size(fast.tokenize(texts).flat_values)

    return Row(name, pipeline, {"TensorFlow Text": lambda texts: int(encode(tf.constant(texts)))})


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of the fields of a protocol buffer; that of numbers is empty."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = message[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(message):
        key = varint()
        size = {0: 0, 1: 8, 5: 4}.get(key & 7)
        if key & 7 == 0:
            varint()
        elif size is None:
            size = varint()
        yield key >> 3, message[place : place + size]
        place += size


def character_map(model: bytes) -> bytes:
    """ModelProto.normalizer_spec.precompiled_charsmap; the stubs of the package do not go with dpsr's protobuf."""
    return dict(fields(dict(fields(model))[3]))[2]


def sentencepiece_row(name: str, lines: list[str], folder: Path, kind: str) -> Row:
    """A model of SentencePiece, and the pipeline that transformers makes of it for the XLM-R family."""
    import sentencepiece

    (folder / "lines.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "lines.txt"),
        model_prefix=str(folder / kind),
        vocab_size=VOCABULARY,
        model_type=kind,
        character_coverage=0.9995,
        minloglevel=2,
        pad_id=3,
        user_defined_symbols=["<mask>"],
    )
    path = folder / f"{kind}.model"
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(processor.get_piece_size())]
    pipeline = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, processor.unk_id()))
    marks = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always")
    pipeline.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([tokenizers.pre_tokenizers.WhitespaceSplit(), marks])
    pipeline.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tree = json.loads(pipeline.to_str())
    charsmap = base64.b64encode(character_map(path.read_bytes())).decode()
    tree["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    pipeline = tokenizers.Tokenizer.from_str(json.dumps(tree))

    def encode(texts: list[str]) -> int:
        return sum(map(len, processor.encode(texts, out_type=int, num_threads=1)))

    return Row(name, pipeline, {"SentencePiece": encode})


def make_rows(lines: list[str], folder: Path) -> list[Row]:
    some = lines[:: max(1, len(lines) // TRAINED_ON)]
    rows = [word_piece_row("WordPiece, BERT uncased", train_pipeline(some, "wordpiece", VOCABULARY, True))]
    if is_installed("sentencepiece"):
        rows.append(sentencepiece_row("Unigram, XLM-R", some, folder, "unigram"))
    rows.append(Row("Unigram, ours", train_pipeline(some, "unigram", VOCABULARY, True), {}))
    rows.append(Row("BPE, ours", train_pipeline(some, "bpe", VOCABULARY, True), {}))
    return rows


def measure(row: Row, lines: list[str], rounds: int) -> list[Any]:
    """MB/s of each encoder in turns, and by how much ours is ahead."""
    ours = SubwordTokenizer(compile_pipeline(row.pipeline))
    library = row.pipeline.encode_batch_fast(lines, add_special_tokens=False)
    values, row_splits = ours.encode_batch(lines)
    for i, expected in enumerate(library):
        if values[row_splits[i] : row_splits[i + 1]].tolist() != expected.ids:
            raise SystemExit(f"{row.name}: other ids than tokenizers for {lines[i]!r}")

    def of_library(texts: list[str]) -> int:
        return len(row.pipeline.encode_batch_fast(texts, add_special_tokens=False))

    encoders: dict[str, Callable[[list[str]], Any]] = {"dpsr": ours.encode_batch, "tokenizers": of_library, **row.peers}
    spent: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(rounds):
        for name, encode in encoders.items():
            spent[name].append(seconds(lambda encode=encode: encode(lines)))
    megabytes = sum(len(line.encode()) for line in lines) / 1e6
    speed = {name: megabytes / statistics.median(times) for name, times in spent.items()}
    cells: list[Any] = [row.name, len(values) / megabytes / 1e6, speed["dpsr"]]
    for name in ("tokenizers", "SentencePiece", "TensorFlow Text"):
        cells.append(f"{speed[name]:.1f} ({speed['dpsr'] / speed[name]:.1f}x)" if name in speed else "")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=Path, help="a text file instead of the real data, one text a line")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    lines = read_lines(arguments.lines)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors; {len(lines)} texts\n")
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(row, lines, arguments.rounds) for row in make_rows(lines, Path(folder))]
    headers = ["MB/s on one thread (dpsr ahead by)", "ids a byte", "dpsr", "tokenizers", "SentencePiece", "TF Text"]
    print(tabulate(rows, headers, floatfmt=("", ".2f", ".1f")))
    missing = [name for name in ("sentencepiece", "tensorflow_text") if not is_installed(name)]
    if missing:
        print(f"\nnot installed: {', '.join(missing)}; {INSTALL_PEERS}")


if __name__ == "__main__":
    main()
