"""Backbones from timm: feature maps at several strides, finest first (Sec. 3.1)."""

import difflib
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from huggingface_hub import hf_hub_download
from timm.models import PretrainedCfg, is_model_in_modules, load_state_dict
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.hrnet import HighResolutionModule
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn

from atrc_exp.config import BackboneConfig
from atrc_exp.errors import UserError
from atrc_exp.models.packaged import WEIGHT_PACKAGES, find_package
from atrc_exp.normalisation import IMAGENET, Normalisation
from atrc_exp.resizing import resize

HUB_FILE = "model.safetensors"

Renaming = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""From the tensors of a file to the same under timm's names."""

_DENSE_OPTIONS: dict[str, dict[str, Any]] = {
    "hrnet": {"feature_location": ""},  # the maps of stage 4 themselves
    # Windows and masks for any size, and shifted windows in the last stage too, which at 224 x 224 is one window.
    "swin_transformer": {"strict_img_size": False, "always_partition": True},
}
"""Options of timm's model families for dense prediction."""


class DenseFusion(HighResolutionModule):
    """Exchange between HRNet branches in the dense-prediction form of HRNetV2, for images of any size.

    A coarser map goes up bilinearly by the quotient of the strides, and then bilinearly to the size of the finer
    branch, where the two differ. One step would be another network: at 425 x 560 its maps are off by 2 % of their
    maximum.
    timm's form repeats pixels by the same factors, which fits only sizes that are multiples of 32.
    """

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """One (B, C_i, h_i, w_i) map per branch in and out; the list that comes in stays as it is."""
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        if self.num_branches == 1:
            return maps
        fused = []
        for size, row in zip((x.shape[-2:] for x in maps), self.fuse_layers):  # noqa: B905  (one row: single-scale output)
            terms = [resize(layer(x), size) for layer, x in zip(row, maps, strict=True)]
            fused.append(self.fuse_act(sum(terms[1:], terms[0])))
        return fused


def to_dense_form(model: nn.Module) -> None:
    """Switch every fusion module of an HRNet to `DenseFusion`; parameters and state-dict keys stay the same."""
    for module in model.modules():
        if isinstance(module, HighResolutionModule):
            module.__class__ = DenseFusion
            for layer in module.fuse_layers.modules():
                if isinstance(layer, nn.Upsample):
                    layer.mode, layer.align_corners = "bilinear", False


def _cut_unused_blocks(model: nn.Module) -> None:
    """Drop what lies behind the last map, where timm keeps and computes it for nothing.

    Parameters without a gradient would stop a training on several ranks.
    """
    if isinstance(model, EfficientNetFeatures | MobileNetV3Features):
        model.blocks = model.blocks[: max(model._stage_out_idx)]


