"""Warm-up: the requests in a version's ``assets.extra`` run before the version serves.

They also decide which signatures' requests may share runs (``LoadedModel.rows_are_independent``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import grpc
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from dpsr.serving.engine.loaded_model import Call, LoadedModel
from dpsr.serving.errors import ServableError, ServingError

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_WARMUP_RECORDS = 1000

_log = logging.getLogger(__name__)


def warm_up(model: LoadedModel) -> int:
    """Runs the warm-up requests of a version.

    Returns:
        The number of requests; 0 without a file.

    Raises:
        ServableError: a record cannot be read, holds no predict request, or fails; or the file has more than 1000.
    """
    path = model.path / WARMUP_FILE
    if not path.exists():
        _log.info("%s has no %s: its first requests will be slow, and each runs alone", model.path, WARMUP_FILE)
        return 0
    number = 0
    calls: dict[str, list[Call]] = {}
    for number, record in enumerate(_records(path), start=1):
        try:
            call = model.prepare(record.predict_log.request)
            model.run(call, in_background=True)
        except ServingError as error:
            raise ServableError(error.code, f"{path}: warm-up request {number} failed: {error.message}") from error
        examples = calls.setdefault(call.signature.name, [])
        if len(examples) < 2 and len(call.outputs) == len(call.signature.outputs):
            examples.append(call)
    for name, examples in calls.items():
        if examples:
            _allow_sharing(model, name, examples)
    return number


def _allow_sharing(model: LoadedModel, name: str, examples: list[Call]) -> None:
    reason = model.rows_are_independent(examples[0], examples[-1])
    if reason is None:
        model.independent_rows.add(name)
    else:
        _log.info("%s: requests of signature %s do not share runs: %s", model.path, name, reason)


def _records(path: Path) -> Iterator[prediction_log_pb2.PredictionLog]:
    records = tf.data.TFRecordDataset([str(path)]).as_numpy_iterator()
    number = 0
    while True:
        try:
            data = next(records)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            raise ServableError(
                grpc.StatusCode.DATA_LOSS,
                f"{path}: record {number + 1} cannot be read: {error.message}. Please verify your warmup data is in "
                "TFRecord format.",
            ) from None
        number += 1
        if number > MAX_WARMUP_RECORDS:
            raise ServableError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"Number of warmup records exceeds the maximum ({MAX_WARMUP_RECORDS}) at {path}",
            )
        yield _parse(path, number, data)


def _parse(path: Path, number: int, data: bytes) -> prediction_log_pb2.PredictionLog:
    try:
        record = prediction_log_pb2.PredictionLog.FromString(data)
    except DecodeError:
        raise ServableError(
            grpc.StatusCode.INVALID_ARGUMENT, f"Failed to parse warmup record: record {number} from {path}"
        ) from None
    kind = record.WhichOneof("log_type")
    if kind != "predict_log":
        raise ServableError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"{path}: record {number} is {kind or 'empty'}; only predict requests (predict_log) are "
            "supported; export the version again",
        )
    return record
