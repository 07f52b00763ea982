"""Backbones from timm: feature maps at several strides, finest first (Sec. 3.1)."""

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from timm.models import is_model_in_modules
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.hrnet import HighResolutionModule
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn

from atrc_exp.config import BackboneConfig
from atrc_exp.errors import UserError
from atrc_exp.models.backbones import sizes, weights
from atrc_exp.normalisation import Normalisation
from atrc_exp.resizing import resize

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
        fixed_size: whether it may take no other size than that of the run.
    """

    def __init__(
        self,
        model: nn.Module,
        config: BackboneConfig,
        provenance: dict[str, str | None],
        normalisation: Normalisation,
    ) -> None:
        super().__init__()
        self.config, self.multiple = config, config.multiple
        self.fixed_size = sizes.is_fixed(config, _options(config))
        self.model = model
        info: Any = model.feature_info
        self.channels: list[int] = list(info.channels())
        self.reductions: list[int] = list(info.reduction())
        self.provenance, self.normalisation = provenance, normalisation

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map an image (B, 3, H, W) to one (B, channels[i], h_i, w_i) per stride.

        With `multiple`, h_i and w_i are those of the image rounded up, whatever the model makes of the padded one.

        Raises:
            UserError: the model does not take images of this size.
        """
        try:
            return self._maps(image)
        except (AssertionError, IndexError, RuntimeError, ValueError) as error:
            size = image.shape[-2], image.shape[-1]
            refused = sizes.refusal(lambda other: _sees_all(other, size), self.config, size, self.reductions)
            if refused is None:  # the size is not to blame
                raise
            raise UserError(refused) from error

    def _maps(self, image: Tensor) -> list[Tensor]:
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
    return Backbone(model, config, weights.load(model, config), weights.weights_normalisation(config))


def map_sizes(channels: Sequence[int], reductions: Sequence[int]) -> str:
    """Channels and strides of feature maps in words."""
    pairs = zip(channels, reductions, strict=True)
    return ", ".join(f"{number} channels at stride {stride}" for number, stride in pairs)


def _no_drop_path(config: BackboneConfig) -> UserError:
    return UserError(
        f"backbone.drop_path={config.drop_path}: no block of {config.name} that is used has drop path; leave it null"
    )


def _sees_all(config: BackboneConfig, size: tuple[int, int]) -> bool:
    """Run the backbone on an image of `size`, shapes alone, and raise what the model raises.

    Returns:
        Whether the maps have the image's size divided by their strides and rounded up. Others leave pixels out.
    """
    with torch.device("meta"), torch.no_grad():
        backbone = build_backbone(replace(config, weights="random")).eval()
        maps = backbone._maps(torch.empty(1, 3, *size))
    wanted = [tuple(-(-side // stride) for side in size) for stride in backbone.reductions]
    return [tuple(x.shape[-2:]) for x in maps] == wanted


def _options(config: BackboneConfig) -> dict[str, Any]:
    """Options of the model's family, and the user's on top."""
    family = next((o for name, o in _DENSE_OPTIONS.items() if is_model_in_modules(config.name, (name,))), {})
    return {**family, **config.options}


def _build_model(config: BackboneConfig) -> nn.Module:
    known = timm.list_models()
    if config.name not in known:
        name, _, tag = config.name.partition(".")
        if name in known:
            raise UserError(
                f"backbone.name={config.name}: is a model with the tag of its weights; give backbone.name={name} "
                f"backbone.tag={tag}"
            )
        close = difflib.get_close_matches(config.name, known, n=4)
        raise UserError(
            f"backbone.name={config.name}: timm has no such model; "
            + (f"close: {', '.join(close)}" if close else "timm.list_models() lists all")
        )
    indices = list(config.out_indices)
    if indices != sorted(set(indices)):
        raise UserError(f"backbone.out_indices={indices}: must rise, the finest map first")
    own: dict[str, Any] = {"output_stride": config.output_stride, "drop_path_rate": config.drop_path}
    given = {key: value for key, value in own.items() if value is not None}
    try:
        model: Any = timm.create_model(
            config.name, features_only=True, out_indices=tuple(indices), **_options(config), **given
        )
        found = len(model.feature_info.channels())
    except Exception as error:  # every family of models has its own
        if "drop_path_rate" in str(error):
            raise _no_drop_path(config) from error
        options = f", backbone.options={config.options}" if config.options else ""
        raise UserError(
            f"backbone.name={config.name}, backbone.out_indices={indices}{options}: timm cannot extract these maps "
            f"({sizes.one_line(error)}); give {'other options, ' if config.options else ''}fewer or smaller indices, "
            "or another model"
        ) from error
    if found != len(indices):
        raise UserError(f"backbone.out_indices={indices}: {config.name} has only {found} of these maps")
    if config.drop_path and not any(isinstance(module, DropPath) for module in model.modules()):
        raise _no_drop_path(config)
    to_dense_form(model)
    _cut_unused_blocks(model)
    return model
