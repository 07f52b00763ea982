"""What a command does: one module a stage, each with `run(config)`, imported when it is asked for."""

from importlib import import_module

from atrc_exp.config import Config

MODULES = {
    "search": "training",
    "retrain": "training",
    "evaluate": "evaluate",
    "predict": "predict",
    "profile": "profile",
    "benchmark": "benchmark",
    "generate": "generate",
}


def run_stage(config: Config) -> None:
    """Run the stage that the configuration names.

    Raises:
        UserError: a mistake of the user; anything else is a defect of this package.
    """
    import_module(f"atrc_exp.stages.{MODULES[config.stage.name]}").run(config)
