"""Checks of an increment: its columns and its times fit the dataset that it is appended to."""

from __future__ import annotations

from typing import Any

from dpsr.config import DataConfig
from dpsr.data.dataset.schema import SPLITS, DatasetError
from dpsr.data.dataset.tables import Dataset
from dpsr.data.prepare.log import Log


def check_same_inputs(data: DataConfig, before: Dataset) -> None:
    """Checks that the columns of the configuration are those of the dataset, and that both have a log.

    Raises:
        DatasetError: they differ.
    """
    if not before.has_log:
        raise DatasetError(
            f"{before.directory}: was prepared without a log, on synthetic queries; run `dpsr prepare` without "
            "--append to prepare a log"
        )
    if data.interactions is None:
        raise DatasetError(
            f"data.interactions is missing, and {before.directory} has a log; set it to the file of the new "
            "interactions"
        )
    schema = before.schema
    for key, found, expected in (
        ("data.items.text", data.items.text, schema.text),
        ("data.items.categorical and numeric", [*data.items.categorical, *data.items.numeric], schema.categorical),
        ("data.users.profile", data.users.profile if data.users else [], schema.profile),
    ):
        if list(found) != list(expected):
            raise DatasetError(
                f"{before.directory}: was prepared with {key} = {list(expected)}, found {list(found)}; an increment "
                "needs the same columns: run `dpsr prepare` without --append"
            )


def check_new_times(log: Log, before: Dataset) -> None:
    """Checks that the log begins after the dataset ends; a log without times passes.

    Raises:
        DatasetError: the log begins earlier, or its times are of another unit.
    """
    time = before.manifest["time"]
    if log.clock.unit != time["unit"]:
        raise DatasetError(f"interactions: times are of unit {log.clock.unit}, those of the dataset of {time['unit']}")
    last = max(span[1] for name in SPLITS if (span := time[name]))
    if log.clock.unit == "row" or not log.accepted:
        return
    first = log.clock.text(log.first_time)
    if later_time(last, None) == later_time(last, [first, first]):
        raise DatasetError(
            f"interactions: the log begins at {first}, but the dataset goes to {last}; an increment holds later "
            "interactions only: filter the log, or run `dpsr prepare` on all of it without --append"
        )


def later_time(time: Any, span: Any) -> Any:
    """The later of a time and the end of a span, both as the manifest has them (ISO 8601 in UTC, or integers)."""
    return time if span is None else max(time, span[1])
