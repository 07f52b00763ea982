"""The table of readers, and the one way to open a dataset."""

from collections.abc import Callable, Sequence
from functools import partial

from atrc_exp.config import DatasetConfig
from atrc_exp.data.readers.folders import Folders
from atrc_exp.data.readers.nyud import NYUD
from atrc_exp.data.readers.pascal import PASCAL
from atrc_exp.data.readers.reader import Reader, RegionReader, Split, describe, stored_label
from atrc_exp.data.readers.sample import Data, Truth
from atrc_exp.errors import UserError

READERS: dict[str, Callable[[DatasetConfig, Sequence[str]], Reader]] = {
    "nyud": NYUD,
    "pascal": PASCAL,
    "folders": Folders,
}


def open_reader(config: DatasetConfig, needed: Sequence[str] | None = None) -> Reader:
    """Find the dataset under `dataset.root`, without a look at the files of single images.

    Args:
        needed: those of its tasks whose labels will be read; the others may be missing. None is all of them.

    Raises:
        UserError: an unknown reader, or what the reader finds missing.
    """
    if config.reader not in READERS:
        raise UserError(f"dataset.reader={config.reader}: unknown; known readers: {', '.join(READERS)}")
    return READERS[config.reader](config, config.tasks if needed is None else needed)


def open_dataset(config: DatasetConfig, needed: Sequence[str] | None = None) -> Data:
    """Open both splits of the dataset under `dataset.root`.

    Args:
        needed: as in `open_reader`.

    Raises:
        UserError: as `open_reader`; files that are missing; with `dataset.strict`, other numbers of images than the
            published ones.
    """
    reader = open_reader(config, needed)
    info = describe(reader, config, config.tasks if needed is None else needed)
    truth = Truth(
        borders=reader.borders if isinstance(reader, RegionReader) else None,
        stored=partial(stored_label, reader),
    )
    return Data(Split(reader, "train", info), Split(reader, "val", info), info, truth)
