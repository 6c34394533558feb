"""What every model of a comparison is measured on, the same in each process that makes it from the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from dpsr.baselines.examples import QueryExamples, load_examples, with_one_typo
from dpsr.config import Config
from dpsr.data.dataset.tables import Dataset
from dpsr.evaluation.measures.judgements import Judgements, load_judgements
from dpsr.evaluation.measures.metrics import RANKED_DEPTH, sample_candidates
from dpsr.indexing.lexical.tuned import with_tuned


@dataclass(frozen=True)
class Inputs:
    """Examples, misspelt examples, candidates and judgements of one comparison."""

    config: Config
    """The run's configuration, with what was tuned for ``index.lexical``."""
    dataset: Dataset
    split: str
    examples: QueryExamples
    """Clicks of the split."""
    judgements: Judgements | None

    @classmethod
    def load(cls, config: Config, dataset: Dataset, split: str) -> Inputs:
        """Reads the inputs of a comparison.

        Raises:
            ValueError: the split's name is unknown.
            ConfigError: what ``--tune`` wrote cannot be used.
            DatasetError: the split has no click, or the labels cannot be used.
        """
        config = with_tuned(config)
        options, seed = config.evaluation, config.training.seed
        judgements = None if options.labels is None else load_judgements(options.labels, dataset, seed=seed)
        examples = load_examples(dataset, split, max_examples=options.max_examples, seed=seed)
        return cls(config, dataset, split, examples, judgements)

    @property
    def seed(self) -> int:
        """Decides every random choice."""
        return self.config.training.seed

    @property
    def num_items(self) -> int:
        """Items of the catalogue."""
        return self.dataset.schema.num_items

    @property
    def depth(self) -> int:
        """Items of a ranked list."""
        return min(RANKED_DEPTH, self.num_items)

    @property
    def directory(self) -> Path:
        """Where the comparison keeps what it measured."""
        return Path(self.config.work_dir) / "comparison"

    @cached_property
    def typos(self) -> QueryExamples:
        """The examples with one typo each."""
        return with_one_typo(self.examples, seed=self.seed)

    def candidates(self, examples: QueryExamples) -> np.ndarray:
        """Candidates of Top-k, int32 [n, c], the clicked item first."""
        count = self.config.evaluation.candidates
        return sample_candidates(examples.item_rows, self.num_items, count, seed=self.seed)