class Backbone(nn.Module):
    """A timm feature extractor.

    Attributes:
        channels: of each map.
        reductions: stride of each map in pixels.
        multiple: images are padded to a multiple of so many pixels; None: they are not.
        provenance: name, weights, timm's tag and the SHA-256 of the weight file, for the records of a run.
        normalisation: of the images on which the weights were trained.
    """

    def __init__(
        self,
        model: nn.Module,
        provenance: dict[str, str | None],
        normalisation: Normalisation,
        multiple: int | None = None,
    ) -> None:
        super().__init__()
        self.multiple = multiple
        self.model = model
        info: Any = model.feature_info
        self.channels: list[int] = list(info.channels())
        self.reductions: list[int] = list(info.reduction())
        self.provenance, self.normalisation = provenance, normalisation

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map an image (B, 3, H, W) to one (B, channels[i], h_i, w_i) per stride.

        With `multiple`, h_i and w_i are those of the image rounded up, whatever the model makes of the padded one.
        """
        height, width = image.shape[-2:]
        if self.multiple is not None:
            image = F.pad(image, (0, -width % self.multiple, 0, -height % self.multiple))
        maps = self.model(image)
        if getattr(self.model, "output_fmt", "NCHW") == "NHWC":  # e.g. Swin
            maps = [x.permute(0, 3, 1, 2) for x in maps]
        if self.multiple is not None:
            maps = [x[..., : -(-height // r), : -(-width // r)] for x, r in zip(maps, self.reductions, strict=True)]
        return maps


def build_backbone(config: BackboneConfig) -> Backbone:
    """Build the backbone with the weights that `config.weights` names.

    Raises:
        UserError: an unknown model or tag, maps that the model does not have, or weights that cannot be had.
    """
    model = _build_model(config)
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
        _load_weights(model, config.name, path, renamed)
        provenance["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return Backbone(model, provenance, weights_normalisation(config), config.multiple)


def weights_normalisation(config: BackboneConfig) -> Normalisation:
    """With what the images were normalised on which `config.weights` were trained, as timm or their package says.

    A file of weights is taken as that of `config.tag`. Random weights get ImageNet's.

    Raises:
        UserError: an unknown tag.
    """
    if config.weights == "random":
        return IMAGENET
    if config.weights in WEIGHT_PACKAGES:
        return WEIGHT_PACKAGES[config.weights].normalisation
    source = _pretrained_config(config)
    if source is None:
        return IMAGENET
    (r, g, b), (std_r, std_g, std_b) = source.mean, source.std
    return Normalisation((r, g, b), (std_r, std_g, std_b))


def _pretrained_config(config: BackboneConfig) -> PretrainedCfg | None:
    """What timm says of the weights with `config.tag`, or of its default ones."""
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{config.name}.*")]
    if config.tag is not None and config.tag not in tags:
        raise UserError(f"backbone.tag={config.tag}: {config.name} has {', '.join(tags) or 'no pretrained weights'}")
    return timm.get_pretrained_cfg(_with_tag(config))


def _with_tag(config: BackboneConfig) -> str:
    return f"{config.name}.{config.tag}" if config.tag else config.name


def _build_model(config: BackboneConfig) -> nn.Module:
    known = timm.list_models()
    if config.name not in known:
        close = difflib.get_close_matches(config.name, known, n=4)
        raise UserError(
            f"backbone.name={config.name}: timm has no such model; "
            + (f"close: {', '.join(close)}" if close else "timm.list_models() lists all")
        )
    indices = list(config.out_indices)
    if indices != sorted(set(indices)):
        raise UserError(f"backbone.out_indices={indices}: must rise, the finest map first")
    options = dict(next((o for family, o in _DENSE_OPTIONS.items() if is_model_in_modules(config.name, (family,))), {}))
    if config.output_stride is not None:
        options["output_stride"] = config.output_stride
    try:
        model: Any = timm.create_model(config.name, features_only=True, out_indices=tuple(indices), **options)
        found = len(model.feature_info.channels())
    except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"backbone.name={config.name}, backbone.out_indices={indices}: timm cannot extract these maps "
            f"({type(error).__name__}: {error}); give fewer or smaller indices, or another model"
        ) from error
    if found != len(indices):
        raise UserError(f"backbone.out_indices={indices}: {config.name} has only {found} of these maps")
    to_dense_form(model)
    _cut_unused_blocks(model)
    return model


def _download(config: BackboneConfig) -> tuple[Path, str | None]:
    """Path of the pretrained weights in the hub's cache, downloaded where they are not there yet, and their tag."""
    model_name, source = _with_tag(config), _pretrained_config(config)
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


def _load_weights(model: nn.Module, name: str, path: Path, renamed: Renaming | None) -> None:
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
    state = {_feature_key(key, wanted): value for key, value in state.items()}
    with torch.device("meta"):
        classifier = timm.create_model(name).state_dict()
    faults = [f"missing {key}" for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    faults += [f"unexpected {key}" for key in state if key not in wanted and key not in classifier]
    faults += [
        f"{key} has shape {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise UserError(f"backbone.weights={path}: not weights of {name}: {'; '.join(faults[:3])}{more}")
    model.load_state_dict(state, strict=False)


def _feature_key(key: str, wanted: dict[str, Tensor]) -> str:
    """Name of a classifier's tensor in timm's feature extractors.

    These flatten the first level (`stages.0.` becomes `stages_0.`) or wrap the whole model (`model.`).
    """
    for name in (key, re.sub(r"^(\w+)\.(\w+)\.", r"\1_\2.", key), f"model.{key}"):
        if name in wanted:
            return name
    return key
