"""`stage=profile`: parameters and multiply-adds of the configured network, without data and without weights."""

from dataclasses import replace
from pathlib import Path

import torch

from atrc_exp.config import Config
from atrc_exp.files import write_json
from atrc_exp.models import build_network
from atrc_exp.models.profile import Profile, profile
from atrc_exp.stages.common import build_tasks_of, genotype_of


def profile_of(config: Config) -> Profile:
    """Count for one image of `dataset.crop`.

    Raises:
        UserError: a network that cannot be built.
    """
    config = replace(config, backbone=replace(config.backbone, weights="random"))  # counts need no weights
    height, width = config.dataset.crop
    with torch.device("meta"):
        network = build_network(config, build_tasks_of(config), genotype_of(config))
    return profile(network, (height, width))


def run(config: Config) -> None:
    """Print the table and write `<runs_dir>/<name>/profile.json`.

    Raises:
        UserError: a network that cannot be built.
    """
    result = profile_of(config)
    height, width = result.image_size
    print(f"{config.name}, input 1x3x{height}x{width}")
    print(result.table())
    path = Path(config.runs_dir) / config.name / "profile.json"
    write_json(path, {"name": config.name, "input": [1, 3, height, width], **result.as_dict()})
    print(f"written to {path}")
