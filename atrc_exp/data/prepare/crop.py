"""The copy of a NYUD-v2 dataset with 480 x 640 images, cut to the 425 x 560 pixels inside the white border."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from atrc_exp.data.arrays import read_array
from atrc_exp.data.decode import read_indices, read_photo
from atrc_exp.data.readers.nyud import CROPPED, FOLDERS, NYUD
from atrc_exp.data.readers.reader import IMAGE, SPLITS, Reader, list_files
from atrc_exp.errors import UserError
from atrc_exp.files import scratch_beside, write_json

WINDOW = (slice(45, 470), slice(40, 600))
"""Rows and columns of the crop of Gupta et al. (CVPR 2013), the source of the paper's 425 x 560 images."""
_SIZE = (480, 640)


def cropped_copy(reader: Reader, *, advance: Callable[[], None] = lambda: None) -> Path:
    """Write `<root>-425x560` beside the root, or find it there; images become PNG, so that nothing is lost twice.

    Whether the published 425 x 560 archive has the same pixels is not known: it is recorded as another packaging.

    Raises:
        UserError: a dataset of another layout, packaging or size; files that are missing or damaged; a folder that
            cannot be written.
    """
    if not isinstance(reader, NYUD) or reader.packaging != "B":
        raise UserError(f"prepare.crop=true: {reader.root} is not packaging B of NYUD-v2, whose images are 480 x 640")
    target = reader.root.with_name(f"{reader.root.name}-425x560")
    if (target / CROPPED).is_file():
        return target
    if target.exists():
        raise UserError(
            f"prepare.crop=true: {target} holds something else than the cropped copy, which is written there; move it"
        )
    _, missing = list_files(reader, list(FOLDERS)[1:])
    if missing:
        raise UserError(f"{reader.root}: {len(missing)} files are missing, {missing[0]} among them; complete the copy")
    with scratch_beside(target) as scratch:
        folder = scratch / target.name
        for name in (*FOLDERS.values(), "gt_sets"):
            (folder / name).mkdir(parents=True)
        for split in SPLITS:
            (folder / "gt_sets" / f"{split}.txt").write_text("".join(f"{id}\n" for id in reader.ids[split]))
            for id in reader.ids[split]:
                _crop_image(reader, folder, id)
                advance()
        rows, columns = WINDOW
        write_json(folder / CROPPED, {"rows": [rows.start, rows.stop], "columns": [columns.start, columns.stop]})
        os.replace(folder, target)
    return target


def _crop_image(reader: Reader, folder: Path, id: str) -> None:
    for modality, name in FOLDERS.items():
        path = reader.root / reader.files(modality, id)[0]
        if modality == IMAGE:
            array = read_photo(path)
        elif path.suffix == ".npy":
            array = read_array(path, channels=None)
        else:
            array = read_indices(path)
        if array.shape[:2] != _SIZE:
            raise UserError(f"{path}: has {array.shape[0]} x {array.shape[1]} pixels; only 480 x 640 are cropped")
        if path.suffix == ".npy":
            np.save(folder / name / f"{id}.npy", array[WINDOW])
        else:
            Image.fromarray(np.ascontiguousarray(array[WINDOW])).save(folder / name / f"{id}.png")
