"""Letter trigrams of words, the input of DSSM and its successors (Huang et al., CIKM 2013, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dpsr.baselines.analyzers import Analyzer


class LetterTrigrams:
    """Vocabulary of letter trigrams: words -> ids of their trigrams, unknown trigrams left out."""

    def __init__(self, trigrams: Sequence[str], analyzer: Analyzer) -> None:
        """Takes the trigrams in the order of their ids, and the analyzer that splits texts into words."""
        self.trigrams = list(trigrams)
        self._analyzer = analyzer
        self._ids = {trigram: row for row, trigram in enumerate(self.trigrams)}
        self._of_word: dict[str, list[int]] = {}

    @classmethod
    def of_texts(cls, texts: Iterable[str], analyzer: Analyzer) -> LetterTrigrams:
        """Collects the trigrams of some texts."""
        known = {word for text in texts for word in analyzer(text)}
        return cls(sorted({trigram for word in known for trigram in letter_trigrams(word)}), analyzer)

    def by_word(self, text: str) -> list[list[int]]:
        """Looks up the trigrams of each word of a text, with repetition."""
        return [self._rows(word) for word in self._analyzer(text)]

    def _rows(self, word: str) -> list[int]:
        if word not in self._of_word:
            found = [self._ids.get(trigram, -1) for trigram in letter_trigrams(word)]
            self._of_word[word] = [row for row in found if row >= 0]
        return self._of_word[word]


def letter_trigrams(word: str) -> list[str]:
    """Splits a word between two ``#`` into trigrams: ``cat`` -> #ca, cat, at#."""
    marked = f"#{word}#"
    return [marked[start : start + 3] for start in range(len(marked) - 2)]
