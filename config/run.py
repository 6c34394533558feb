"""The configuration of a whole run: all sections, and what has to hold between them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pydantic
from pydantic import Field

from dpsr.config.cluster import ClusterConfig
from dpsr.config.data import DataConfig
from dpsr.config.distillation import DistillationConfig
from dpsr.config.evaluation import EvaluationConfig
from dpsr.config.index import IndexConfig
from dpsr.config.model import ModelConfig
from dpsr.config.page import PageConfig
from dpsr.config.section import PathName, Section
from dpsr.config.serving import ServingConfig
from dpsr.config.tokenizer import SubwordsConfig, TokenizerConfig
from dpsr.config.training import InteractionConfig, LossConfig, MlmConfig, PretrainingConfig, TrainingConfig


class Config(Section):
    """A whole run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
    """The model's name, as clients ask for it."""
    work_dir: PathName
    """Directory of everything that a run writes."""
    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    mlm: MlmConfig = MlmConfig()
    interaction: InteractionConfig = InteractionConfig()
    pretraining: PretrainingConfig = PretrainingConfig()
    training: TrainingConfig = TrainingConfig()
    distillation: DistillationConfig = DistillationConfig()
    cluster: ClusterConfig = ClusterConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    index: IndexConfig = IndexConfig()
    serving: ServingConfig = ServingConfig()
    page: PageConfig = PageConfig()

    @pydantic.model_validator(mode="after")
    def _batch_is_whole_groups(self) -> Config:
        if self.training.batch_size % self.loss.group_size:
            raise ValueError(
                f"training.batch_size = {self.training.batch_size} is not a multiple of "
                f"loss.group_size = {self.loss.group_size}"
            )
        if self.data.valid_share + self.data.test_share >= 1.0:
            raise ValueError("data.valid_share + data.test_share leave nothing to train on; their sum must be below 1")
        return self

    @pydantic.model_validator(mode="after")
    def _heads_have_meanings(self) -> Config:
        column, columns = self.loss.head_column, self.data.items.categorical
        if column is not None and column not in columns:
            raise ValueError(
                f"loss.head_column = {column!r}, but data.items.categorical has {', '.join(columns) or 'nothing'}"
            )
        distinguishing = {
            "loss.head_column": column is not None,
            "loss.head_clusters": self.loss.head_clusters > 0,
            "model.head_tables": self.model.head_tables,
        }
        for option, is_set in distinguishing.items():
            if self.model.heads == 1 and is_set:
                raise ValueError(f"{option} distinguishes heads, and model.heads = 1 is a single one; set 2 or more")
        return self

    @pydantic.model_validator(mode="after")
    def _something_is_learnt(self) -> Config:
        needs_model = self.index.mode != "lexical"
        if needs_model and self.learns_nothing and self.model.initial is None:
            raise ValueError(
                "the epochs of mlm, interaction, pretraining, training and distillation are 0: one of them has to be "
                "above 0, unless model.transformer.initial names a published checkpoint that is served as it is, or "
                'index.mode = "lexical" serves words alone'
            )
        if needs_model and self.training.epochs and self.data.interactions is None:
            raise ValueError(
                f"training.epochs = {self.training.epochs} learns from a log, and data.interactions is missing; name "
                "the log there, or set training.epochs = 0 and pretraining.epochs above 0 to learn from the catalogue"
            )
        unknown = set(self.pretraining.text or ()) - set(self.data.items.text)
        if unknown:
            raise ValueError(
                f"pretraining.text names {', '.join(sorted(unknown))}, but data.items.text has "
                f"{', '.join(self.data.items.text)}"
            )
        if self.mixed_rows >= self.training.batch_size:
            raise ValueError(
                f"pretraining.mixed_share = {self.pretraining.mixed_share:g} leaves no row of a batch of "
                f"{self.training.batch_size} for the log"
            )
        judged_rows = round(self.training.judged_share * self.training.batch_size)
        if self.mixed_rows + judged_rows >= self.training.batch_size:
            raise ValueError(
                f"training.judged_share = {self.training.judged_share:g} and pretraining.mixed_share = "
                f"{self.pretraining.mixed_share:g} leave no row of a batch of {self.training.batch_size} for the log"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _a_checkpoint_has_its_subwords(self) -> Config:
        if self.model.initial is not None and self.tokenizer.subwords is not None:
            raise ValueError(
                f"tokenizer.subwords is given, and model.transformer.initial = {self.model.initial!r} brings a "
                "tokenizer of its own; leave one of them out"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _teachers_have_texts(self) -> Config:
        distillation, columns = self.distillation, self.data.items.text
        unknown = set(distillation.text or ()) - set(columns)
        if unknown:
            raise ValueError(
                f"distillation.text names {', '.join(sorted(unknown))}, but data.items.text has {', '.join(columns)}"
            )
        silent = self.data.interactions is None and not distillation.synthetic_queries
        if distillation.epochs and distillation.teachers and silent:
            raise ValueError(
                "distillation.synthetic_queries = 0, and data.interactions is missing: there is no query whose scores "
                "a teacher could give; name the log there, or set distillation.synthetic_queries above 0"
            )
        if distillation.epochs and distillation.objective == "vectors" and self.model.heads > 1:
            raise ValueError(
                f"distillation.objective = 'vectors' teaches one vector a query, and model.heads = {self.model.heads}; "
                "set model.heads = 1, or distillation.objective = 'scores'"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _language_is_learnt_by_a_transformer(self) -> Config:
        for name, stage in (("mlm", self.mlm), ("interaction", self.interaction)):
            if stage.epochs and not self.model.reads_subwords:
                raise ValueError(
                    f"{name}.epochs = {stage.epochs} trains a transformer, and model.text_encoder = "
                    f'{self.model.text_encoder!r}; set model.text_encoder = "transformer", or {name}.epochs = 0'
                )
        if self.interaction.epochs and self.data.interactions is None:
            raise ValueError(
                f"interaction.epochs = {self.interaction.epochs} learns from a log, and data.interactions is missing; "
                "name the log there, or set interaction.epochs = 0"
            )
        return self

    @property
    def learns_nothing(self) -> bool:
        """Whether no stage has an epoch."""
        stages = self.mlm, self.interaction, self.pretraining, self.training, self.distillation
        return not any(stage.epochs for stage in stages)

    @property
    def subwords(self) -> SubwordsConfig | None:
        """The subwords of the dataset; None where no model reads them."""
        if self.tokenizer.subwords is not None:
            return self.tokenizer.subwords
        if self.model.initial is not None:
            return SubwordsConfig(file=self.model.initial)
        return SubwordsConfig() if self.model.reads_subwords else None

    @property
    def mixed_rows(self) -> int:
        """Examples of a training step that are items with synthetic queries of their own texts."""
        return round(self.pretraining.mixed_share * self.training.batch_size)

    @property
    def dataset_dir(self) -> Path:
        """The dataset directory that ``dpsr prepare`` writes."""
        return Path(self.work_dir) / "dataset"

    @property
    def arrays_dir(self) -> Path:
        """Directory of arrays that training derives from the dataset and maps into memory."""
        return Path(self.work_dir) / "arrays"

    @property
    def checkpoint_dir(self) -> Path:
        """The checkpoints that ``dpsr train`` writes."""
        return Path(self.work_dir) / "checkpoints"

    @property
    def model_base_path(self) -> Path:
        """The directory of versions that ``dpsr export`` publishes to and ``dpsr serve`` reads."""
        return Path(self.work_dir) / "servables" / self.name

    @property
    def page_judgements(self) -> Path:
        """The SQLite file in which ``dpsr page`` keeps what people judge."""
        return Path(self.page.judgements or Path(self.work_dir) / "judgements.sqlite")

    @property
    def learnt_judgements(self) -> Path | None:
        """The SQLite file of judgements that ``dpsr prepare`` learns from; None without ``data.judgements``."""
        if self.data.judgements is None:
            return None
        return Path(self.data.judgements.path or self.page_judgements)
