"""The dense scores of an item by head, with the tokens and subwords that they are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dpsr.model.two_tower import TwoTower
from dpsr.page.contract import HeadScore, TokenPart
from dpsr.page.explain.attribution import allowed_error, attribute
from dpsr.page.explain.features import QueryReader, ReadQuery
from dpsr.tokenizer_cc import Tokenizer
from dpsr.tokenizer_cc.tokenizer import Token

REST = "rest"
_READ_FOR_UNSEEN = 100_000
"""Characters of an item among which tokens outside the vocabulary are looked for."""


def head_scores(
    model: TwoTower, reader: QueryReader, query: ReadQuery, item: np.ndarray, item_text: str | None
) -> tuple[tuple[HeadScore, ...], list[str]]:
    """Explains every head's score.

    Args:
        model: the towers.
        reader: of the dataset that they were trained on.
        query: of ``reader``.
        item: float32 [d], the vector of the item.
        item_text: None where it is not known; no token matches then.

    Returns:
        The heads, each with its parts in the order of the query and the rest last; and what has to be noted.
    """
    found = attribute(model, query.features, item)
    names: list[tuple[str, str, bool]] = []
    if found.tokens is not None:
        has = _matching(reader.tokenizer, query.tokens, item_text or "")
        names += [(token.text, token.kind, matched) for token, matched in zip(query.tokens, has, strict=True)]
    if found.subwords is not None:
        known = set(reader.subwords.encode(item_text or "").tolist())
        names += [(subword.text, "subword", subword.id in known) for subword in query.subwords]
    parts = np.concatenate([each for each in (found.tokens, found.subwords) if each is not None], axis=1)
    heads = []
    for head, (score, values) in enumerate(zip(found.scores.tolist(), parts, strict=True)):
        tokens = [
            TokenPart(token=text, kind=kind, matched=matched, value=value)
            for (text, kind, matched), value in zip(names, values.tolist(), strict=True)
        ]
        tokens.append(TokenPart(token=REST, kind=REST, matched=False, value=score - float(values.sum())))
        heads.append(HeadScore(head=head, score=score, tokens=tuple(tokens), method=found.method))
    notes = []
    if item_text is None:
        notes.append("The dataset lacks the text of this item: which tokens it has is not known.")
    if np.any(np.abs(found.errors) > allowed_error(found.scores - found.without)):
        notes.append(
            f"The integrated gradients miss the score by {np.abs(found.errors).max():.3f}; the rest has the difference."
        )
    return tuple(heads), notes


def _matching(tokenizer: Tokenizer, tokens: Sequence[Token], text: str) -> list[bool]:
    """Whether a text has each token."""
    ids = set(np.unique(tokenizer.encode(text)).tolist())
    found = [token.id in ids for token in tokens]
    unseen = [place for place, token in enumerate(tokens) if found[place] and token.id > tokenizer.vocabulary_size]
    if unseen:  # tokens outside the vocabulary share ids
        of_text = {(token.text, token.kind) for token in tokenizer.tokens(text[:_READ_FOR_UNSEEN])}
        for place in unseen:
            found[place] = (tokens[place].text, tokens[place].kind) in of_text
    return found
