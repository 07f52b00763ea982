"""Pretrained weights of backbones: from the hub, an installed package or a file; and what they say of their images."""

import hashlib
import re
from collections.abc import Callable, Collection
from pathlib import Path

import timm
import torch
from huggingface_hub import hf_hub_download
from timm.models import PretrainedCfg, load_state_dict
from torch import Tensor, nn

from atrc_exp.config import BackboneConfig
from atrc_exp.errors import UserError
from atrc_exp.models.backbones.packaged import WEIGHT_PACKAGES, find_package
from atrc_exp.normalisation import IMAGENET, Normalisation

HUB_FILE = "model.safetensors"

Renaming = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""From the tensors of a file to the same under timm's names."""


def load(model: nn.Module, config: BackboneConfig) -> dict[str, str | None]:
    """Load the weights that `config.weights` names; random ones stay as they are.

    Returns:
        Name of the model, weights, timm's tag and the SHA-256 of the weight file.

    Raises:
        UserError: an unknown tag, or weights that cannot be had or are those of another model.
    """
    provenance = {"name": config.name, "weights": config.weights, "tag": None, "sha256": None}
    if config.weights != "random":
        renamed: Renaming | None = None
        if config.weights == "imagenet":
            path, provenance["tag"] = _download(config)
        elif config.weights in WEIGHT_PACKAGES:
            package, path = find_package(config.weights, config.name)
            renamed = package.renamed
        else:
            path = Path(config.weights).expanduser()
        _load_weights(model, config, path, renamed)
        provenance["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return provenance


def weights_normalisation(config: BackboneConfig) -> Normalisation:
    """How the images that `config.weights` were trained on were normalised, as timm or their package says.

    A file of weights is taken as that of `config.tag`. Random weights get ImageNet's.

    Raises:
        UserError: an unknown tag.
    """
    if config.weights == "random":
        return IMAGENET
    if config.weights in WEIGHT_PACKAGES:
        return WEIGHT_PACKAGES[config.weights].normalisation
    source = pretrained_config(config)
    if source is None:
        return IMAGENET
    (r, g, b), (std_r, std_g, std_b) = source.mean, source.std
    return Normalisation((r, g, b), (std_r, std_g, std_b))


def pretrained_config(config: BackboneConfig) -> PretrainedCfg | None:
    """What timm says of the weights with `config.tag`, or of its default ones."""
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{config.name}.*")]
    if config.tag is not None and config.tag not in tags:
        raise UserError(f"backbone.tag={config.tag}: {config.name} has {', '.join(tags) or 'no pretrained weights'}")
    return timm.get_pretrained_cfg(_with_tag(config))


def _with_tag(config: BackboneConfig) -> str:
    return f"{config.name}.{config.tag}" if config.tag else config.name


def _download(config: BackboneConfig) -> tuple[Path, str | None]:
    """Path of the pretrained weights in the hub's cache, downloaded where they are not there yet, and their tag."""
    model_name, source = _with_tag(config), pretrained_config(config)
    if source is None or not source.hf_hub_id:
        raise _unavailable(model_name, "timm names no hub repository for them")
    try:
        path = hf_hub_download(source.hf_hub_id, HUB_FILE, local_files_only=True)
    except OSError:
        path = _fetch(model_name, source.hf_hub_id)
    return Path(path), source.tag


def _fetch(model_name: str, repository: str) -> str:
    try:
        return hf_hub_download(repository, HUB_FILE)
    # The hub client lets errors of its HTTP library through, whose types change from version to version.
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise _unavailable(model_name, reason[0] if reason else type(error).__name__) from error


def _unavailable(model_name: str, reason: str) -> UserError:
    return UserError(
        f"backbone.weights=imagenet: the weights of {model_name} cannot be had ({reason}); "
        "set backbone.weights to a local .pth or .safetensors file, or to random"
    )


def _load_weights(model: nn.Module, config: BackboneConfig, path: Path, renamed: Renaming | None) -> None:
    """Load a checkpoint of the features or the whole classifier; timm would accept any part of it without a word."""
    if not path.is_file():
        packages = ", ".join(WEIGHT_PACKAGES)
        raise UserError(
            f"backbone.weights={path}: no such file; give imagenet, random, {packages}, or a .pth or .safetensors file"
        )
    try:
        state = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # torch and safetensors raise a dozen types for broken or foreign files
        raise UserError(f"backbone.weights={path}: not a file of weights ({type(error).__name__})") from error
    if renamed is not None:
        state = renamed(state)
    wanted = model.state_dict()
    state = {feature_key(key, wanted): value for key, value in state.items()}
    with torch.device("meta"):
        classifier = timm.create_model(config.name).state_dict()
    faults = [f"missing {key}" for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    faults += [f"unexpected {key}" for key in state if key not in wanted and key not in classifier]
    faults += [
        f"{key} has shape {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        changed = f" with backbone.options={config.options}" if config.options else ""
        raise UserError(
            f"backbone.weights={path}: not weights of {config.name}{changed}: {'; '.join(faults[:3])}{more}"
        )
    model.load_state_dict(state, strict=False)


def feature_key(key: str, wanted: Collection[str]) -> str:
    """Name of a classifier's tensor in timm's feature extractors.

    These flatten the first level (`stages.0.` becomes `stages_0.`) or wrap the whole model (`model.`).
    """
    for name in (key, re.sub(r"^(\w+)\.(\w+)\.", r"\1_\2.", key), f"model.{key}"):
        if name in wanted:
            return name
    return key
