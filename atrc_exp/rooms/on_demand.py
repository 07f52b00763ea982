"""Rooms that are made for a run where they are missing, and only for the run that asks for them."""

from pathlib import Path

from atrc_exp.config import Config
from atrc_exp.errors import UserError


def make_rooms(config: Config) -> None:
    """Write the procedural rooms of the configuration to `dataset.root`, or find them there.

    A stage that looks at a stored run makes none: its data is where the run says, or gone.

    Raises:
        UserError: the folder holds something else, rooms of other settings among it, or cannot be written; the data
            of a stored run is gone.
    """
    from atrc_exp.rooms import generate

    rooms, root = config.dataset.rooms, Path(config.dataset.root).expanduser()
    if (config.run or config.checkpoint) and not root.exists():
        raise UserError(
            f"{root.absolute()}: the data of the run is gone; say where it is now by dataset.root=FOLDER, or make it "
            f"again by stage=generate dataset.root={root.absolute()} with the dataset.rooms of the run ("
            f"packaging={rooms.packaging} train={rooms.train} val={rooms.val} image_size={rooms.image_size} "
            f"seed={rooms.seed})"
        )
    generate(
        root,
        train=rooms.train,
        val=rooms.val,
        image_size=(rooms.image_size[0], rooms.image_size[1]),
        seed=rooms.seed,
        packaging=rooms.packaging,
        progress=config.engine.progress,
    )
