"""A trained model as it is indexed and served: its transformers read packed weights, in one operation each."""

from __future__ import annotations

from typing import Any, cast

import tensorflow as tf

from dpsr.data.batches.features import ItemFeatures, QueryFeatures
from dpsr.model.interface import Model
from dpsr.model.text_encoders.transformer import TransformerEncoder
from dpsr.model.tower_inputs import encoders_of
from dpsr.model.two_tower import ModelWeights, TwoTower
from dpsr.ops_cc.packed_encoder import Precision


class InferenceModel(tf.Module):
    """The towers of a trained model over packed transformers."""

    def __init__(self, model: TwoTower, precision: Precision) -> None:
        """Packs copies of the transformers' weights.

        Args:
            model: what has no transformer of it is read in place.
            precision: of the transformers' matrices.
        """
        super().__init__()
        self._model = model
        self.config = model.config
        self.schema = model.schema
        self.has_history = model.has_history
        self.item_encoders = model.item_encoders
        weights, encoders = model.weights, encoders_of(model.query_inputs, model.item_inputs)
        self._texts: dict[str, Any] = {}
        for name, of_encoder in weights.texts.items():
            encoder = encoders[name]
            if isinstance(encoder, TransformerEncoder):
                of_encoder = encoder.pack(of_encoder, precision)
            self._texts[name] = of_encoder

    @property
    def _weights(self) -> ModelWeights:
        return self._model.weights._replace(texts=dict(self._texts))

    def query_heads(self, queries: QueryFeatures) -> tf.Tensor:
        """As ``Model.query_heads``."""
        model = self._model
        return model.project_query(queries, model.lookup(model.query_inputs.bags(queries)), self._weights)

    def item_vectors(self, items: ItemFeatures) -> tf.Tensor:
        """As ``Model.item_vectors``."""
        model = self._model
        return model.project_item(items, model.lookup(model.item_inputs.bags(items)), self._weights)


def for_inference(model: Model, precision: Precision = "float32") -> Model:
    """The fastest model with the same vectors: one with its transformers packed, and else the model itself."""
    if isinstance(model, TwoTower) and model.config.reads_subwords:
        return cast(Model, InferenceModel(model, precision))
    return model
