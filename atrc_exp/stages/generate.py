"""`stage=generate`: write the procedural rooms of the dataset configuration to `dataset.root`."""

from atrc_exp.config import Config
from atrc_exp.rooms.on_demand import make_rooms
from atrc_exp.words import counted


def run(config: Config) -> None:
    """Write the rooms, or find them finished.

    Raises:
        UserError: the folder holds rooms of other settings, or cannot be written.
    """
    make_rooms(config)
    rooms = config.dataset.rooms
    height, width = rooms.image_size
    train, val = counted(rooms.train, "training room"), counted(rooms.val, "validation room")
    print(f"{train} and {val} of {height}x{width} in {config.dataset.root}")
