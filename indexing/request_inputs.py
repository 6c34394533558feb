"""The inputs of a servable of a prepared dataset: a query, and what a client knows of its user."""

from __future__ import annotations

import tensorflow as tf

from dpsr.data.dataset.schema import Schema
from dpsr.indexing.signature import profile_inputs


def query_specs() -> dict[str, tf.TensorSpec]:
    """The input of every signature, string [B]."""
    return {"query": tf.TensorSpec([None], tf.string, "query")}


def user_specs(schema: Schema) -> dict[str, tf.TensorSpec]:
    """The inputs that ``personalized`` has beside it, whatever reads them.

    Args:
        schema: of the dataset: its profile columns, string [B] each, and the type of the ids in ``history`` [B, H].

    Raises:
        ExportError: a profile column has the name of another input; see ``profile_inputs``.
    """
    names = profile_inputs(schema.profile).values()
    profile = {name: tf.TensorSpec([None], tf.string, name) for name in names}
    id_type = tf.int64 if schema.item_id_type == "int64" else tf.string
    return profile | {"history": tf.TensorSpec([None, None], id_type, "history")}
