"""Checkpoints are written beside their place and moved into it, and are checked and read without unpickling code.

The one before the last is kept, so that a disk that damages a file costs a run no more than one interval.
"""

import io
import logging
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atrc_exp.errors import UserError
from atrc_exp.files import replacing
from atrc_exp.runs.files import LAST, PREVIOUS
from atrc_exp.words import counted

log = logging.getLogger(__name__)


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers, strings, lists and dictionaries, and keep the old file as `previous.pt` beside.

    A process killed meanwhile leaves the old file whole.

    Raises:
        OSError: no space or no permission. The file is serialised in memory first, because PyTorch's own file writer
            reports a full disk as a RuntimeError about something else.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())
        if path.exists():
            link(path, path.with_name(PREVIOUS))


def link(source: Path, target: Path) -> None:
    """Make `target` a second name of `source`, or a copy where the file system has no hard links."""
    if target.exists() and target.samefile(source):
        return
    with replacing(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint to CPU memory; only plain data is accepted, never code.

    Raises:
        UserError: the file is damaged or holds more than plain data.
    """
    try:
        _verify(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, zipfile.BadZipFile) as error:
        reason, before = str(error).splitlines()[0], path.with_name(PREVIOUS)
        goes_on = f"; the same training command goes on from the one before, {before}"
        advice = goes_on if path.name == LAST and before.exists() else ""
        raise UserError(f"checkpoint {path} cannot be read ({reason}){advice}") from None


def _verify(path: Path) -> None:
    """Compare the check sums that the file format holds and PyTorch does not look at when it reads.

    Raises:
        BadZipFile: they differ.
    """
    with zipfile.ZipFile(path) as file:
        if damaged := file.testzip():
            raise zipfile.BadZipFile(f"its part {damaged} is damaged")


def restore(folder: Path) -> Path | None:
    """Find the latest checkpoint of a folder, None where there is none. One that is lost or damaged is replaced by the
    one before it.

    Raises:
        UserError: the latest one is damaged, and the one before is damaged or missing.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    if not exists(folder):
        return None
    try:
        if last.exists():
            load(last)
            return last
        reason = f"checkpoint {last} is missing"
    except UserError as error:
        if not previous.exists():
            raise UserError(f"{error}; delete {folder} to start this run from its beginning") from None
        reason = str(error).split(";")[0]
    try:
        iteration = load(previous)["iteration"]
    except UserError as error:
        both = f"{reason}, and {str(error).split(';')[0]}"
        raise UserError(f"{both}; delete {folder} to start this run from its beginning") from None
    log.warning("%s; going on from the one before, after %s", reason, counted(iteration, "iteration"))
    link(previous, last)
    return last


def exists(folder: Path) -> bool:
    """Whether a folder holds a checkpoint that a run may go on from."""
    return any((folder / name).exists() for name in (LAST, PREVIOUS))


def export(path: Path, weights: Mapping[str, torch.Tensor], facts: Mapping[str, str]) -> None:
    """Write weights alone as safetensors, which hold no code and which other programs read; `facts` describe them."""
    from safetensors.torch import save as serialised

    data = serialised({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, dict(facts))
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def random_states(device: torch.device) -> dict[str, Any]:
    """States of the random generators of this process: Python, NumPy, PyTorch and the rank's CUDA device."""
    numpy_state: Any = np.random.get_state(legacy=False)
    generator = numpy_state["state"]
    states = {
        "python": random.getstate(),
        "numpy": {**numpy_state, "state": {"key": generator["key"].tolist(), "pos": int(generator["pos"])}},
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Put the random generators of this process back into saved states."""
    random.setstate(states["python"])
    generator = states["numpy"]["state"]
    key = np.array(generator["key"], dtype=np.uint32)
    np.random.set_state({**states["numpy"], "state": {"key": key, "pos": generator["pos"]}})
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and PyTorch on all devices."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
