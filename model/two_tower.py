"""The two-tower model: embedding tables, the inputs that read them, and two towers of dense layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from dpsr.config import ModelConfig
from dpsr.data.batches.arrays import graph_array
from dpsr.data.batches.features import TITLE_TOKENS, ItemFeatures, QueryFeatures
from dpsr.data.dataset.schema import Schema
from dpsr.model.embeddings import EmbeddingTable, TableBags, TableValues, lookup_together
from dpsr.model.encoded_items import EncodedItems, required
from dpsr.model.shards import Placement
from dpsr.model.text_encoders.checkpoint_config import resolved
from dpsr.model.token_statistics import relative_idf, token_kinds
from dpsr.model.tower_inputs import encoders_of, tower_inputs
from dpsr.model.towers import ItemTower, QueryTower, TowerWeights
from dpsr.ops_cc.embedding_bag import Combiner
from dpsr.tokenizer_cc import Tokenizer

_SMALL_SCALE = 0.1
"""Embeddings of users, histories and heads are initialised at this share of the scale of words: at the full scale they
would be noise beside the query for many steps."""


class ModelWeights(NamedTuple):
    """The dense weights of a model; flattened in the order of the optimiser's slots in a checkpoint."""

    query: TowerWeights
    item: Any
    """``TowerWeights``; () where vectors of a frozen encoder are the item vectors."""
    texts: dict[str, Any]
    """Of every text encoder that has weights, by its name."""


