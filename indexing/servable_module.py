"""What every servable answers with, whatever its query tower is: searcher, filters and item ids."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dpsr.indexing.filters import Filters, stripped
from dpsr.indexing.searcher import Found, Queries, Searcher
from dpsr.indexing.shards import ByOrigin
from dpsr.indexing.signature import MODE_INPUT

_OP_NAMESPACES = ["Scann"]

Signature = tuple[Callable[..., dict[str, tf.Tensor]], dict[str, tf.TensorSpec]]
"""A function of tensors by name, and its inputs."""


class ServableModule(tf.Module):
    """Searcher, filters and item ids, and the signatures that a subclass traces over them."""

    def __init__(self, item_ids: np.ndarray, searcher: Searcher, filters: Filters) -> None:
        """Joins searcher, filters and ids.

        Args:
            item_ids: object (str) or int64 [items].
            searcher: finds these items, row by row.
            filters: over the same items; those of the searcher.
        """
        super().__init__(name="servable")
        self.filters = filters
        self.searcher = searcher
        self.release = self.searcher.release
        self.num_items = len(item_ids)
        self._id_dtype = tf.int64 if item_ids.dtype == np.int64 else tf.string
        self._no_item: int | bytes = -1 if self._id_dtype == tf.int64 else b""
        # As a variable: constants of a graph are limited to 2 GB.
        self._item_ids = tf.Variable(id_tensor(item_ids), trainable=False, name="item_ids")
        self._mode_table = None
        self._mode_specs = {}
        if modes := searcher.modes:
            self._mode_table = lookup_table(tf.constant([*modes]), [*modes.values()], default=0)
            self._mode_specs = {MODE_INPUT: tf.TensorSpec([None], tf.string, MODE_INPUT)}
        self._traced: dict[str, Any] = {}

    @property
    def item_id_type(self) -> str:
        """``int64`` or ``string``."""
        return self._id_dtype.name

    def save(self, path: Path) -> None:
        """Writes the SavedModel with its signatures."""
        options = tf.saved_model.SaveOptions(
            namespace_whitelist=_OP_NAMESPACES, experimental_sharding_callback=ByOrigin()
        )
        tf.saved_model.save(self, str(path), signatures=dict(self._traced), options=options)

    @abstractmethod
    def _queries(self, inputs: Mapping[str, tf.Tensor], mode: tf.Tensor | None = None) -> Queries:
        """The queries of a request; ``inputs`` by name are those of the signature ``serving_default``."""

    def _trace(self, query: dict[str, tf.TensorSpec], more: Mapping[str, Signature]) -> None:
        """Traces ``serving_default``, ``filtered`` where there are filters, and more signatures.

        Args:
            query: the inputs of a query.
            more: signatures by name. Filters and mode among their inputs may be left out by a request.
        """
        signatures: dict[str, Signature] = {
            "serving_default": (self._serve, query | self._mode_specs),
            **more,
        }
        if self.filters:
            signatures["filtered"] = (self._serve_filtered, query | self.filters.specs | self._mode_specs)
        defaults = self.filters.defaults | {MODE_INPUT: tf.constant([""])}
        self._traced = {
            name: _with_defaults(function, inputs, defaults) for name, (function, inputs) in signatures.items()
        }

    def _captured(self, resources: Iterable[Any]) -> list[Any]:
        """Of a model's variables, tables and assets all but the variables that no signature reads."""
        # Compared by handle: a kernel that reads a variable by its handle leaves no trace in the function's variables.
        used = {id(handle) for function in self._traced.values() for handle in _captured(function)}
        return [each for each in resources if not isinstance(each, tf.Variable) or id(each.handle) in used]

    def _serve(self, /, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._answer(self.searcher.search(self._queries(inputs, inputs.get(MODE_INPUT))))

    def _serve_filtered(self, /, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        filters = {name: inputs[name] for name in self.filters.specs}
        return self._retrieve(self._queries(inputs, inputs.get(MODE_INPUT)), filters)

    def _wanted(self, rows: tf.Tensor, mode: tf.Tensor | None) -> tf.Tensor | None:
        """The searchers that each of a request's rows asks for, int32 [B]; None without a choice."""
        if mode is None or self._mode_table is None:
            return None
        wanted = self._mode_table.lookup(stripped(mode))
        known = ", ".join(filter(None, self.searcher.modes))
        unknown = tf.debugging.Assert(
            tf.reduce_all(wanted > 0), [f"input {MODE_INPUT} has to be one of {known}:", mode]
        )
        with tf.control_dependencies([unknown]):
            return tf.broadcast_to(wanted, [rows])

    def _retrieve(self, queries: Queries, filters: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The k best items that match the filters, and how many fewer than k were found."""
        if filters:
            wanted = self.filters.requested(filters, tf.shape(queries.texts)[0])
            found = self.searcher.search_matching(queries, wanted)
        else:
            found = self.searcher.search(queries)
        missing = tf.reduce_sum(tf.cast(found.rows < 0, tf.int32), axis=1)
        return {**self._answer(found), "shortfall": missing}

    def _answer(self, found: Found) -> dict[str, tf.Tensor]:
        ids = tf.gather(self._item_ids.read_value(), tf.maximum(found.rows, 0))
        item_id = tf.where(found.rows >= 0, ids, self._no_item)
        return {"item_id": item_id, "score": found.scores, "head": found.heads, "source": found.sources}


class TowerModule(ServableModule):
    """A servable with a query tower, which the signature ``embed_query`` asks alone."""

    @abstractmethod
    def _heads(self, queries: Queries) -> tf.Tensor:
        """The query tower, float32 [B, m, d]."""

    def _trace(self, query: dict[str, tf.TensorSpec], more: Mapping[str, Signature]) -> None:
        super()._trace(query, {"embed_query": (self._embed, query), **more})

    def _embed(self, /, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"heads": self._heads(self._queries(inputs))}


def _with_defaults(
    function: Callable[..., dict[str, tf.Tensor]], inputs: dict[str, tf.TensorSpec], defaults: dict[str, tf.Tensor]
) -> Any:
    """A function of tensors whose saved signature says which inputs a request may leave out, and what they are then."""
    names = sorted(inputs, key=lambda name: name in defaults)

    def by_name(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return function(**dict(zip(names, tensors, strict=True)))

    specs = [inputs[name] for name in names]
    # TensorFlow traces a signature again when it is saved: what it traces then is one call.
    traced = tf.function(by_name, input_signature=specs, autograph=False).get_concrete_function()

    def call(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        answer: dict[str, tf.Tensor] = traced(*tensors)
        return answer

    # TensorFlow takes the names and the defaults from here.
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=defaults.get(name, inspect.Parameter.empty),
            )
            for name in names
        ]
    )
    return tf.function(call, input_signature=specs, autograph=False)


def _captured(function: Any) -> Sequence[tf.Tensor]:
    return function.get_concrete_function().captured_inputs


def id_tensor(ids: np.ndarray) -> tf.Tensor:
    """Item ids, object (str) or int64 [n], as string or int64 [n]."""
    return tf.constant(ids) if ids.dtype == np.int64 else tf.constant(ids.tolist(), tf.string)


def lookup_table(keys: tf.Tensor, values: Sequence[int] | np.ndarray, *, default: int) -> tf.lookup.StaticHashTable:
    """A table of int32 values."""
    initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.constant(values, tf.int32))
    return tf.lookup.StaticHashTable(initializer, default)
