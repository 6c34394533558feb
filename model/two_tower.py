"""The model: embedding tables and two towers, and how features reach them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from dpsr.config import ModelConfig
from dpsr.data.batches.features import TITLE_TOKENS, ItemFeatures, QueryFeatures, ToTensor
from dpsr.data.dataset.schema import Schema
from dpsr.model.embeddings import EmbeddingTable, lookup_together
from dpsr.model.shards import Placement
from dpsr.model.tower_inputs import TableBags, head_tables, item_bags, query_bags, tower_inputs
from dpsr.model.towers import ItemTower, QueryTower
from dpsr.ops_cc.embedding_bag import Combiner
from dpsr.tokenizer_cc import Tokenizer

TableValues = dict[str, tf.Tensor]
_QUIET = "user.", "history", "query_tokens."
_QUIET_SCALE = 0.1
"""What is known of the user, and what heads differ in, starts so much quieter than the words: as loud as the query it
would be noise for long."""


class TwoTower(tf.Module):
    """Embeds queries (with their user) and items as unit vectors of one space (paper, section 4.2).

    Every input is a bag of ids with a table of its own; with ``shared_tokens`` query and item text share one. The input
    of a tower is the list of its combined bags.
    """

    def __init__(
        self,
        config: ModelConfig,
        schema: Schema,
        *,
        seed: int = 1,
        tokenizer: Tokenizer | None = None,
        placements: Mapping[str, Placement] | None = None,
        tensor: ToTensor = tf.constant,
    ):
        """Draws the tables and the layers; the same seed gives the same model.

        Args:
            config: sizes and kinds.
            schema: the dataset's columns and tables.
            seed: of every draw.
            tokenizer: tells a fresh model of its tokens, where ``config.reads_tokenizer``; a restored one knows them.
            placements: says for every table where its shards are; without it all are on this machine.
            tensor: how an array gets to shards and to those who ask them.
        """
        super().__init__()
        self.config = config
        self.schema = schema
        self.query_tokens = "tokens" if config.shared_tokens else "query_tokens"
        self.item_tokens = "tokens" if config.shared_tokens else "item_tokens"
        query_inputs, item_inputs = tower_inputs(config, schema)
        self.has_history = "history" in query_inputs
        decays = {"history": config.history_decay, "history_titles": config.history_decay ** (1 / TITLE_TOKENS)}
        self.token_kinds: tf.Variable | None = None
        kinds_of_tables: Any = None
        if config.combiner == "sqrtn_by_kind":
            kinds = np.zeros(schema.token_rows, np.uint8) if tokenizer is None else token_kinds(tokenizer)
            with tf.device("CPU:0"):
                self.token_kinds = tf.Variable(kinds, trainable=False, name="token_kinds")
            kinds_of_tables = self.token_kinds if placements is None else tensor(kinds)
            if placements is not None and tokenizer is None:
                raise ValueError("tables in shards do not get their kinds of a checkpoint: give the tokenizer")
        idf = relative_idf(tokenizer) if config.initial_idf and tokenizer is not None else None
        self.tables = {}
        for position, (name, rows) in enumerate((query_inputs | item_inputs).items()):
            of_text = name in (self.query_tokens, self.item_tokens, *head_tables(config))
            by_kind = of_text and self.token_kinds is not None
            combiner: Combiner = "sqrtn" if config.combiner == "sqrtn_by_kind" else config.combiner
            self.tables[name] = EmbeddingTable(
                rows,
                config.dimension,
                scale=config.initial_scale * (_QUIET_SCALE if name.startswith(_QUIET) else 1.0),
                seed=(seed, position),
                combiner="sum" if by_kind else combiner,
                decay=decays.get(name, 1.0),
                placement=None if placements is None else placements[name],
                kinds=kinds_of_tables if by_kind else None,
                row_scales=idf if name in (self.query_tokens, self.item_tokens) else None,
            )
        self.is_local = placements is None
        """Whether all of it is on this machine."""
        dense_seed = 1000 * seed
        self.query_tower = QueryTower(
            len(query_inputs) - len(head_tables(config)),
            config.dimension,
            config.hidden,
            config.heads,
            residual=config.residual,
            separate=config.head_tables,
            seed=dense_seed,
        )
        self.item_tower = ItemTower(
            len(item_inputs), config.dimension, config.hidden, residual=config.residual, seed=dense_seed + 100
        )

    def query_heads(self, queries: QueryFeatures) -> tf.Tensor:
        """Embeds queries.

        Returns:
            float32 [B, heads, d], unit vectors.
        """
        return self.project_query(self.lookup(self.query_bags(queries)))

    def item_vectors(self, items: ItemFeatures) -> tf.Tensor:
        """Embeds items.

        Returns:
            float32 [N, d], unit vectors.
        """
        return self.project_item(self.lookup(self.item_bags(items)))

    def query_bags(self, queries: QueryFeatures) -> TableBags:
        """``query_bags`` of this model."""
        return query_bags(self.config, self.schema, queries)

    def item_bags(self, items: ItemFeatures) -> TableBags:
        """``item_bags`` of this model."""
        return item_bags(self.config, self.schema, items)

    def lookup(self, bags: TableBags) -> TableValues:
        """Combines every bag in its table; float32 [B, d] each."""
        values = lookup_together([self.tables[name] for name in bags], list(bags.values()))
        return dict(zip(bags, values, strict=True))

    def project_query(self, values: TableValues) -> tf.Tensor:
        """The dense part of ``query_heads``; ``values`` are the combined bags of ``query_bags``, in their order."""
        own = head_tables(self.config)
        return self.query_tower(
            [value for name, value in values.items() if name not in own], [values[name] for name in own]
        )

    def project_item(self, values: TableValues) -> tf.Tensor:
        """The dense part of ``item_vectors``; ``values`` are the combined bags of ``item_bags``, in their order."""
        return self.item_tower(list(values.values()))


def token_kinds(tokenizer: Tokenizer) -> np.ndarray:
    """The kind of every id, uint8 [num_ids]: 0 a word, 1 a bigram, 2 a trigram, 3 what is hashed, whatever it is."""
    kinds = np.full(tokenizer.num_ids, 3, np.uint8)
    kinds[1 : 1 + tokenizer.vocabulary_size] = tokenizer.kinds
    return kinds


def relative_idf(tokenizer: Tokenizer) -> np.ndarray:
    """How telling every id is, float32 [num_ids]: ``log(1 + N / df)``, scaled to a root mean square of 1.

    A hashed token is as telling as the rarest.
    """
    frequencies = np.ones(tokenizer.num_ids)
    frequencies[1 : 1 + tokenizer.vocabulary_size] = tokenizer.document_frequencies
    idf = np.log1p(max(tokenizer.num_documents, 1) / frequencies)
    return (idf / np.sqrt(np.mean(idf**2))).astype(np.float32)
