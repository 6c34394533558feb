"""A SavedModel into a session of its own: graph, variables, assets, initialisation, by TensorFlow's own C++ loader."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from dpsr.ops_cc import library
from dpsr.serving.errors import ServableError, ServingError, status_code

try:  # it uses TensorFlow's libraries, which the import of its messages has loaded
    from dpsr.serving import _session as native
except ImportError as error:
    raise library.LibraryError(
        f"the server's native module cannot be loaded: {error}; build it: pip install --no-build-isolation -e ."
    ) from error

INIT_SIGNATURE = "__saved_model_init_op"
"""The signature that names the initialisation; it is not to be called."""

_SERVE = "serve"
_MISSING_OP = re.compile(r"Op type not registered '([^']+)'")
_VARINT, _LENGTH_DELIMITED = 0, 2
_META_GRAPHS = 2
"""Field of a ``SavedModel``."""
_LARGE_FIELDS = frozenset({2, 7})
"""Fields of a ``MetaGraphDef``: the graph, and the objects of the program that made it."""


def refuse_links_outside(path: Path, base: Path) -> None:
    """Fails when a file of a version is a link that leads out of the model's directory.

    Raises:
        ServableError: PERMISSION_DENIED, with the file.
    """
    root = base.resolve()
    for file in (path, *path.rglob("*")):
        if not file.resolve().is_relative_to(root):
            raise ServableError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"{file} leads to {file.resolve()}, outside of {root}; copy what a version needs into its directory",
            )


def load_session(path: Path) -> tuple[native.Session, meta_graph_pb2.MetaGraphDef]:
    """Loads a SavedModel, in a thread that gives way to whatever else runs, and without the GIL.

    Args:
        path: its directory.

    Returns:
        The initialised session, and what ``saved_model.pb`` says beside the graph.

    Raises:
        ServableError: it is no SavedModel, or needs an op that no loaded library has.
    """
    library.load_all()
    meta_graph = _read(path / "saved_model.pb")
    for asset in meta_graph.asset_file_def:
        _refuse_asset_outside(path, asset.filename)
    try:
        return native.Session(str(path), _session_config()), meta_graph
    except native.SessionError as error:
        raise _unusable(path, reported(error)) from None


def _session_config() -> bytes:
    """A run stays in the thread that asks for it: throughput comes from concurrent requests, not from splitting one."""
    config = config_pb2.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=-1)
    return bytes(config.SerializeToString())


def _read(file: Path) -> meta_graph_pb2.MetaGraphDef:
    """The graph's description without the graph, which may be large and which nobody looks at in Python."""
    found = []
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for meta_graph in (field for field in _fields(data, 0, len(data)) if field.number == _META_GRAPHS):
                small = (
                    data[field.begin : field.end]
                    for field in _fields(data, meta_graph.content, meta_graph.end)
                    if field.number not in _LARGE_FIELDS
                )
                described = meta_graph_pb2.MetaGraphDef.FromString(b"".join(small))
                if _SERVE in described.meta_info_def.tags:
                    return described
                found.append(sorted(described.meta_info_def.tags))
    except OSError as error:
        raise ServableError(grpc.StatusCode.NOT_FOUND, f"{file}: {error.strerror}; a version is a SavedModel") from None
    except (DecodeError, ValueError):
        raise ServableError(grpc.StatusCode.DATA_LOSS, f"{file}: damaged; publish the version again") from None
    raise ServableError(grpc.StatusCode.NOT_FOUND, f"{file}: no graph is tagged '{_SERVE}' (found: {found})")


class _Field(NamedTuple):
    """A field of a serialised message: its number, where it begins, where its content does, and where both end."""

    number: int
    begin: int
    content: int
    end: int


def _fields(data: mmap.mmap, begin: int, end: int) -> Iterator[_Field]:
    """The fields of a message in ``data[begin:end]``; ``ValueError`` where it is none of numbers and parts."""
    while begin < end:
        tag, content = _varint(data, begin)
        if tag & 7 == _VARINT:
            _, after = _varint(data, content)
        elif tag & 7 == _LENGTH_DELIMITED:
            length, content = _varint(data, content)
            after = content + length
        else:
            raise ValueError(f"wire type {tag & 7}")
        if after > end:
            raise ValueError("truncated")
        yield _Field(tag >> 3, begin, content, after)
        begin = after


def _varint(data: mmap.mmap, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if place >= len(data):
            raise ValueError("truncated")
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("no number")


def _refuse_asset_outside(path: Path, filename: str) -> None:
    folder = path / "assets"
    if not (folder / filename).resolve().is_relative_to(folder.resolve()):
        raise ServableError(
            grpc.StatusCode.PERMISSION_DENIED, f"{path}: asset {filename!r} is outside of the version's assets"
        )


def _unusable(path: Path, failure: ServingError) -> ServableError:
    missing = _MISSING_OP.search(failure.message)
    if missing is None:
        return ServableError(failure.code, f"{path}: cannot be loaded: {failure.message}")
    return ServableError(
        grpc.StatusCode.NOT_FOUND,
        f"{path}: op '{missing[1]}' is in none of the loaded op libraries ({library.LIBRARY}, ScaNN's); serve with "
        "the dpsr that exported this version, or export it again with this one",
    )


def reported(error: native.SessionError) -> ServingError:
    """What TensorFlow says, with its code; bytes of a request that are no text are written as escapes."""
    code, message = error.args
    return ServingError(status_code(code), message.decode("utf-8", errors="backslashreplace"))
