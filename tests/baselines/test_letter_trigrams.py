"""Letter trigrams: of a word, and of the words of a text by a vocabulary."""

from dpsr.baselines.fitting.letter_trigrams import LetterTrigrams, letter_trigrams


def test_a_word_is_its_letter_trigrams() -> None:
    assert letter_trigrams("cat") == ["#ca", "cat", "at#"]
    assert letter_trigrams("a") == ["#a#"]
    assert letter_trigrams("激") == ["#激#"]


def test_words_are_the_known_trigrams() -> None:
    trigrams = LetterTrigrams.of_texts(["cat hat", "at"], str.split)
    assert trigrams.trigrams == sorted({"#ca", "cat", "at#", "#ha", "hat", "#at"})
    named = [
        [[trigrams.trigrams[row] for row in word] for word in trigrams.by_word(text)] for text in ("cat dog hat", "")
    ]
    assert named == [[["#ca", "cat", "at#"], [], ["#ha", "hat", "at#"]], []]
