"""TREC qrels: a line ``topic iteration item grade`` for each pair.

The format has topics where a judgement has a text, and no comments that ``trec_eval`` would read over. The text itself
is therefore the topic: white space, ``%`` and what does not print are percent-encoded (UTF-8), as in
``red%20shoes 0 item-7 3``; item ids likewise. Files with numbered topics are read where comments before the judgements
give their texts, ``# qid:1: red shoes``, as files of learning-to-rank plugins have them. A text of digits alone has its
first digit encoded, which tells it from a number: ``%3747`` is the query ``747``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

from dpsr.data.judgements.formats.rows import Rejected, Row, shown
from dpsr.data.judgements.pooling import pooled_grades
from dpsr.data.judgements.records import Judgement

_COMMENT = re.compile(r"#\s*qid:(\S+):(?:\s(.*))?")
_FIELDS = 4


def write(judgements: Iterable[Judgement]) -> bytes:
    """Writes pooled grades, a line for each pair; pairs without a query or an item id have no line."""
    lines = [
        f"{_topic(query)} 0 {_encoded(item_id)} {grade}\n"
        for (query, item_id), grade in pooled_grades(judgements).items()
        if query and item_id
    ]
    return "".join(lines).encode()


def read(text: str) -> Iterator[Row | Rejected]:
    """Reads the rows of a file."""
    texts: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        place = f"line {number}"
        if comment := _COMMENT.fullmatch(line.rstrip("\r")):
            texts[comment[1]] = comment[2] or ""
            continue
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) != _FIELDS:
            yield Rejected(place, f"{len(fields)} fields; expected topic, iteration, item id and grade")
            continue
        topic, _, item_id, grade = fields
        if topic not in texts and re.fullmatch("[0-9]+", topic):
            yield Rejected(
                place, f"topic {shown(topic)} has no text; write `# qid:{topic}: its text` above the judgements"
            )
            continue
        try:
            query = texts[topic] if topic in texts else unquote(topic, errors="strict")
            yield Row(place, query, unquote(item_id, errors="strict"), grade)
        except UnicodeDecodeError:
            yield Rejected(place, "a percent-encoded text is not UTF-8")


def _topic(query: str) -> str:
    encoded = _encoded(query)
    if re.fullmatch("[0-9]+", encoded) or encoded.startswith("#"):
        return f"%{ord(encoded[0]):02X}{encoded[1:]}"
    return encoded


def _encoded(text: str) -> str:
    # isprintable() is false for control characters and those that change the direction of a text.
    return "".join(
        quote(character, safe="")
        if character == "%" or character.isspace() or not character.isprintable()
        else character
        for character in text
    )
