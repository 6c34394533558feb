"""The tokenizer once more, slowly and in plain Python: the oracle of the C++ one.

It is written from docs/tokenizer.md, and shares nothing with the C++ core: neither code nor tables nor the model file.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

KINDS = ("word", "bigram", "trigram")
MASK = (1 << 64) - 1
WORD_SEED, BIGRAM_SEED, TRIGRAM_SEED = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9


def normalize(text: str | bytes) -> str:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return unicodedata.normalize("NFKC", data.decode("utf-8", errors="replace")).casefold()


def script(letter: str) -> str | None:
    """The script of a letter; None for the letters that go with every script."""
    words = unicodedata.name(letter, "?").split()
    if words == ["?"] or words[0] == "MODIFIER":
        return None
    if words[0] in {"OLD", "NEW", "TAI", "MEETEI"}:
        return f"{words[0]} {words[1]}"
    return "LATIN" if words[0] == "TURNED" else words[0]


def is_ignored(character: str) -> bool:
    code_point = ord(character)
    variation = 0xFE00 <= code_point <= 0xFE0F or 0xE0100 <= code_point <= 0xE01EF
    mongolian = 0x180B <= code_point <= 0x180D or code_point == 0x180F
    skin_tone = 0x1F3FB <= code_point <= 0x1F3FF
    is_format = unicodedata.category(character) == "Cf" and character != "\u200b"
    return variation or mongolian or skin_tone or is_format


def stands_alone(character: str) -> bool:
    category, code_point = unicodedata.category(character), ord(character)
    if category[0] in "LN":
        name = unicodedata.name(character, "?")
        kana = name.startswith(("HIRAGANA", "KATAKANA")) or "KANA REPEAT MARK" in name
        tangut = 0x17000 <= code_point <= 0x187F7 or 0x18D00 <= code_point <= 0x18D08
        return kana or tangut or "IDEOGRAPH" in name
    blocks = ((0x2300, 0x23FF), (0x2600, 0x27BF), (0x2B00, 0x2BFF), (0x1F000, 0x1FAFF))
    return category == "So" and any(first <= code_point <= last for first, last in blocks)


def is_digit(character: str) -> bool:
    return unicodedata.category(character)[0] == "N" and not stands_alone(character)


def words_of(text: str | bytes) -> list[str]:
    characters = [character for character in normalize(text) if not is_ignored(character)]
    words: list[str] = []
    open_word = alone = False  # whether the last word goes on; whether it takes nothing but marks
    word_script: str | None = None
    for i, character in enumerate(characters):
        category = unicodedata.category(character)[0]
        if category == "M":
            if open_word:
                words[-1] += character
            continue
        digits_around = 0 < i < len(characters) - 1 and is_digit(characters[i - 1]) and is_digit(characters[i + 1])
        if open_word and not alone and character in "./\N{FRACTION SLASH}" and digits_around:
            words[-1] += character.replace("\N{FRACTION SLASH}", "/")
            continue
        if not stands_alone(character) and category not in "LN":
            open_word = False
            continue
        own_script = script(character) if category == "L" and not stands_alone(character) else None
        other_script = own_script is not None and word_script is not None and own_script != word_script
        if not open_word or alone or stands_alone(character) or other_script:
            words.append("")
            word_script = None
        words[-1] += character
        open_word, alone = True, stands_alone(character)
        word_script = own_script or word_script
    return words


def trigrams_of(word: str) -> list[str]:
    letters = (c for c in word if unicodedata.category(c)[0] == "L" and not stands_alone(c))
    if not any(script(letter) == "LATIN" for letter in letters):
        return []
    padded = f"#{word}#"
    return [padded[i : i + 3] for i in range(len(word))]


def tokens_of(text: str | bytes, *, bigrams: bool = True, trigrams: bool = True) -> list[tuple[str, str]]:
    """``(kind, text)`` of every token, in the order of the ids."""
    words = words_of(text)
    tokens = [("word", word) for word in words]
    if bigrams:
        tokens += [("bigram", f"{first} {second}") for first, second in itertools.pairwise(words)]
    if trigrams:
        tokens += [("trigram", trigram) for word in words for trigram in trigrams_of(word)]
    return tokens


def mix(x: int) -> int:
    x = (x ^ x >> 33) * 0xFF51AFD7ED558CCD & MASK
    x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53 & MASK
    return x ^ x >> 33


def hash_token(kind: str, text: str) -> int:
    if kind == "bigram":
        first, second = (hash_token("word", word) for word in text.split(" "))
        return mix(mix(first ^ BIGRAM_SEED) + second & MASK)
    if kind == "trigram":
        a, b, c = map(ord, text)
        return mix((a << 42 | b << 21 | c) ^ TRIGRAM_SEED)
    data, value = text.encode(), WORD_SEED
    for begin in range(0, len(data), 8):
        value = mix(value ^ int.from_bytes(data[begin : begin + 8], "little"))
    return value


def within_limits(
    commonest: Iterable[tuple[tuple[str, str], int]], room: dict[str, int | None]
) -> Iterator[tuple[tuple[str, str], int]]:
    """Takes tokens as they come while there is room for their kind, and bigrams only after both of their words."""
    taken: Counter[str] = Counter()
    words = set()
    for (kind, text), count in commonest:
        if taken[kind] == room[kind] or (kind == "bigram" and not words.issuperset(text.split(" "))):
            continue
        taken[kind] += 1
        if kind == "word":
            words.add(text)
        yield (kind, text), count


@dataclass
class ReferenceTokenizer:
    vocabulary: dict[tuple[str, str], int]
    document_frequencies: list[int]
    oov_buckets: int
    bigrams: bool
    trigrams: bool

    @classmethod
    def build(
        cls,
        texts: Iterable[str | bytes],
        *,
        max_vocabulary: int,
        min_count: int,
        oov_buckets: int,
        bigrams: bool,
        trigrams: bool,
        max_words: int | None = None,
        max_bigrams: int | None = None,
        max_trigrams: int | None = None,
    ) -> ReferenceTokenizer:
        counts: Counter[tuple[str, str]] = Counter()
        for text in texts:
            counts.update(set(tokens_of(text, bigrams=bigrams, trigrams=trigrams)))
        kept = [(token, count) for token, count in counts.items() if count >= min_count]
        kept.sort(key=lambda entry: (-entry[1], KINDS.index(entry[0][0]), entry[0][1].encode()))
        room = dict(zip(KINDS, (max_words, max_bigrams, max_trigrams), strict=True))
        kept = list(within_limits(kept, room))[:max_vocabulary]
        vocabulary = {token: i + 1 for i, (token, _) in enumerate(kept)}
        return cls(vocabulary, [count for _, count in kept], oov_buckets, bigrams, trigrams)

    def tokens(self, text: str | bytes) -> list[tuple[str, str, int, int]]:
        return [self._token(*token) for token in tokens_of(text, bigrams=self.bigrams, trigrams=self.trigrams)]

    def encode(self, text: str | bytes) -> list[int]:
        return [token[2] for token in self.tokens(text)]

    def encode_batch(self, texts: Sequence[str | bytes]) -> tuple[list[int], list[int]]:
        values: list[int] = []
        row_splits = [0]
        for text in texts:
            values += self.encode(text)
            row_splits.append(len(values))
        return values, row_splits

    def _token(self, kind: str, text: str) -> tuple[str, str, int, int]:
        known = self.vocabulary.get((kind, text))
        if known is not None:
            return text, kind, known, self.document_frequencies[known - 1]
        bucket = hash_token(kind, text) * self.oov_buckets >> 64
        return text, kind, 1 + len(self.vocabulary) + bucket, 0
