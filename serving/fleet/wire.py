"""TensorFlow Serving's messages that a controller needs, without TensorFlow, whose import takes seconds and 400 MB.

The stock modules (``tensorflow_serving.apis``) import TensorFlow. These messages have the same field numbers, hence the
same bytes on the wire and the same text format; fields that a controller never touches are left out.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

STATES = {0: "UNKNOWN", 10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}
"""``ModelVersionStatus.State`` by number."""

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "tensorflow.serving"
# message -> field -> (number, type; a message of this list, or a type of protobuf; repeated)
_MESSAGES: dict[str, dict[str, tuple[int, str | int, bool]]] = {
    "ModelSpec": {"name": (1, _Field.TYPE_STRING, False)},
    "StatusProto": {"error_code": (1, _Field.TYPE_INT32, False), "error_message": (2, _Field.TYPE_STRING, False)},
    "GetModelStatusRequest": {"model_spec": (1, "ModelSpec", False)},
    "ModelVersionStatus": {
        "version": (1, _Field.TYPE_INT64, False),
        "state": (2, _Field.TYPE_INT32, False),
        "status": (3, "StatusProto", False),
    },
    "GetModelStatusResponse": {"model_version_status": (1, "ModelVersionStatus", True)},
    "ModelConfig": {
        "name": (1, _Field.TYPE_STRING, False),
        "base_path": (2, _Field.TYPE_STRING, False),
        "model_platform": (4, _Field.TYPE_STRING, False),
    },
    "ModelConfigList": {"config": (1, "ModelConfig", True)},
    "ModelServerConfig": {"model_config_list": (1, "ModelConfigList", False)},
}


def _message_types() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="dpsr/fleet.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            entry = message.field.add(name=field, number=number)
            entry.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if isinstance(kind, str):
                entry.type, entry.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                entry.type = kind
    pool = descriptor_pool.DescriptorPool()  # of its own: the stock modules may be imported beside this one
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_TYPES = _message_types()
GetModelStatusRequest = _TYPES["GetModelStatusRequest"]
GetModelStatusResponse = _TYPES["GetModelStatusResponse"]
ModelServerConfig = _TYPES["ModelServerConfig"]
GET_MODEL_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
