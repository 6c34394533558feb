"""What baselines of the page are made from: as an evaluation does, but nothing is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Self, TypeVar

from dpsr.baselines.context import BuildContext
from dpsr.baselines.fitting.learner import Learner
from dpsr.baselines.fitting.weights_file import file_identity, fingerprint, read_weights
from dpsr.baselines.registry import resolve
from dpsr.config import LexicalConfig
from dpsr.data.dataset.tables import Dataset
from dpsr.page.errors import PageError

L = TypeVar("L", bound=Learner)


class KeptWeightsContext(BuildContext):
    """Gives every learner the weights that an earlier comparison kept."""

    @classmethod
    def of(
        cls,
        name: str,
        dataset: Dataset,
        *,
        seed: int,
        work_dir: Path,
        lexical: LexicalConfig,
        checkpoint: Path | None,
        word_vectors: Path | None,
    ) -> Self:
        """The inputs of one method; the arguments are those of ``BuildContext``.

        Raises:
            ConfigError: the name is unknown.
        """
        return cls(
            dataset,
            resolve([name], option="baseline"),
            seed,
            work_dir=work_dir,
            progress=False,
            lexical=lexical,
            checkpoint=checkpoint,
            word_vectors=word_vectors,
        )

    def trained(self, learner: L) -> L:
        """Gives a learner its weights.

        Raises:
            PageError: none are kept of the same dataset, seed and settings.
        """
        key = fingerprint(self.dataset, self.seed, learner.settings, file_identity(self.word_vectors))
        cache = self.cache_file(learner.name)
        stored = None if cache is None else read_weights(cache, key)
        if stored is None:
            raise PageError(
                f"{learner.name} is not trained for this dataset; add it to evaluation.baselines, run `dpsr compare`"
            )
        learner.assign(stored)
        return learner
