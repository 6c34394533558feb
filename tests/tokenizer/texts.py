"""Texts to test with: what shops hold, what breaks tokenizers, and hypothesis strategies of both."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    import tensorflow as tf

SHOP = [
    "Stainless-Steel Sink 33x22 in. 18 Gauge",
    "DEWALT XL-2000 20V MAX 1/2 in. Drill, 1.5Ah (2-Pack)",
    "iPhone 13 Pro Max 手机壳 防摔",
    "½ inch x 3⁄4 inch PEX elbow, 90°",
    "mw3 xbox 360 call of duty: modern warfare 3",
    "ワイヤレス イヤホン Bluetooth5.3 ノイズキャンセリング",
    "ﾜｲﾔﾚｽ ＢＬＵＥＴＯＯＴＨ ５．３",
    "무선 이어폰 블루투스 5.3",
    "Крем для рук 50мл, naïve café Straße ŞİŞLİ ΣΊΣΥΦΟΣ",
    "شاحن سريع ٢٠ واط USB-C",
    "👨‍👩‍👧‍👦 family 👍🏽 ❤️ 🇩🇪 flag 1️⃣",
    "www.example.com/a1/2.5/b?x=1.2.3.",
    "a.b 1.a a.1 1..2 1./2 .5 5. 1/2/3 v1.2",
]

HARD = [
    "",
    "\0",
    "a\0b",
    "e\u0301 \u0301 x\u0301\u0323 x\u0323\u0301 \u1100\u1161\u11a8 \uac00\u11a8 \uac01\u11a8",
    "か\u3099 カ\u309a ﾊﾟ",
    "soft\u00adhyphen zero\u200bwidth join\u200der bom\ufeff rtl\u202e marks",
    "ﬁ Ⅳ ① ㌔ ℃ ™ ﷺ ǅ ẞ ŉ ᾳ",
    "\U0001d400\U0001d401 \U000e0041 \U00017000\U00018d00 \u3007\u3005\u303b",
    "1\u20441 1\u00ad.\u00ad5 1\u0301.5 ١.٢ 1.٢ 1\u2044x ²³ 10³",
    "漢\U000e0100字 \ufe0f\u0301a",
    "a" * 5000,
    "x" + "\u0301" * 10_000,
    "\u0301\u0323" * 500,
    "\ud800 lone \udfff",
    b"\xff\xfe caf\xc3 \xe2\x82 \xf0\x9f\x98 \xed\xa0\x80 \xc0\x80 \xf4\x90\x80\x80 \xe0\x80\x80",
    b"\xf0\x90",
]

# Where normalization, classes and scripts change.
_ALPHABET = (
    "aAzZéßİıſ0159./-_ #'\u2044\u0301\u0323\u0327\u0345\u3099\u200b\u200d\u00ad\ufe0f\U0001f3fd\U0001f44d❤"
    "手机々〇ーかカｶﾞ가\u1100\u1161\u11a8\u11a7жΣςαאع٢ไ½²™ﬁＡ１Å\u212b\u0000\ufffd\u02bc\U00017000"
)

any_text = st.one_of(
    st.text(st.sampled_from(_ALPHABET), max_size=40),
    st.text(st.characters(), max_size=40),
    st.text(st.sampled_from("abcde .1/"), max_size=60),
)
any_bytes = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from([b"\xe2", b"\x82", b"\xac", b"\xf0", b"\x9f", b"\xed", b"\xa0", b"a", b"1", b"."])).map(
        b"".join
    ),
)
texts_or_bytes = st.one_of(any_text, any_bytes)
batches = st.lists(st.one_of(texts_or_bytes, st.sampled_from(SHOP)), max_size=6)

PIECES: dict[str, str | bytes] = {
    "emoji sequences": "👨‍👩‍👧‍👦👍🏽❤️🇩🇪1️⃣🏴󠁧󠁢󠁥󠁮󠁧󠁿☠︎👩🏿‍🚀",
    "lone surrogates": "\ud800a\udfff \udc00\ud83d1",
    "NULs": "\0a\0\0 1\0.5",
    "right to left": "شاحن سريع \u202eעברית‏ ٢.٥\u202c שָׁלוֹם ",
    "full width": "ＢＬＵＥＴＯＯＴＨ　５．３／４ ﾜｲﾔﾚｽﾞ ",
    "combining marks": "e" + "\u0301\u0323\u0345\u05b0" * 2500 + " ",
    "no UTF-8": b"\xff\xe2\x82a\xf0\x9f\x98 \xed\xa0\x80\xc0\x80",
    "one word": "stainless",
    "a shop": " ".join(SHOP) + "\n",
}


def as_bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def strings(texts: list[str | bytes]) -> tf.Tensor:
    """string [n], as TensorFlow takes them."""
    import tensorflow as tf

    return tf.constant([as_bytes(text) for text in texts], tf.string, shape=[len(texts)])


def of_size(text: str | bytes, size: int) -> bytes:
    """The text again and again, cut at `size` bytes, wherever that is."""
    piece = as_bytes(text)
    return (piece * (size // len(piece) + 1))[:size]


def shuffled(size: int, seed: int) -> bytes:
    """`size` bytes of all sorts of text, cut anywhere and put together again, and of random bytes."""
    source = random.Random(seed)
    parts, length = [], 0
    while length < size:
        piece = as_bytes(source.choice([*PIECES.values(), *HARD, source.randbytes(20)]))
        begin = source.randrange(len(piece) + 1)
        parts.append(piece[begin : begin + source.randrange(1, 60)])
        length += len(parts[-1])
    return b"".join(parts)[:size]


def long_bytes(most: int) -> st.SearchStrategy[bytes]:
    """Any bytes up to a length: what hypothesis finds by itself, repeated and cut, and mixtures."""
    sizes = st.one_of(st.integers(0, most), st.integers(most // 2, most))
    repeated = st.builds(
        of_size, st.one_of(any_text, any_bytes, st.sampled_from(list(PIECES.values()))).filter(len), sizes
    )
    return st.one_of(repeated, st.builds(shuffled, sizes, st.integers(0, 1 << 32)), st.binary(max_size=4096))
