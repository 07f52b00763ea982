"""The user's cache folder, and maps in it that are derived from a dataset's files once."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from atrc_exp.config import DatasetConfig
from atrc_exp.data.decode import read_indices
from atrc_exp.errors import UserError
from atrc_exp.files import replacing

log = logging.getLogger(__name__)


def cache_dir(config: DatasetConfig) -> Path:
    """`dataset.cache_dir`, or the package's folder in the user's cache."""
    if config.cache_dir is not None:
        return Path(config.cache_dir).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "atrc_exp"


class DerivedMaps:
    """8-bit maps by image id, computed at the first use and kept as PNG in `folder`.

    Processes may use one folder at the same time: files appear whole, and two that miss the same map write the same.
    Where the folder cannot be written, maps are computed every time, which the log says once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writable = True

    def get(self, id: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The map (H, W) uint8 of an image; `compute` is called where none is kept."""
        path = self.folder / f"{id}.png"
        try:
            return read_indices(path)
        except UserError:  # not there, or not whole
            derived = compute()
        if self.writable:
            try:
                with replacing(path) as temporary:
                    Image.fromarray(derived).save(temporary)
            except OSError as error:
                self.writable = False
                log.warning("Maps are not kept in %s (%s); they are computed at every use", self.folder, error)
        return derived
