"""Warm-up requests in TF Serving's format, which a server replays before a version becomes available."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
"""Relative to the version directory."""


def write_warmup_requests(path: Path, requests: Sequence[PredictRequest]) -> None:
    """Writes a TFRecord of PredictionLog, one for each request."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            writer.write(PredictionLog(predict_log=PredictLog(request=request)).SerializeToString())


def predict_request(model: str, signature: str, inputs: Mapping[str, np.ndarray]) -> PredictRequest:
    """A Predict request of a model's signature.

    Args:
        model: the model's name, as a server knows it.
        signature: the signature's key.
        inputs: an array for each input; strings as object or bytes arrays.
    """
    request = PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    return request
