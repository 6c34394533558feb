"""The configuration of a run: one TOML file, typed and checked before anything starts.

Every section is a frozen pydantic model whose defaults are the paper's (DPSR, SIGIR 2020, section 4.1) where the
paper gives one. ``load_config`` reads a file, applies ``section.key=value`` overrides, and reports every problem at
once, each with the key, what was found and what is allowed.

Example:
    >>> config = load_config("examples/bestbuy_xbox.toml", ["training.epochs=3"])
    >>> config.training.epochs
    3
"""

from dpsr.config.cluster import ClusterConfig
from dpsr.config.data import (
    DataConfig,
    InteractionsConfig,
    ItemsConfig,
    JudgementsConfig,
    SourceConfig,
    SupervisionConfig,
    UsersConfig,
)
from dpsr.config.distillation import DistillationConfig
from dpsr.config.evaluation import EvaluationConfig, LabelsConfig
from dpsr.config.fleet import FleetAlias, FleetConfig, FleetModel, FleetServer
from dpsr.config.index import IndexConfig, LexicalConfig, MemoryConfig
from dpsr.config.loading import (
    ConfigError,
    load_config,
    load_fleet_config,
    load_serving_config,
    parse_config,
    parse_index_config,
)
from dpsr.config.model import ModelConfig, TransformerConfig
from dpsr.config.page import PageConfig
from dpsr.config.run import Config
from dpsr.config.serving import ServingConfig
from dpsr.config.tokenizer import SubwordsConfig, TokenizerConfig
from dpsr.config.training import InteractionConfig, LossConfig, MlmConfig, PretrainingConfig, TrainingConfig

__all__ = [
    "ClusterConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "DistillationConfig",
    "EvaluationConfig",
    "FleetAlias",
    "FleetConfig",
    "FleetModel",
    "FleetServer",
    "IndexConfig",
    "InteractionConfig",
    "InteractionsConfig",
    "ItemsConfig",
    "JudgementsConfig",
    "LabelsConfig",
    "LexicalConfig",
    "LossConfig",
    "MemoryConfig",
    "MlmConfig",
    "ModelConfig",
    "PageConfig",
    "PretrainingConfig",
    "ServingConfig",
    "SourceConfig",
    "SubwordsConfig",
    "SupervisionConfig",
    "TokenizerConfig",
    "TrainingConfig",
    "TransformerConfig",
    "UsersConfig",
    "load_config",
    "load_fleet_config",
    "load_serving_config",
    "parse_config",
    "parse_index_config",
]
