"""`stage=generate`: write the procedural rooms of the dataset configuration to `dataset.root`."""

from pathlib import Path

from atrc_exp.config import Config
from atrc_exp.data.rooms import generate


def run(config: Config) -> None:
    """Write the rooms, or find them finished.

    Raises:
        UserError: the folder holds rooms of other settings, or cannot be written.
    """
    rooms = config.dataset.rooms
    height, width = rooms.image_size
    root = Path(config.dataset.root)
    generate(
        root,
        train=rooms.train,
        val=rooms.val,
        image_size=(height, width),
        seed=rooms.seed,
        packaging=rooms.packaging,
        progress=config.engine.progress,
    )
    print(f"{rooms.train} training and {rooms.val} validation rooms of {height}x{width} in {root}")
