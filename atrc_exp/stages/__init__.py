"""What a command does: each stage is a module with `run(config)`, which is imported when it is asked for."""

from importlib import import_module
from pathlib import Path

from atrc_exp import genotype as genotypes
from atrc_exp.config import TRAINING_STAGES, Config
from atrc_exp.errors import UserError
from atrc_exp.runs.configurations import has_begun, init_file
from atrc_exp.tasks import know

MODULES = {
    "search": "training",
    "retrain": "training",
    "branch": "branch",
    "evaluate": "evaluate",
    "predict": "predict",
    "export": "export",
    "importance": "importance",
    "attention": "attention",
    "profile": "profile",
    "benchmark": "benchmark",
    "generate": "generate",
    "prepare": "prepare",
    "report": "report",
}


def run_stage(config: Config) -> None:
    """Run the stage that the configuration names.

    Raises:
        UserError: the user made a mistake. Any other exception is a defect of this package.
    """
    know(config.dataset.rows.values())
    if config.stage.name in TRAINING_STAGES:
        _look_for_inputs(config)
    import_module(f"atrc_exp.stages.{MODULES[config.stage.name]}").run(config)


def _look_for_inputs(config: Config) -> None:
    """Name a missing input at once, since the import of PyTorch takes seconds and rooms would be made before."""
    root = Path(config.dataset.root).expanduser()
    if not config.dataset.procedural and not root.is_dir():
        raise UserError(
            f"dataset.root={config.dataset.root}: does not exist; give the folder of the dataset {config.dataset.name}"
        )
    if config.init is not None and not has_begun(config):
        init_file(config.init)
    if config.genotype is not None:
        genotypes.load(config.genotype)
