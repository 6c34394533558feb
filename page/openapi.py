"""The operations of the page's JSON API, and the OpenAPI document that is made from them.

As a program it writes ``docs/page_openapi.json``:

    python -m dpsr.page.openapi docs/page_openapi.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
from pydantic import Field
from pydantic.json_schema import models_json_schema

from dpsr.data.judgements.formats import FORMATS
from dpsr.data.judgements.records import BadCase, Book, Column, Judgement, Message, NewBadCase, Snapshot
from dpsr.page.contract import (
    BookReport,
    ExplainRequest,
    Explanation,
    Item,
    NewBook,
    NewSnapshot,
    SearchAnswer,
    SearchRequest,
    Shop,
    SnapshotDifference,
)

API_VERSION = "1"
JSON = "application/json"
BYTES = "application/octet-stream"


class Empty(Message):
    """Nothing to say but that it is done."""


class Error(Message):
    """What is wrong with a request, and what to do."""

    error: str


class Books(Message):
    """All books by name."""

    books: tuple[Book, ...]


class Judgements(Message):
    """Judgements of a book."""

    judgements: tuple[Judgement, ...]


class ReportRequest(Message):
    """Asks how columns do on a book."""

    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=20)]
    count: Annotated[int, Field(ge=10, le=1000)] = 100
    """Items of each list."""


class ItemsRequest(Message):
    """Asks what cards show of some items."""

    item_ids: Annotated[tuple[str, ...], Field(max_length=5000)]


class Items(Message):
    """The items; of one that the dataset lacks the title is its id."""

    items: dict[str, Item]


class Imported(Message):
    """What became of a file."""

    imported: int
    """Judgements that are kept."""
    rejected: tuple[str, ...]
    """What is wrong with the others, each with its line."""


class BadCases(Message):
    """The bad cases that are not withdrawn, oldest first."""

    bad_cases: tuple[BadCase, ...]


class Snapshots(Message):
    """All snapshots, oldest first."""

    snapshots: tuple[Snapshot, ...]


class Differences(Message):
    """The queries that two snapshots share, in every column."""

    differences: tuple[SnapshotDifference, ...]


class Operation(NamedTuple):
    """A method of a path, and what it takes and answers."""

    name: str
    """``operationId``, and the name of its handler."""
    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    """With ``{name}`` for a segment that varies."""
    summary: str
    answer: type[Message] | None
    """None: a file, or a document of JSON that is no message."""
    body: type[Message] | None = None
    query: tuple[str, ...] = ()
    """Names of parameters, the required ones with ``!``."""
    takes_file: bool = False


OPERATIONS = (
    Operation("openapi", "GET", "/api/openapi.json", "This document", None),
    Operation("shop", "GET", "/api/shop", "What the page has to know before the first query", Shop),
    Operation("search", "POST", "/api/search", "Lists of a query", SearchAnswer, SearchRequest, ("judge",)),
    Operation("explain", "POST", "/api/explain", "Why an item stands where it stands", Explanation, ExplainRequest),
    Operation("items", "POST", "/api/items", "What cards show of some items", Items, ItemsRequest),
    Operation("books", "GET", "/api/books", "All books", Books),
    Operation("add_book", "POST", "/api/books", "Makes a book", Book, NewBook),
    Operation("book", "GET", "/api/books/{book}", "A book", Book),
    Operation("remove_book", "DELETE", "/api/books/{book}", "Removes a book with its judgements", Empty),
    Operation(
        "judgements",
        "GET",
        "/api/books/{book}/judgements",
        "Judgements of a book",
        Judgements,
        query=("judge", "query"),
    ),
    Operation(
        "report",
        "POST",
        "/api/books/{book}/report",
        "Quality of columns, agreement of judges",
        BookReport,
        ReportRequest,
    ),
    Operation("export", "GET", "/api/books/{book}/export", "A file of judgements", None, query=("format!",)),
    Operation(
        "import_file",
        "POST",
        "/api/books/{book}/import",
        "Keeps the judgements of a file",
        Imported,
        query=("format!", "judge!"),
        takes_file=True,
    ),
    Operation(
        "judge", "PUT", "/api/judgements", "Keeps a judgement; on the disk before the answer", Judgement, Judgement
    ),
    Operation("bad_cases", "GET", "/api/bad_cases", "Bad cases that are not withdrawn", BadCases),
    Operation("report_bad_case", "POST", "/api/bad_cases", "Keeps a bad case", BadCase, NewBadCase),
    Operation("withdraw", "DELETE", "/api/bad_cases/{id}", "Withdraws a bad case", BadCase),
    Operation("snapshots", "GET", "/api/snapshots", "All snapshots", Snapshots),
    Operation("take_snapshot", "POST", "/api/snapshots", "Keeps the lists of a book's queries", Snapshot, NewSnapshot),
    Operation("remove_snapshot", "DELETE", "/api/snapshots/{id}", "Removes a snapshot", Empty),
    Operation(
        "differences",
        "GET",
        "/api/snapshots/{id}/difference/{other}",
        "What changed between two snapshots",
        Differences,
    ),
)
"""All of the API."""

_VARIABLE = re.compile(r"{(\w+)}")


def variables(path: str) -> list[str]:
    """The names of the segments of a path that vary."""
    return _VARIABLE.findall(path)


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    models = {each.answer: None for each in OPERATIONS} | {each.body: None for each in OPERATIONS} | {Error: None}
    wanted: list[tuple[type[pydantic.BaseModel], Literal["validation"]]] = [
        (model, "validation") for model in models if model is not None
    ]
    _, schemas = models_json_schema(wanted, ref_template="#/components/schemas/{model}")
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dpsr page",
            "version": API_VERSION,
            "description": "Search, compare, explain, judge and report, as the page of `dpsr page` does.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas["$defs"].items())),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "Where page.token_variable is set."}
            },
        },
        "security": [{}, {"bearer": []}],
    }


def _described(operation: Operation) -> dict[str, Any]:
    """The operation object."""
    text = {"type": "string"}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "integer"} if name != "book" else text}
        for name in variables(operation.path)
    ]
    for name in operation.query:
        schema = {"type": "string", "enum": list(FORMATS)} if name == "format!" else text
        parameters.append(
            {"name": name.removesuffix("!"), "in": "query", "required": name.endswith("!"), "schema": schema}
        )
    if operation.method != "GET":
        parameters.append(
            {"name": "x-dpsr-page", "in": "header", "required": True, "schema": {"type": "string", "const": "1"}}
        )
    found: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    if parameters:
        found["parameters"] = parameters
    if operation.takes_file:
        found["requestBody"] = {"required": True, "content": {BYTES: {}}}
    elif operation.body is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": _reference(operation.body)}}}
    answer: dict[str, Any] = {JSON: {"schema": _reference(operation.answer)}} if operation.answer else {"*/*": {}}
    error = {"description": "An error.", "content": {JSON: {"schema": _reference(Error)}}}
    found["responses"] = {"200": {"description": "Done.", "content": answer}, "4XX": error, "5XX": error}
    return found


def _reference(model: type[Message]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def text_of_document() -> str:
    """The document as a file."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(text_of_document(), encoding="utf-8")
