"""`init`: a new run starts from the weights of another run or of a file, by name (warm start, fine-tuning)."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from atrc_exp.errors import UserError
from atrc_exp.runs import checkpoint
from atrc_exp.runs.configurations import init_file

log = logging.getLogger(__name__)

CLASS_LAYERS = ("predictors.", "aux_heads.", "neck.initial.")
"""Layers whose tensors may have another shape: their number of channels is that of the classes."""
ARCHITECTURE = ("distillation.arch", "distillation.frozen")
"""State of a search, not weights: every search begins with open blocks."""

_SHOWN = 3


def initialise(network: nn.Module, source: str) -> dict[str, Any]:
    """Put the weights that `init=source` names into a network; what has no counterpart keeps its initial weights.

    Returns:
        The record for the run: `file`, its `sha256`, number of tensors `loaded` and of the network's `tensors`, names
        of the `resized` ones that depend on another number of classes, and the number of tensors by part of the
        network that are `missing` in the file, and by part of the file that are `unused`.

    Raises:
        UserError: no such file, no file of weights, or weights of another network: parts of the backbone are missing,
            or shapes differ in more than the number of classes.
    """
    file = init_file(source)
    weights = {name: value for name, value in _read(file, source).items() if name not in ARCHITECTURE}
    own = {name: value for name, value in network.state_dict().items() if name not in ARCHITECTURE}
    resized = [name for name, value in weights.items() if name in own and value.shape != own[name].shape]
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    faults = [f"{name} is missing" for name in missing if name.startswith("backbone.")]
    faults += [
        f"{name} has shape {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
        for name in resized
        if not name.startswith(CLASS_LAYERS)
    ]
    if faults:
        more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise UserError(
            f"init={source}: holds weights of another network: {'; '.join(faults[:_SHOWN])}{more}; the backbone must "
            "be the same, and so must the neck and the channels of what both have"
        )
    fitting = {name: value for name, value in weights.items() if name in own and name not in resized}
    if broken := [name for name, value in fitting.items() if not bool(value.isfinite().all())]:
        raise UserError(f"init={source}: {broken[0]} holds NaN or infinite values; give an earlier checkpoint")
    network.load_state_dict(fitting, strict=False)
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    return {"file": str(file), "sha256": sha256, "loaded": len(fitting), "tensors": len(own), "resized": resized,
            "missing": _by_part(missing), "unused": _by_part(name for name in weights if name not in own)}  # fmt: skip


def _read(file: Path, source: str) -> dict[str, Tensor]:
    try:
        state: Any = load_file(file) if file.suffix == ".safetensors" else checkpoint.load(file)
    except (SafetensorError, OSError, UserError) as error:
        raise UserError(f"init={source}: {file} is no file of weights, or damaged ({error})") from None
    weights = state.get("network", state) if isinstance(state, dict) else None
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"init={source}: {file} holds no weights by name; give a checkpoint or a .safetensors file")
    return weights


def _by_part(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(".".join(name.split(".")[:2]) for name in names))


def report(record: dict[str, Any]) -> None:
    """Log which weights were used, and which did not fit."""
    log.info("init: %d of %d tensors from %s (SHA-256 %s)", record["loaded"], record["tensors"], record["file"],
             record["sha256"])  # fmt: skip
    if record["resized"]:
        log.warning("init: another number of classes, initial weights kept: %s", ", ".join(record["resized"]))
    meanings = {"missing": "not in the file, initial weights kept", "unused": "not in this network, left out"}
    for key, meaning in meanings.items():
        if parts := [f"{part} ({count})" for part, count in record[key].items()]:
            log.warning("init: %s: %s", meaning, ", ".join(parts))
