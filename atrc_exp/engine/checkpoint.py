"""Checkpoints: written beside and moved into place, read without unpickling code."""

import io
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atrc_exp.errors import UserError
from atrc_exp.files import replacing

LAST = "last.pt"


def save(path: Path, state: dict[str, Any]) -> None:
    """Write tensors, numbers, strings, lists and dictionaries; a process killed meanwhile leaves the old file whole.

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


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint to CPU memory; only plain data is accepted, never code.

    Raises:
        UserError: the file is damaged or holds more than plain data.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"checkpoint {path} cannot be read ({reason}); delete it to start this run from its beginning"
        ) from None


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
