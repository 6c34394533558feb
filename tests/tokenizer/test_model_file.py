"""The model file: kept whole, or refused with the reason."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from dpsr.errors import DpsrError
from dpsr.tokenizer_cc import ModelFileError, Tokenizer, _tokenizer

from .conftest import SETTINGS
from .reference import ReferenceTokenizer
from .texts import HARD, SHOP

FIXTURE = Path(__file__).with_name("format_1.model")
FIXTURE_FINGERPRINT = "c71dc572ab8582b01f5421b04b631d2f"


def test_save_and_load_give_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    tokenizer.save(path)
    loaded = Tokenizer.load(path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.num_documents == tokenizer.num_documents
    assert loaded.document_frequencies.tolist() == tokenizer.document_frequencies.tolist()
    assert loaded.encode_batch(SHOP + HARD)[0].tolist() == tokenizer.encode_batch(SHOP + HARD)[0].tolist()
    loaded.save(tmp_path / "again.model")
    assert (tmp_path / "again.model").read_bytes() == path.read_bytes()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "again.model", path]


def test_other_content_has_another_fingerprint(build: Callable[..., Tokenizer]) -> None:
    fingerprints = {
        build(["a b"]).fingerprint,
        build(["a b", "c"]).fingerprint,
        build(["a b"], bigrams=False).fingerprint,
        build(["a b"], trigrams=False).fingerprint,
        build(["a b"], oov_buckets=14).fingerprint,
        build(["a b"], max_vocabulary=151).fingerprint,
    }
    assert len(fingerprints) == 6
    assert build(["a b"]).fingerprint == build(["b", "a b"][1:]).fingerprint


def patched(content: bytes, offset: int, patch: bytes) -> bytes:
    return content[:offset] + patch + content[offset + len(patch) :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "the file is empty"),
        (lambda content: b"PK\x03\x04 something else", "not a tokenizer model"),
        (lambda content: b"D", "truncated: 1 bytes, expected 144"),
        (lambda content: content[:100], "truncated: 100 bytes, expected 144"),
        (lambda content: content[:-1], r"truncated: \d+ bytes, expected \d+"),
        (lambda content: content + b"\0", r"corrupt: \d+ bytes, expected \d+"),
        (lambda content: patched(content, 8, struct.pack("<I", 2)), "format version 2 is newer than version 1"),
        (lambda content: patched(content, 8, struct.pack("<I", 0)), "corrupt: format version 0"),
        (lambda content: patched(content, 500, b"\xa5\x5a"), "corrupt: the checksum does not match"),
        (lambda content: patched(content, 24, bytes(8)), "corrupt: the checksum does not match"),
    ],
)
def test_damage_is_named(tokenizer: Tokenizer, tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    tokenizer.save(tmp_path / "good.model")
    path = tmp_path / "bad.model"
    path.write_bytes(damage((tmp_path / "good.model").read_bytes()))
    with pytest.raises(ModelFileError, match=rf"bad\.model: {message}") as error:
        Tokenizer.load(path)
    assert isinstance(error.value, DpsrError)
    assert isinstance(error.value, ValueError)


def test_every_changed_byte_is_noticed(build: Callable[..., Tokenizer], tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    build(["steel sink"]).save(path)
    content = path.read_bytes()
    for offset in range(len(content)):
        with pytest.raises(ValueError, match=r"tokenizer model|truncated|corrupt|newer"):
            _tokenizer.Tokenizer(patched(content, offset, bytes([content[offset] ^ 0x40])))


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.model: no such tokenizer model"):
        Tokenizer.load(tmp_path / "nothing.model")
    with pytest.raises(ValueError, match="not a regular file"):
        Tokenizer.load(tmp_path)


def test_format_1_stays_readable() -> None:
    """``format_1.model`` was saved from SHOP + HARD when the format was new, and is never written again."""
    loaded = Tokenizer.load(FIXTURE)
    oracle = ReferenceTokenizer.build(SHOP + HARD, **SETTINGS)
    assert loaded.fingerprint == FIXTURE_FINGERPRINT
    for text in [*SHOP, *HARD, "a new text, 手机"]:
        assert [tuple(token) for token in loaded.tokens(text)] == oracle.tokens(text)
