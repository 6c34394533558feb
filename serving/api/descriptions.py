"""Descriptions of models that gRPC and REST share: signatures and states of versions."""

from __future__ import annotations

from typing import Any

from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from dpsr.serving.api.predictor import ModelSpec
from dpsr.serving.engine.loaded_model import LoadedModel
from dpsr.serving.manager.models import Models

SIGNATURE_FIELD = "signature_def"
"""The one metadata field that exists."""


def signature_metadata(model: LoadedModel) -> Any:
    """``GetModelMetadataResponse`` of a version."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = model.name
    response.model_spec.version.value = model.version
    response.metadata[SIGNATURE_FIELD].Pack(model.signature_map)
    return response


def model_status(models: Models, spec: ModelSpec) -> Any:
    """``GetModelStatusResponse`` of a model or of one of its versions.

    Raises:
        ServingError: the model, the version or the label is unknown.
    """
    name, version, label = spec
    response = get_model_status_pb2.GetModelStatusResponse()
    for number, state in models.states(name, version if label is None else models.version_of(name, label)).items():
        status = response.model_version_status.add(version=number, state=state.state)
        status.status.error_code = state.error.code.value[0] if state.error else 0
        status.status.error_message = state.error.message if state.error else ""
    return response