class TwoTower(tf.Module):
    """Embeds queries (with their user) and items as unit vectors of one space (paper, section 4.2).

    A tower's inputs are the vector of the text encoder and one vector each for profile columns, history or categories,
    looked up in tables of their own; with ``shared_tokens`` query and item text share one table.
    """

    def __init__(
        self,
        config: ModelConfig,
        schema: Schema,
        *,
        seed: int = 1,
        tokenizer: Tokenizer | None = None,
        placements: Mapping[str, Placement] | None = None,
        encoded: EncodedItems | None = None,
    ):
        """Draws the tables and the layers; the same seed draws the same model.

        Args:
            config: sizes and kinds.
            schema: the dataset's columns and tables.
            seed: of every draw.
            tokenizer: gives a new model the kinds and frequencies of tokens, where ``config.reads_tokenizer``; a
                checkpoint holds them.
            placements: the shards of every table; without it all tables are on this machine.
            encoded: how the item side reads vectors of a frozen encoder; None where it has none.

        Raises:
            ValueError: the tables are in shards, and their token kinds need the tokenizer.
            DatasetError: the model reads subwords, and the dataset has none.
            PublishedCheckpointError, SubwordError: ``config.transformer.initial`` cannot be used.
        """
        super().__init__()
        config = resolved(config)
        self.config = config
        """As given, with the sizes of a published checkpoint."""
        self.schema = schema
        self.is_local = placements is None
        """Whether all variables are on this machine."""
        self.query_inputs, self.item_inputs = tower_inputs(config, schema, encoded)
        self.has_history = self.query_inputs.has_history
        self.item_encoders: Any = None
        """``FrozenEncoders`` that give ``ItemFeatures.encoded``, of a trained model that reads it."""
        self.token_kinds: tf.Variable | None = None
        kinds: Any = None
        if config.combiner == "sqrtn_by_kind":
            if placements is not None and tokenizer is None:
                raise ValueError("token kinds of tables in shards come from the tokenizer: pass the tokenizer")
            of_ids = np.zeros(schema.token_rows, np.uint8) if tokenizer is None else token_kinds(tokenizer)
            with tf.device("CPU:0"):
                self.token_kinds = tf.Variable(of_ids, trainable=False, name="token_kinds")
            kinds = self.token_kinds if placements is None else graph_array(of_ids)
        idf = relative_idf(tokenizer) if config.initial_idf and tokenizer is not None else None
        first_rows = None if encoded is None else encoded.token_vectors
        self.tables = self._draw_tables(seed, kinds, idf, first_rows, placements)
        dense_seed = 1000 * seed
        self.query_tower = QueryTower(
            self.query_inputs.num_vectors,
            config.dimension,
            config.hidden,
            config.heads,
            residual=config.residual,
            separate=config.head_tables,
            seed=dense_seed,
        )
        self.item_tower: ItemTower | None = None
        if self.item_inputs.num_vectors:
            self.item_tower = ItemTower(
                self.item_inputs.num_vectors,
                config.dimension,
                config.hidden,
                residual=config.residual,
                seed=dense_seed + 100,
            )
        encoders = encoders_of(self.query_inputs, self.item_inputs)
        drawn = {name: encoder.draw_weights(dense_seed + 200) for name, encoder in encoders.items()}
        self.text_weights = {name: weights for name, weights in drawn.items() if tf.nest.flatten(weights)}
        """The variables of every text encoder, and of the map of frozen vectors, by name where there are any."""

    @property
    def weights(self) -> ModelWeights:
        """The dense variables."""
        item = () if self.item_tower is None else self.item_tower.weights
        return ModelWeights(self.query_tower.weights, item, dict(self.text_weights))

    def query_heads(self, queries: QueryFeatures) -> tf.Tensor:
        """Embeds queries.

        Returns:
            float32 [B, heads, d], unit vectors.
        """
        return self.project_query(queries, self.lookup(self.query_inputs.bags(queries)), self.weights)

    def item_vectors(self, items: ItemFeatures) -> tf.Tensor:
        """Embeds items.

        Returns:
            float32 [N, d], unit vectors.
        """
        return self.project_item(items, self.lookup(self.item_inputs.bags(items)), self.weights)

    def lookup(self, bags: TableBags) -> TableValues:
        """Combines every bag in its table; float32 [B, d] each."""
        values = lookup_together([self.tables[name] for name in bags], list(bags.values()))
        return dict(zip(bags, values, strict=True))

    def project_query(
        self, queries: QueryFeatures, values: TableValues, weights: ModelWeights, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The dense computation of ``query_heads``.

        Args:
            queries: B rows.
            values: what was looked up for ``query_inputs.bags(queries)``.
            weights: tensors in the structure of ``self.weights``.
            seed: int64 [2], of the dropout of a training step; None drops nothing.
        """
        return self.query_tower(*self.query_inputs.vectors(queries, values, weights.texts, seed), weights.query)

    def project_item(
        self, items: ItemFeatures, values: TableValues, weights: ModelWeights, seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The dense computation of ``item_vectors``; arguments as ``project_query``."""
        if self.item_tower is None:
            return tf.math.l2_normalize(required(items.encoded), axis=1)
        return self.item_tower(self.item_inputs.vectors(items, values, weights.texts, seed), weights.item)

    def _draw_tables(
        self,
        seed: int,
        kinds: Any,
        idf: np.ndarray | None,
        first_rows: np.ndarray | None,
        placements: Mapping[str, Placement] | None,
    ) -> dict[str, EmbeddingTable]:
        """The tables of all inputs by name, those of the query tower first."""
        config, query, item = self.config, self.query_inputs, self.item_inputs
        words = {name for text in query.texts for name in text.tables} | item.token_tables
        texts = query.token_tables | item.token_tables
        small = query.tables.keys() - words
        decays = {"history": config.history_decay, "history_titles": config.history_decay ** (1 / TITLE_TOKENS)}
        # Beside a published checkpoint other inputs start at zero: a fresh tower gives the vector of the text.
        zero = (query.tables | item.tables).keys() - texts if config.initial else set()
        combiner: Combiner = "sqrtn" if config.combiner == "sqrtn_by_kind" else config.combiner
        tables = {}
        for position, (name, rows) in enumerate((query.tables | item.tables).items()):
            by_kind = name in texts and kinds is not None
            scale = 0.0 if name in zero else config.initial_scale
            tables[name] = EmbeddingTable(
                rows,
                config.dimension,
                scale=scale * (_SMALL_SCALE if name in small else 1.0),
                seed=(seed, position),
                combiner="sum" if by_kind else combiner,
                decay=decays.get(name, 1.0),
                placement=None if placements is None else placements[name],
                kinds=kinds if by_kind else None,
                row_scales=idf if name in words else None,
                first_rows=first_rows if name in query.taught_tables else None,
            )
        return tables
