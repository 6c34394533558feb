"""Bodies of HTTP requests: read within a time, decompressed within a size."""

from __future__ import annotations

import asyncio
import zlib

from aiohttp import HttpVersion11, web

from dpsr.serving.api.decoding import Decoder
from dpsr.serving.api.http_server import HttpError

BODY_SECONDS = 30.0
"""A body has to arrive within this time."""

_WINDOW_BITS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
_ACCEPTED = {"Accept-Encoding": "gzip, deflate"}


async def read_body(request: web.BaseRequest, max_bytes: int, decoder: Decoder) -> bytes:
    """The decompressed body of a request.

    Args:
        request: the request.
        max_bytes: limit of the body, before and after decompression.
        decoder: decompresses in a thread.

    Raises:
        HttpError: 400 damaged, 408 too slow, 413 too large, 415 of an unknown encoding, 417 unknown expectation.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in _WINDOW_BITS and encoding not in ("identity", ""):
        raise HttpError(
            415,
            f"Content-Encoding {encoding[:40]!r} is not supported; expected gzip, deflate or none",
            headers=_ACCEPTED,
            close=True,
        )
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    await _confirm_expectation(request)
    try:
        body = await asyncio.wait_for(request.read(), BODY_SECONDS)
    except TimeoutError:
        raise HttpError(408, f"the body did not arrive within {BODY_SECONDS:g} s", close=True) from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(max_bytes) from None
    except web.RequestPayloadError as error:
        raise HttpError(400, f"malformed body: {error}", close=True) from None
    if encoding not in _WINDOW_BITS:
        return body
    return await decoder.run(lambda: _decompress(body, encoding, max_bytes))


async def _confirm_expectation(request: web.BaseRequest) -> None:
    """Answers ``Expect: 100-continue``, for which clients with large bodies wait before they send."""
    expectation = request.headers.get("Expect")
    if expectation is None or request.version < HttpVersion11:
        return
    if expectation.lower() != "100-continue":
        raise HttpError(417, f"Expect: {expectation[:40]!r} is not supported; expected 100-continue", close=True)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer itself has not begun


def _decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    bits = _WINDOW_BITS[encoding]
    if encoding == "deflate" and body and body[0] & 0xF != zlib.DEFLATED:
        bits = -zlib.MAX_WBITS  # without zlib's header, as some clients send it
    stream = zlib.decompressobj(bits)
    try:
        data = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise HttpError(400, f"the body is not valid {encoding}: {error}") from None
    if len(data) > max_bytes:
        raise _too_large(max_bytes)
    if not stream.eof or stream.unused_data:
        what = "is cut off" if not stream.eof else "has further bytes after its end"
        raise HttpError(400, f"the body is not valid {encoding}: it {what}")
    return data


def _too_large(max_bytes: int) -> HttpError:
    return HttpError(
        413, f"the body exceeds {max_bytes} bytes (serving.max_message_bytes); send several requests", close=True
    )
