"""Loads the TensorFlow op libraries, after checking that they fit what is installed."""

from __future__ import annotations

import functools
import importlib.metadata
import re
from pathlib import Path
from types import ModuleType

from dpsr.errors import DpsrError

LIBRARY = Path(__file__).with_name("_dpsr_ops.so")

_BUILD_AGAIN = "pip install --no-deps --no-build-isolation --force-reinstall ."


class LibraryError(DpsrError, ImportError):
    """A native library that is not built, or does not fit what is installed; the message says what to do."""


@functools.cache
def load() -> ModuleType:
    """Loads the ops of this package, once.

    Returns:
        The module of generated functions, such as ``dpsr_tokenize``.

    Raises:
        LibraryError: the library is missing, or was compiled against another TensorFlow; the message names both
            versions and what to do.
    """
    _check_build()
    _require("protobuf", "6", "TensorFlow Serving's stubs do not import with another")
    import tensorflow as tf

    try:
        return tf.load_op_library(str(LIBRARY))
    except tf.errors.NotFoundError as error:
        raise LibraryError(f"{LIBRARY}: cannot be loaded: {error.message}; build it again: {_BUILD_AGAIN}") from error


@functools.cache
def load_all() -> None:
    """Loads every op that a servable may use: those of ``load``, and ScaNN's.

    Raises:
        LibraryError: as ``load``; or ScaNN is not the version whose ops fit this TensorFlow.
    """
    load()
    _require("scann", "1.4.2", "its TensorFlow ops load with TensorFlow 2.20 only in this version")
    from scann.scann_ops.py import scann_ops  # noqa: F401  (registers the ops)


def _check_build() -> None:
    if not LIBRARY.exists():
        raise LibraryError(f"{LIBRARY}: the op library is not built; run: pip install --no-build-isolation -e .")
    from dpsr.ops_cc import _build_info

    compiled_against = _build_info.TENSORFLOW_VERSION
    installed = _installed("tensorflow")
    if _minor(installed) != _minor(compiled_against):
        raise LibraryError(
            f"{LIBRARY} was compiled against TensorFlow {compiled_against}, but TensorFlow {installed} is installed; "
            f"install tensorflow=={_minor(compiled_against)}.*, or build against the installed one: {_BUILD_AGAIN}"
        )


def _require(distribution: str, release: str, why: str) -> None:
    installed = _installed(distribution)
    if not f"{installed}.".startswith(f"{release}."):
        raise LibraryError(
            f"{distribution} {installed} is installed, expected {release}.*: {why}; "
            f"run: pip install '{distribution}=={release}.*'"
        )


def _installed(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise LibraryError(f"{distribution} is not installed; run: pip install {distribution}") from None


def _minor(version: str) -> str:
    """``2.20`` of ``2.20.1``: what the binary interface of TensorFlow depends on."""
    match = re.match(r"\d+\.\d+", version)
    return match[0] if match else version
