"""`stage=generate`: write the procedural rooms of the dataset configuration to `dataset.root`."""

from atrc_exp.config import Config
from atrc_exp.data.procedural import make_rooms


def run(config: Config) -> None:
    """Write the rooms, or find them finished.

    Raises:
        UserError: the folder holds rooms of other settings, or cannot be written.
    """
    make_rooms(config)
    rooms = config.dataset.rooms
    height, width = rooms.image_size
    print(f"{rooms.train} training and {rooms.val} validation rooms of {height}x{width} in {config.dataset.root}")
