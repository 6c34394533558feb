"""Which column of a raw input is which of the contract: guessed by names, and checked against the values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from dpsr.data.dataset.schema import EVENTS, DatasetError
from dpsr.data.guess.names import (
    BRAND,
    CATEGORY,
    EVENT,
    ITEM_ID,
    LABEL,
    MORE_TEXT,
    NUMBER,
    QUERY,
    TIMESTAMP,
    TITLE,
    USER_ID,
    by_rank,
    words,
)
from dpsr.data.guess.sample import Column, Sample

_LONG_TEXT_WORDS = 30
_MOST_CATEGORIES = 5000
_MOST_PROFILE_VALUES = 200


@dataclass
class Guess:
    """Roles of the columns of one input."""

    columns: dict[str, str] = field(default_factory=dict)
    """Contract name -> column."""
    text: list[str] = field(default_factory=list)
    short_text: list[str] = field(default_factory=list)
    """The columns among ``text`` whose words people search by."""
    categorical: list[str] = field(default_factory=list)
    """Of items; of users the profile."""
    numeric: list[str] = field(default_factory=list)
    rejected_share: float = 0.0
    """Share of the sampled rows that ``dpsr prepare`` will reject."""
    reasons: list[str] = field(default_factory=list)
    """What was chosen and why."""
    doubts: list[str] = field(default_factory=list)
    """What the reader should check."""

    def choose(self, role: str, column: Column, why: str) -> None:
        """Maps a column of the contract."""
        self.columns[role] = column.name
        self.reasons.append(f"{role} = {column.name}: {why}; as {_example(column)}")


def guess_items(sample: Sample) -> Guess:
    """Roles of the columns of a catalogue.

    Raises:
        DatasetError: no column has one value a row, or none has text.
    """
    guess = Guess()
    key = _item_id(sample, guess)
    free = {name: column for name, column in sample.columns.items() if name != key and column.values}
    prose = {name: column for name, column in free.items() if column.number_share < 0.5 and column.link_share < 0.5}
    _choose_texts(sample, prose, guess)
    others = {name: column for name, column in free.items() if name not in guess.text}
    categories = [name for name in by_rank(others, CATEGORY) if _is_category(others[name])]
    for name, column in others.items():
        few = column.distinct <= max(2, min(1000, 0.05 * len(column.values)))
        if name in prose and name not in categories and few and column.distinct > 1 and column.words <= 3:
            categories.append(name)
            guess.doubts.append(f"{name} has {column.distinct:,} different values in the sample, so it is categorical")
    guess.categorical = categories
    numbers = [name for name in by_rank(others, NUMBER) if others[name].number_share >= 0.95]
    guess.numeric = [name for name in numbers if name not in categories and others[name].distinct > 2]
    guess.reasons += [f"categorical: {name}, {others[name].distinct:,} values in the sample" for name in categories]
    guess.reasons += [f"numeric: {name}" for name in guess.numeric]
    left = [name for name in others if name not in (*categories, *guess.numeric)]
    if left:
        guess.reasons.append(f"not used: {', '.join(left)}")
    return guess


def guess_log(sample: Sample, item_ids: Collection[str], *, all_ids: bool) -> Guess:
    """Roles of the columns of a click log.

    Args:
        sample: of the log.
        item_ids: ids of the catalogue.
        all_ids: whether these are all.

    Raises:
        DatasetError: no column has queries, or none has ids of the catalogue; or a column that the job reads by its
            name, ``event`` or ``timestamp``, cannot be used.
    """
    guess = Guess()
    columns = {name: column for name, column in sample.columns.items() if column.values}
    if {"action_name", "query_id"} <= set(columns) and "user_query" not in columns:
        raise DatasetError(
            f"{sample.path}: looks like events of User Behavior Insights, whose queries are in another file; first "
            "call: dpsr data import-ubi --queries FILE --events FILE --out log.parquet"
        )
    found = {name: _share_in(column, item_ids) for name, column in columns.items()}
    named = by_rank(columns, ITEM_ID)
    best = max(columns, key=lambda name: (round(found[name], 2), name in named), default="")
    if not best or found[best] == 0.0:
        raise DatasetError(
            f"{sample.path}: no column holds item ids of the catalogue (columns: {sample.listed}); see that both files "
            "write the ids alike, and that the catalogue's id column was found"
        )
    how = "its name and " if best in named else ""
    guess.choose("item_id", columns[best], f"{how}{found[best]:.0%} of its values are ids of the catalogue")
    _choose_query(sample, {name: column for name, column in columns.items() if name != best}, guess)
    usable = [
        item and query
        for item, query in zip(
            [text is not None and (text in item_ids or not all_ids) for text in columns[best].texts],
            [text is not None for text in columns[guess.columns["query"]].texts],
            strict=True,
        )
    ]
    free = {name: column for name, column in columns.items() if name not in guess.columns.values()}
    if users := by_rank(free, USER_ID):
        guess.choose("user_id", free.pop(users[0]), "its name")
        if "session" in words(users[0]):
            guess.doubts.append(f"{users[0]} names sessions; a history then ends with the session")
    usable = _choose_time(sample, free, guess, usable)
    usable = _choose_event(sample, free, guess, usable)
    guess.rejected_share = 1.0 - sum(usable) / len(usable)
    if labels := by_rank(free, LABEL):
        guess.doubts.append(
            f"{labels[0]} looks like a judgement: see that only good pairs count as clicks (docs/data.md)"
        )
    if left := [name for name in sample.columns if name not in guess.columns.values()]:
        guess.reasons.append(f"not used: {', '.join(left)}")
    return guess


def guess_users(sample: Sample) -> Guess:
    """Roles of the columns of a users file.

    Raises:
        DatasetError: no column has one value a row, or none could be a profile.
    """
    guess = Guess()
    unique = [name for name, column in sample.columns.items() if _is_unique(column)]
    named = [name for name in by_rank(sample.columns, (*USER_ID, "id")) if name in unique]
    if not (named or unique):
        raise DatasetError(
            f"{sample.path}: no column has another value in each row, as user ids (columns: {sample.listed})"
        )
    key = (named or unique)[0]
    guess.choose("user_id", sample.columns[key], "its name, and another value in each row")
    for name, column in sample.columns.items():
        if name != key and 1 < column.distinct <= min(_MOST_PROFILE_VALUES, 0.5 * len(column.values) + 2):
            guess.categorical.append(name)
            guess.reasons.append(f"profile: {name}, {column.distinct:,} values in the sample")
    if not guess.categorical:
        raise DatasetError(
            f"{sample.path}: no column has few enough values for a profile, at most {_MOST_PROFILE_VALUES} (columns: "
            f"{sample.listed}); leave --users out, or add such a column"
        )
    return guess


def _item_id(sample: Sample, guess: Guess) -> str:
    unique = [name for name, column in sample.columns.items() if _is_unique(column)]
    named = by_rank(sample.columns, ITEM_ID)
    if good := [name for name in named if name in unique]:
        guess.choose("item_id", sample.columns[good[0]], "its name, and another value in each row")
        if len(good) > 1:
            guess.doubts.append(f"item_id may also be {', '.join(good[1:])}; the log has to write the same ids")
        return good[0]
    if unique:
        guess.choose("item_id", sample.columns[unique[0]], "the first column with another value in each row")
        guess.doubts.append(f"{unique[0]} has no name of an id; see that it is the id that the log writes")
        return unique[0]
    repeated = f"; {named[0]} repeats or has gaps: keep one row for each item" if named else ""
    raise DatasetError(
        f"{sample.path}: no column looks like item ids, another value in each row (columns: {sample.listed}){repeated}"
    )


def _choose_texts(sample: Sample, prose: dict[str, Column], guess: Guess) -> None:
    titles = [name for name in by_rank(prose, TITLE) if prose[name].distinct_share > 0.3]
    if titles:
        title = titles[0]
        guess.reasons.append(f"text: {title}, by its name; as {_example(prose[title])}")
    else:
        wordy = sorted((name for name in prose if prose[name].words >= 1.5), key=lambda name: -prose[name].distinct)
        short = [name for name in wordy if prose[name].words <= _LONG_TEXT_WORDS]
        if not wordy:
            raise DatasetError(
                f"{sample.path}: no column has texts of several words, as titles (columns: {sample.listed})"
            )
        title = (short or wordy)[0]
        guess.reasons.append(f"text: {title}, its values are texts; as {_example(prose[title])}")
        guess.doubts.append(f"no column is called as a title; {title} was taken")
    more = [name for name in by_rank(prose, MORE_TEXT) if name != title and prose[name].words >= 2]
    guess.text = [title, *more]
    guess.short_text = [title] if prose[title].words <= _LONG_TEXT_WORDS else []
    guess.reasons += [f"text: {name}, {prose[name].words:.0f} words on average" for name in more]
    guess.doubts += [
        f"{name} is long, {prose[name].words:.0f} words; compare with text = {[title]!r} alone".replace("'", '"')
        for name in more
        if prose[name].words > _LONG_TEXT_WORDS
    ]


def brands(guess: Guess) -> list[str]:
    """The categorical columns that name brands, which people search by."""
    return by_rank(dict.fromkeys(guess.categorical), BRAND)[:1]


def _choose_query(sample: Sample, columns: dict[str, Column], guess: Guess) -> None:
    texts = {name: column for name, column in columns.items() if column.number_share < 0.9 and not _is_key(name)}
    if named := by_rank(texts, QUERY):
        guess.choose("query", texts[named[0]], "its name")
        return
    wordy = sorted((name for name in texts if texts[name].words >= 1.3), key=lambda name: -texts[name].words)
    if not wordy:
        raise DatasetError(f"{sample.path}: no column looks like query texts (columns: {sample.listed})")
    guess.choose("query", texts[wordy[0]], "its values are texts of several words")
    guess.doubts.append(f"no column is called as a query; {wordy[0]} was taken")


def _choose_time(sample: Sample, free: dict[str, Column], guess: Guess, usable: list[bool]) -> list[bool]:
    for name in by_rank(free, TIMESTAMP):
        timed = free[name].timed()
        if sum(timed) >= 0.9 * len(timed):
            guess.choose("timestamp", free.pop(name), "its name, and its values are times")
            return [good and known for good, known in zip(usable, timed, strict=True)]
        if name == "timestamp":
            raise DatasetError(
                f"{sample.path}: the times of column 'timestamp', as {_example(free[name])}, cannot be read; write "
                "ISO 8601, as 2024-05-01T12:00:00Z, or numbers"
            )
        guess.doubts.append(f"{name} looks like a time, but its values, as {_example(free[name])}, cannot be read")
    guess.doubts.append("no readable time: the order of the rows is taken as the order of time")
    return usable


def _choose_event(sample: Sample, free: dict[str, Column], guess: Guess, usable: list[bool]) -> list[bool]:
    for name in by_rank({name: column for name, column in free.items() if not _is_key(name)}, EVENT):
        texts = [text.lower() if text else "click" for text in free[name].texts]
        known = [text in EVENTS for text in texts]
        others = sorted({text for text in texts if text not in EVENTS})[:5]
        if any(text in EVENTS for text in map(str.lower, free[name].values)):
            guess.choose("event", free.pop(name), "its name, and its values")
            if others:
                share = 1 - sum(known) / len(known)
                guess.doubts.append(f"rows whose {name} is {', '.join(others)} ({share:.0%}) are rejected and listed")
            return [good and event for good, event in zip(usable, known, strict=True)]
        if name == "event":
            raise DatasetError(
                f"{sample.path}: column 'event' holds {', '.join(others)}; expected {', '.join(EVENTS)}: translate the "
                "values, or rename the column to count every row as a click"
            )
        if len(set(texts)) <= 50:
            guess.doubts.append(f"{name} holds {', '.join(others)}, none of {', '.join(EVENTS)}: each row is a click")
    return usable


def _is_key(name: str) -> bool:
    """Whether a name, as ``query_id``, says that the values are keys of something."""
    return words(name)[-1:] == ["id"]


def _is_unique(column: Column) -> bool:
    plain = column.words < 2 and not column.is_fraction and column.link_share < 0.5
    return plain and column.present > 0.98 and column.distinct_share > 0.98


def _is_category(column: Column) -> bool:
    few = column.distinct <= min(_MOST_CATEGORIES, 0.5 * len(column.values) + 2)
    return few and column.distinct > 1 and column.words <= 6 and column.link_share < 0.5


def _share_in(column: Column, ids: Collection[str]) -> float:
    return sum(text in ids for text in column.values) / max(1, len(column.values))


def _example(column: Column) -> str:
    text = max(column.values[:20], key=len)
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
