"""Section ``distillation``: learning from a teacher, a larger model whose scores are known."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from dpsr.config.section import PathName, Section


class DistillationConfig(Section):
    """A student learns the scores of a teacher (Muhamed et al., 2023, section 3.4)."""

    teacher: PathName | Annotated[list[PathName], Field(min_length=1)] | None = None
    """The ``work_dir`` of a trained run, or a folder in Hugging Face's format; of several, the mean of their scores."""
    items: Literal["own", "teacher", "both"] = "own"
    """What the vector of an item is: ``own``, of the student's item tower, in a space of its own; ``teacher``, the
    teacher's vector, and only queries are learnt; ``both``, of an item tower that reads the teacher's vector beside its
    other inputs."""
    text: Annotated[list[str], Field(min_length=1)] | None = None
    """Text columns of an item that a teacher in Hugging Face's format reads; all of ``data.items.text`` without it. A
    trained run reads those that it was trained on."""
    epochs: Annotated[int, Field(ge=0)] = 0
    """Passes of the stage ``distillation``, after the passes over the log; 0 leaves the stage out."""
    objective: Literal["scores", "vectors"] = "scores"
    """What the stage learns: ``scores``, a teacher's scores of the pairs of a batch; ``vectors``, its vectors of the
    queries and items, by their principal axes where ``model.dimension`` is smaller than the teacher's width."""
    synthetic_queries: Annotated[int, Field(ge=0)] = 1
    """Queries of random words of each item, as ``pretraining`` samples them, whose scores are learnt too."""
    scores: PathName | None = None
    """Parquet file of further scores in -1..1, columns ``query``, ``item_id``, ``score``: a cross-encoder's."""

    @property
    def teachers(self) -> list[str]:
        """The teachers' paths."""
        return [self.teacher] if isinstance(self.teacher, str) else list(self.teacher or [])

    @pydantic.model_validator(mode="after")
    def _scores_have_a_source(self) -> DistillationConfig:
        if self.items != "own" and not self.teachers:
            raise ValueError(f"items = {self.items!r} reads a teacher's vectors, and teacher is missing; name one")
        if self.epochs and not self.teachers and self.scores is None:
            raise ValueError(f"epochs = {self.epochs} learns a teacher's scores; name a teacher, or a file of scores")
        if self.objective == "vectors" and self.items == "both":
            raise ValueError(
                "objective = 'vectors' learns the teacher's space, and items = 'both' has a space of its own; set "
                "objective = 'scores', or items = 'own' or 'teacher'"
            )
        if self.objective == "vectors" and self.epochs and not self.teachers:
            raise ValueError("objective = 'vectors' reads a teacher's vectors, and teacher is missing; name one")
        return self
