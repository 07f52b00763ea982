"""The schema: every key of the configuration with its meaning, unit and range, and the rules between keys.

YAML in `conf/` gives the values, Hydra composes them, `compose` turns them into these objects; from there on
nothing handles an untyped configuration. Ranges and rules raise `UserError` with the value, the rule and a remedy.
"""

from atrc_exp.config.branching import BranchingConfig
from atrc_exp.config.data import DatasetConfig, PrepareConfig, RoomsConfig
from atrc_exp.config.network import BackboneConfig, DistillationConfig, NeckConfig
from atrc_exp.config.root import Config
from atrc_exp.config.stages import (
    STAGES,
    STORED_STAGES,
    TRAINING_STAGES,
    BenchmarkConfig,
    EvaluationConfig,
    ExportConfig,
    ImportanceConfig,
    LoggerConfig,
    PredictConfig,
    StageConfig,
)
from atrc_exp.config.training import BalanceConfig, DebugConfig, EngineConfig, OptimConfig, SearchConfig

__all__ = [
    "STAGES",
    "STORED_STAGES",
    "TRAINING_STAGES",
    "BackboneConfig",
    "BalanceConfig",
    "BenchmarkConfig",
    "BranchingConfig",
    "Config",
    "DatasetConfig",
    "DebugConfig",
    "DistillationConfig",
    "EngineConfig",
    "EvaluationConfig",
    "ExportConfig",
    "ImportanceConfig",
    "LoggerConfig",
    "NeckConfig",
    "OptimConfig",
    "PredictConfig",
    "PrepareConfig",
    "RoomsConfig",
    "SearchConfig",
    "StageConfig",
]
