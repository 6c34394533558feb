"""A request of the API: its operation, and its checked parameters and body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote

import pydantic
import pydantic_core
from aiohttp import web

from dpsr.data.judgements.formats import FORMATS, Format
from dpsr.data.judgements.records import Message, Name, Query
from dpsr.page.openapi import BYTES, JSON, OPERATIONS, Operation
from dpsr.serving.api.decoding import Decoder
from dpsr.serving.api.http_body import read_body
from dpsr.serving.api.http_server import HttpError

MAX_JSON_BYTES = 8 << 20
MAX_FILE_BYTES = 64 << 20
M = TypeVar("M", bound=Message)

_LONGEST_ERROR = 2000
_NAME, _QUERY = pydantic.TypeAdapter(Name), pydantic.TypeAdapter(Query)
_ID = re.compile(r"[0-9]{1,18}", re.ASCII)
_BY_SEGMENTS = [(operation.path.split("/"), operation) for operation in OPERATIONS]


class Call(NamedTuple):
    """What is asked."""

    operation: Operation
    segments: Mapping[str, str]
    parameters: Mapping[str, str]
    body: bytes

    def message(self, kind: type[M]) -> M:
        """The body as a message.

        Raises:
            HttpError: 400, with what is wrong.
        """
        try:
            # NaN and Infinity are not JSON, and no text of SQLite or gRPC may hold a lone surrogate.
            tree = pydantic_core.from_json(self.body, allow_inf_nan=False)
        except ValueError as error:
            raise HttpError(400, f"the body is not JSON: {error}") from None
        try:
            return kind.model_validate(tree)
        except pydantic.ValidationError as error:
            raise HttpError(400, _told(error)) from None

    @property
    def book(self) -> str:
        """The name of the book."""
        return self.segments["book"]

    def number(self, segment: str) -> int:
        """The number of a segment of the path.

        Raises:
            HttpError: 404, it is none.
        """
        if not _ID.fullmatch(self.segments[segment]):
            raise HttpError(404, f"{self.segments[segment][:100]!r} is no number")
        return int(self.segments[segment])

    def name(self, parameter: str) -> str | None:
        """A parameter that is a name; None where it is empty or not given.

        Raises:
            HttpError: 400, it is too long.
        """
        return self._checked(_NAME, parameter)

    def query(self) -> str | None:
        """The parameter ``query``; None where it is empty or not given.

        Raises:
            HttpError: 400, it is too long.
        """
        return self._checked(_QUERY, "query")

    def format(self) -> Format:
        """The parameter ``format``.

        Raises:
            HttpError: 400, it is none of the known ones.
        """
        given = self.parameters["format"]
        for format in FORMATS:
            if given == format:
                return format
        raise HttpError(400, f"format={given[:100]!r} is unknown; expected {', '.join(FORMATS)}")

    def _checked(self, kind: pydantic.TypeAdapter[str], parameter: str) -> str | None:
        given = self.parameters.get(parameter)
        if not given:
            return None
        try:
            return kind.validate_python(given)
        except pydantic.ValidationError as error:
            raise HttpError(400, f"{parameter}: {error.errors()[0]['msg']}") from None


def find_operation(request: web.BaseRequest) -> tuple[Operation, dict[str, str]]:
    """The operation of a request, and the segments of its path that vary.

    Raises:
        HttpError: 400 a path that is not UTF-8; 404 and 405.
    """
    try:
        # Split before decoding: a name may hold a slash.
        given = [unquote(segment, errors="strict") for segment in request.rel_url.raw_path.split("/")]
    except UnicodeDecodeError:
        raise HttpError(400, "the path is not UTF-8") from None
    methods = []
    for segments, operation in _BY_SEGMENTS:
        if len(segments) != len(given):
            continue
        values = {}
        for expected, found in zip(segments, given, strict=True):
            if expected.startswith("{"):
                values[expected.strip("{}")] = found
            elif expected != found:
                break
        else:
            if operation.method == request.method:
                return operation, values
            methods.append(operation.method)
    if methods:
        raise HttpError(405, f"expected {' or '.join(methods)}", headers={"Allow": ", ".join(methods)}, close=True)
    raise HttpError(404, "no operation has this path; /api/openapi.json lists them", close=True)


def content_type(operation: Operation) -> str:
    """What the body of a request has to be."""
    return BYTES if operation.takes_file else JSON


async def read_call(
    request: web.BaseRequest, operation: Operation, segments: Mapping[str, str], decoder: Decoder
) -> Call:
    """Reads parameters and body.

    Raises:
        HttpError: 400 a parameter is unknown, missing, given twice or not UTF-8; 408, 413 and 415 of the body.
    """
    known = {name.removesuffix("!"): name.endswith("!") for name in operation.query}
    try:
        pairs = parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError:
        raise HttpError(400, "the parameters are not UTF-8, or too many", close=True) from None
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise HttpError(400, f"unknown parameter {name[:100]!r} (known: {', '.join(known) or 'none'})", close=True)
        if name in parameters:
            raise HttpError(400, f"parameter {name} is given twice", close=True)
        parameters[name] = value
    for name, required in known.items():
        if required and not parameters.get(name):
            raise HttpError(400, f"parameter {name} is missing", close=True)
    body = b""
    if operation.method != "GET":
        limit = MAX_FILE_BYTES if operation.takes_file else MAX_JSON_BYTES
        body = await read_body(request, limit, decoder)
        if len(body) > limit:  # one that came in chunks, without its length
            raise HttpError(413, f"the body has more than {limit} bytes", close=True)
    return Call(operation, segments, parameters, body)


def _told(error: pydantic.ValidationError) -> str:
    """What is wrong with a body, in one line."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    texts = [f"{'.'.join(str(part)[:100] for part in each['loc'])}: {each['msg']}" for each in problems[:5]]
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return shortened("; ".join(texts) + more)


def shortened(text: str) -> str:
    """An error's text, which may quote what was sent, at a length that people read."""
    return text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]} ..."
