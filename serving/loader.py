"""A SavedModel into a session of its own: graph, variables, assets, initialisation, as TensorFlow's C++ loader does."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from dpsr.ops_cc import library
from dpsr.serving.errors import ServableError, status_code

INIT_SIGNATURE = "__saved_model_init_op"
"""The signature that names the initialisation; it is not to be called."""

_SERVE = tf.saved_model.SERVING
_MISSING_OP = re.compile(r"Op type not registered '([^']+)'")


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


def load_session(path: Path) -> tuple[tf.compat.v1.Session, meta_graph_pb2.MetaGraphDef]:
    """Loads a SavedModel.

    Args:
        path: its directory.

    Returns:
        The initialised session, and what ``saved_model.pb`` says about the graph.

    Raises:
        ServableError: it is no SavedModel, or needs an op that no loaded library has.
    """
    library.load_all()
    meta_graph = _read(path / "saved_model.pb")
    session = tf.compat.v1.Session(graph=tf.Graph(), config=_session_config())
    try:
        with session.graph.as_default():
            tf.import_graph_def(meta_graph.graph_def, name="")
        _initialise(session, meta_graph, path)
    except Exception as error:  # import_graph_def alone raises half a dozen kinds
        session.close()
        missing = _MISSING_OP.search(str(error))
        if missing is None:
            raise _unusable(path, error) from error
        raise ServableError(
            grpc.StatusCode.NOT_FOUND,
            f"{path}: op '{missing[1]}' is in none of the loaded op libraries ({library.LIBRARY}, ScaNN's); serve with "
            "the dpsr that exported this version, or export it again with this one",
        ) from error
    return session, meta_graph


def _session_config() -> tf.compat.v1.ConfigProto:
    """One thread per op and two per run: throughput comes from concurrent requests, not from splitting one."""
    return tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=1, inter_op_parallelism_threads=2, use_per_session_threads=True
    )


def _read(file: Path) -> meta_graph_pb2.MetaGraphDef:
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except OSError as error:
        raise ServableError(grpc.StatusCode.NOT_FOUND, f"{file}: {error.strerror}; a version is a SavedModel") from None
    except DecodeError:
        raise ServableError(grpc.StatusCode.DATA_LOSS, f"{file}: damaged; publish the version again") from None
    for meta_graph in saved_model.meta_graphs:
        if _SERVE in meta_graph.meta_info_def.tags:
            return meta_graph
    found = [sorted(meta_graph.meta_info_def.tags) for meta_graph in saved_model.meta_graphs]
    raise ServableError(grpc.StatusCode.NOT_FOUND, f"{file}: no graph is tagged '{_SERVE}' (found: {found})")


def _initialise(session: tf.compat.v1.Session, meta_graph: meta_graph_pb2.MetaGraphDef, path: Path) -> None:
    feeds = {asset.tensor_info.name: _asset(path, asset.filename) for asset in meta_graph.asset_file_def}
    saver = meta_graph.saver_def
    if saver.restore_op_name and (path / "variables").is_dir():
        variables = str(path / "variables" / "variables")
        session.run(saver.restore_op_name, {**feeds, saver.filename_tensor_name: variables})
    if INIT_SIGNATURE in meta_graph.signature_def:
        (info,) = meta_graph.signature_def[INIT_SIGNATURE].outputs.values()
        session.run(info.name, feeds)


def _asset(path: Path, filename: str) -> str:
    folder = path / "assets"
    if not (folder / filename).resolve().is_relative_to(folder.resolve()):
        raise ServableError(
            grpc.StatusCode.PERMISSION_DENIED, f"{path}: asset {filename!r} is outside of the version's assets"
        )
    return str(folder / filename)


def _unusable(path: Path, error: Exception) -> ServableError:
    if isinstance(error, ServableError):
        return error
    if isinstance(error, tf.errors.OpError):
        return ServableError(status_code(error.error_code), f"{path}: cannot be loaded: {first_cause(error)}")
    return ServableError(grpc.StatusCode.UNKNOWN, f"{path}: cannot be loaded: {type(error).__name__}: {error}")


def first_cause(error: tf.errors.OpError) -> str:
    """An op's own text, without the stack of the Python code that once built the graph."""
    message = error.message.removeprefix("Graph execution error:").strip()
    parts = re.split(r"\n\s*(?:Errors may have originated|Original stack trace|Detected at node)", message)
    return parts[0].strip()
