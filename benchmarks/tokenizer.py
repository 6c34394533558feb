"""The tokenizer beside others, on real titles and queries in English and Chinese.

    python benchmarks/tokenizer.py                      # texts of DPSR_DATA
    python benchmarks/tokenizer.py --lines FILE         # any text file, a text a line

Tables: throughput beside SentencePiece, Hugging Face tokenizers and TensorFlow Text (what is not installed is left out;
``pip install --no-build-isolation -e '.[bench]'`` brings all), what the Python module and the op add to the core, and
single figures. All run in turns on one thread; a figure is the median of the rounds in processor time, MB are of UTF-8
input.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pyarrow.parquet as pq
from tabulate import tabulate

from dpsr.tokenizer_cc import Tokenizer, VocabularyBuilder

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (
    ("homedepot/items.parquet", "title"),
    ("chorus_icecat/items.parquet", "title"),
    ("multicpr_ecom/queries.parquet", "query"),
)
VOCABULARY = 300_000
SUBWORDS = 8_000
INSTALL_PEERS = "pip install --no-build-isolation -e '.[bench]'"


class Peer(NamedTuple):
    """Something that turns texts into ids; ``encode`` returns how many."""

    name: str
    encode: Callable[[list[str]], int]
    texts: int | None = None
    """How many of the texts it is given; all if None."""


def read_lines(path: Path | None) -> list[str]:
    if path is not None:
        return [line for line in path.read_text(encoding="utf-8", errors="replace").split("\n") if line.strip()]
    folder = Path(os.environ.get("DPSR_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        raise SystemExit(f"no real data at {folder}; set DPSR_DATA, or give --lines FILE")
    columns = (pq.read_table(folder / name, columns=[column])[column] for name, column in SOURCES)
    texts = (str(text).replace("\n", " ") for column in columns for text in column.to_pylist())
    return [text for text in texts if text.strip()]


def build(lines: list[str], vocabulary: int, min_count: int = 1) -> Tokenizer:
    builder = VocabularyBuilder(
        max_vocabulary=vocabulary, min_count=min_count, oov_buckets=10_000, bigrams=True, trigrams=True
    )
    builder.add(lines)
    return builder.build()


def sentencepiece_peer(lines: Path) -> Peer:
    import sentencepiece

    model = str(lines.with_suffix(".sp"))
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines),
        model_prefix=model,
        vocab_size=SUBWORDS,
        model_type="unigram",
        character_coverage=0.9995,
        input_sentence_size=50_000,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_file=f"{model}.model")

    def encode(texts: list[str]) -> int:
        return sum(map(len, processor.encode(texts, out_type=int, num_threads=1)))

    return Peer(f"SentencePiece unigram {SUBWORDS // 1000}k", encode)


def hugging_face_peer(lines: Path) -> Peer:
    import tokenizers

    model = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    model.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.NFKC(), tokenizers.normalizers.Lowercase()]
    )
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model.train([str(lines)], tokenizers.trainers.BpeTrainer(vocab_size=SUBWORDS, show_progress=False))

    def encode(texts: list[str]) -> int:
        return sum(map(len, model.encode_batch_fast(texts, add_special_tokens=False)))

    return Peer(f"HF tokenizers BPE {SUBWORDS // 1000}k", encode)


def tensorflow_text_peer(tokenizer: Tokenizer, lines: list[str]) -> Peer:
    """The same job in a graph of stock ops: normalize, split, n-grams, one table; `#` cannot be in a word."""
    import tensorflow as tf
    import tensorflow_text as text

    known = {token for line in lines for token in tokenizer.tokens(line) if token.id <= tokenizer.vocabulary_size}
    keys = [f"{token.kind}:{token.text}" for token in known]
    values = [token.id for token in known]
    initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.constant(values, tf.int64))
    table = tf.lookup.StaticVocabularyTable(initializer, 10_000, lookup_key_dtype=tf.string)
    words_of = text.WhitespaceTokenizer()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def encode(texts: tf.Tensor) -> tf.Tensor:
        words = words_of.tokenize(text.case_fold_utf8(text.normalize_utf8(texts, "NFKC")))
        bigrams = text.ngrams(words, 2, reduction_type=text.Reduction.STRING_JOIN, string_separator=" ")
        letters = tf.strings.unicode_split(tf.strings.join(["#", words.flat_values, "#"]), "UTF-8")
        trigrams = text.ngrams(letters, 3, reduction_type=text.Reduction.STRING_JOIN, string_separator="")
        kinds = (("word", words), ("bigram", bigrams), ("trigram", trigrams))
        tokens = tf.concat([tf.strings.join([f"{kind}:", found.flat_values]) for kind, found in kinds], axis=0)
        return table.lookup(tokens)

    def in_batches(texts: list[str]) -> int:
        batches = (texts[begin : begin + 1000] for begin in range(0, len(texts), 1000))
        return sum(int(encode(tf.constant(batch)).shape[0]) for batch in batches)

    return Peer("TensorFlow Text, same job", in_batches, texts=10_000)


def peers(tokenizer: Tokenizer, lines: list[str], lines_path: Path) -> Iterator[Peer]:
    yield Peer("dpsr", lambda texts: len(tokenizer.encode_batch(texts)[0]))
    makers: dict[str, Callable[[], Peer]] = {
        "sentencepiece": lambda: sentencepiece_peer(lines_path),
        "tokenizers": lambda: hugging_face_peer(lines_path),
        "tensorflow_text": lambda: tensorflow_text_peer(tokenizer, lines),
    }
    for module, make in makers.items():
        if importlib.util.find_spec(module) is None:
            print(f"{module} is not installed: left out; {INSTALL_PEERS}", file=sys.stderr)
        else:
            yield make()


def seconds(work: Callable[[], Any]) -> float:
    """Processor time, which other processes on the machine do not change."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def compare(tokenizer: Tokenizer, lines: list[str], lines_path: Path, rounds: int) -> str:
    contestants = list(peers(tokenizer, lines, lines_path))
    times: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for peer in contestants:
            texts = lines[:: max(1, len(lines) // (peer.texts or len(lines)))]
            times[peer.name].append(seconds(lambda peer=peer, texts=texts: peer.encode(texts)))
    rows = []
    for peer in contestants:
        texts = lines[:: max(1, len(lines) // (peer.texts or len(lines)))]
        size, spent = sum(len(text.encode()) for text in texts), statistics.median(times[peer.name])
        ids = peer.encode(texts)
        rows.append([peer.name, size / spent / 1e6, ids / spent / 1e6, ids / size])
    ours = rows[0][1]
    headers = ["encode, one thread", "MB/s", "M ids/s", "ids per byte", "dpsr is faster by"]
    return tabulate([[*row, f"{ours / row[1]:.1f}x"] for row in rows], headers, floatfmt=".2f")


def core_times(model: Path, lines_path: Path, rounds: int) -> dict[str, float]:
    """Runs the core without Python or TensorFlow around it; medians in seconds."""
    program = ROOT / "build" / "tokenizer_core"
    source, library = ROOT / "benchmarks" / "tokenizer_core.cc", ROOT / "build" / "native" / "libdpsr_tokenizer.a"
    compiler = os.environ.get("CXX", "g++")
    subprocess.run(
        [compiler, "-std=c++17", "-O3", f"-I{ROOT}", str(source), str(library), "-pthread", "-o", str(program)],
        check=True,
    )
    output = subprocess.run(
        [str(program), str(model), str(lines_path), str(rounds)], check=True, capture_output=True, text=True
    ).stdout
    found: dict[str, list[float]] = defaultdict(list)
    for line in output.splitlines():
        name, value = line.split()
        found[name].append(float(value) / 1e9)
    return {name: statistics.median(values) for name, values in found.items()}


def op_seconds(layer: Any, batches: list[list[str]], rounds: int) -> float:
    """Time of one op, from a graph that runs it once for each batch, one after the other."""
    import tensorflow as tf

    tensors = [tf.constant(batch) for batch in batches]

    @tf.function
    def run_all() -> list[tf.Tensor]:
        return [tf.shape(layer(tensor).values)[0] for tensor in tensors]

    run_all()
    return statistics.median(seconds(run_all) for _ in range(rounds)) / len(batches)


def overheads(tokenizer: Tokenizer, lines: list[str], core: dict[str, float], layer: Any, rounds: int) -> str:
    """The same thousand texts through the core, the Python module and the op."""
    thousand = lines[:1000]
    times = {
        "core": core["thousand"],
        "Python module": statistics.median(
            seconds(lambda: tokenizer.encode_batch(thousand)) for _ in range(9 * rounds)
        ),
        "op": op_seconds(layer, [thousand] * 20, rounds),
    }
    rows = [[name, 1e6 * spent, f"{spent / core['thousand'] - 1:+.0%}"] for name, spent in times.items()]
    return tabulate(rows, ["1,000 texts, one thread", "us", "over the core"], floatfmt=".0f")


def single_figures(lines: list[str], core: dict[str, float], layer: Any, folder: Path, rounds: int) -> str:
    # The texts alone have fewer distinct tokens.
    large = build([*lines, *(f"part {number:06x} x{number}" for number in range(120_000))], 500_000)
    large.save(folder / "large.model")
    load = statistics.median(seconds(lambda: Tokenizer.load(folder / "large.model")) for _ in range(rounds))
    queries = [[f"{i:03} " + "steel kitchen sink 33 x 22"] for i in range(500)]
    rows = [
        [
            "core, two threads over one (elapsed time; needs two idle processors)",
            f"{core['wall_one_thread'] / core['wall_two_threads']:.2f}x",
        ],
        ["processor time of two threads over that of one", f"{core['two_threads'] / core['one_thread']:.2f}x"],
        [f"load of {large.vocabulary_size:,} tokens", f"{1e3 * load:.0f} ms"],
        [
            "one query of 30 bytes through the op, executor included",
            f"{1e6 * op_seconds(layer, queries, rounds):.1f} us",
        ],
        [
            "counting and building the vocabulary of all texts",
            f"{seconds(lambda: build(lines, 500_000)):.2f} s of processor time",
        ],
    ]
    return tabulate(rows, ["", "figure"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=Path, help="a text file instead of the real data, one text a line")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    import tensorflow as tf

    from dpsr.tokenizer_cc.tokenize_op import TokenizeLayer

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    lines = read_lines(arguments.lines)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors; {len(lines)} texts\n")
    with tempfile.TemporaryDirectory() as folder:
        lines_path, model = Path(folder, "lines.txt"), Path(folder, "tokenizer.model")
        lines_path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        tokenizer = build(lines, VOCABULARY)
        tokenizer.save(model)
        print(compare(tokenizer, lines, lines_path, arguments.rounds), end="\n\n")
        core = core_times(model, lines_path, arguments.rounds)
        layer = TokenizeLayer(model)
        print(overheads(tokenizer, lines, core, layer, arguments.rounds), end="\n\n")
        print(single_figures(lines, core, layer, Path(folder), arguments.rounds))


if __name__ == "__main__":
    main()
