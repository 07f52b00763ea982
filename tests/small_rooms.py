"""Commands on procedural rooms so small that a stage takes seconds."""

from pathlib import Path

from hydra import compose, initialize_config_dir

from atrc_exp.config import Config, DatasetConfig
from atrc_exp.config.compose import CONF, typed
from atrc_exp.runs.configurations import with_stored

FACTS = {"name": "rooms", "reader": "nyud", "tasks": ["semseg", "depth", "normals", "edge"],
         "num_classes": {"semseg": 40}, "crop": [64, 96], "edge_positive_weight": 0.8,
         "edge_max_distance": 0.011}  # fmt: skip
"""What every dataset must say of itself, here for rooms."""
TRAIN, VAL, SIZE = 4, 2, (32, 48)
SMALL = ("engine.iterations=1", "engine.batch_size=2", "engine.val_batch_size=2", "engine.workers=0",
         "engine.progress=false", "logger=none")  # fmt: skip
QUICK = ("backbone=timm", "backbone.name=mobilenetv3_small_050", "backbone.weights=random")


def dataset(**keys: object) -> DatasetConfig:
    """A dataset described as rooms are, but for `keys`."""
    return DatasetConfig(**{**FACTS, **keys})


def command(tmp_path: Path, rooms: Path, *overrides: str) -> Config:
    """A command that trains on the rooms, with its runs in `tmp_path / "runs"`."""
    data = (f"dataset.root={rooms}", f"dataset.rooms.train={TRAIN}", f"dataset.rooms.val={VAL}",
            f"dataset.rooms.image_size=[{SIZE[0]},{SIZE[1]}]", f"dataset.cache_dir={tmp_path / 'cache'}",
            f"runs_dir={tmp_path / 'runs'}")  # fmt: skip
    return as_typed(*SMALL, *data, *overrides)


def as_typed(*overrides: str) -> Config:
    """What a command line with exactly these overrides gives."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        return with_stored(typed(compose("config", overrides=list(overrides)), overrides), overrides)
