"""Loading of a SavedModel into a session of its own, by TensorFlow's C++: graph, variables, assets, initialisation."""

from __future__ import annotations

import functools
import importlib
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2

from dpsr.ops_cc import library
from dpsr.serving.errors import ServableError, ServingError, status_code

if TYPE_CHECKING:
    from dpsr.serving.engine import _session

INIT_SIGNATURE = "__saved_model_init_op"
"""Signature of the initialisation op; clients cannot call it."""

_SERVE = "serve"
_MISSING_OP = re.compile(r"Op type not registered '([^']+)'")
_VARINT, _LENGTH_DELIMITED = 0, 2
_META_GRAPHS = 2
"""Field of a ``SavedModel``."""
_LARGE_FIELDS = frozenset({2, 7})
"""Fields of a ``MetaGraphDef``: the graph, and the object graph of the exporting program."""


@functools.cache
def native() -> Any:
    """The module ``_session``, imported with the first model: it uses the libraries that TensorFlow's import loads.

    Raises:
        LibraryError: it is not built, or not for this Python.
    """
    try:
        return importlib.import_module("dpsr.serving.engine._session")
    except ImportError as error:
        raise library.LibraryError(
            f"the server's native module cannot be loaded: {error}; build it: "
            "pip install --no-build-isolation -e . (or python setup.py build_ext --inplace)"
        ) from error


def refuse_links_outside(path: Path, base: Path) -> None:
    """Refuses a version with a link that leads out of the model's directory.

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


def load_session(path: Path) -> tuple[_session.Session, meta_graph_pb2.MetaGraphDef]:
    """Loads a SavedModel without the GIL, in a thread of low priority.

    Args:
        path: directory of the SavedModel.

    Returns:
        The initialised session, and the description of its signatures and assets without the graph.

    Raises:
        ServableError: the directory holds no SavedModel, or the graph needs an op that no loaded library has.
    """
    library.load_all()
    meta_graph = _read(path / "saved_model.pb")
    for asset in meta_graph.asset_file_def:
        _refuse_asset_outside(path, asset.filename)
    try:
        return native().Session(str(path), _session_config()), meta_graph
    except native().SessionError as error:
        raise _unusable(path, reported(error)) from None


def _session_config() -> bytes:
    """Serialised ``ConfigProto``.

    A run stays in the calling thread, since requests run beside each other already. Graphs are optimised in one round
    in place of two: runs take as long, and a version loads sooner, since each of its signatures is optimised alone.
    """
    config = config_pb2.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=-1)
    config.graph_options.rewrite_options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    return bytes(config.SerializeToString())


def _read(file: Path) -> meta_graph_pb2.MetaGraphDef:
    """Description of the graph tagged ``serve``; the graph itself, up to gigabytes, is not parsed in Python."""
    tags = []
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
                tags.append(sorted(described.meta_info_def.tags))
    except OSError as error:
        raise ServableError(grpc.StatusCode.NOT_FOUND, f"{file}: {error.strerror}; a version is a SavedModel") from None
    except (DecodeError, ValueError):
        raise ServableError(grpc.StatusCode.DATA_LOSS, f"{file}: damaged; publish the version again") from None
    raise ServableError(grpc.StatusCode.NOT_FOUND, f"{file}: no graph is tagged '{_SERVE}' (tags found: {tags})")


class _Field(NamedTuple):
    """Field of a serialised message: its number, and the offsets of its tag, its content and its end."""

    number: int
    begin: int
    content: int
    end: int


def _fields(data: mmap.mmap, begin: int, end: int) -> Iterator[_Field]:
    """Fields of the message in ``data[begin:end]``; ``ValueError`` for one that is damaged."""
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


def _varint(data: mmap.mmap, offset: int) -> tuple[int, int]:
    """Value of the number at an offset, and the offset after it."""
    value = 0
    for shift in range(0, 64, 7):
        if offset >= len(data):
            raise ValueError("truncated")
        byte = data[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, offset
    raise ValueError("a number of more than ten bytes")


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


def reported(error: _session.SessionError) -> ServingError:
    """TensorFlow's error with its code; bytes of a request that are not UTF-8 are written as escapes."""
    code, message = error.args
    return ServingError(status_code(code), message.decode("utf-8", errors="backslashreplace"))
