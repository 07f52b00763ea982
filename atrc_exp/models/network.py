"""The whole network: backbone, neck, task heads, distillation, predictors (Fig. 2a)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from atrc_exp.bmtas import tree as branchings
from atrc_exp.config import Config
from atrc_exp.errors import UserError
from atrc_exp.genotype import Genotype, scale_of, task_of
from atrc_exp.models import distillation as distillations
from atrc_exp.models.backbones.backbone import Backbone, build_backbone
from atrc_exp.models.backbones.branched import BranchedBackbone
from atrc_exp.models.contexts.regions import region_densities
from atrc_exp.models.heads import auxiliary_head, feature_head, pointwise_head
from atrc_exp.models.layers import logit_conv
from atrc_exp.models.necks import build_neck, with_own_maps
from atrc_exp.models.necks.pyramid import Neck, Pyramid, join, of_task
from atrc_exp.models.search import Architecture, Mixture
from atrc_exp.resizing import resize
from atrc_exp.tasks import Task


class Output(NamedTuple):
    """Predictions by task.

    In training they have the size of the features, or of the scale that they come from: the losses resize them, so that
    no class maps at input size are kept for the backward pass.
    """

    final: dict[str, Tensor]
    """(B, task.channels, h, w) in training, (B, task.channels, H, W) in evaluation."""
    aux: dict[str, Tensor]
    """Logits of the label regions (B, task.regions, h, w), in training only; by row where scales have their own."""
    initial: dict[str, Pyramid]
    """First predictions (B, task.channels, h_i, w_i) of a neck that makes them, in training only."""


class Network(nn.Module):
    """One backbone, one head per task, an optional module that refines the features, one predictor per task.

    Args:
        backbone: gives maps (B, backbone.channels[i], h_i, w_i), for all tasks or by task.
        tasks: in the order used everywhere.
        channels: C of the task features.
        distillation: maps {task: (B, C, h, w)} and the logits of its `label_tasks` to refined features; None refines
            nothing (single-task and multi-task baselines). Where it is `multi_scale` it refines the pyramids in front
            of the heads, which then have no 3x3 convolution (MTI-Net), and auxiliary heads read the scales.
        neck: turns the backbone's maps into those of the tasks; None leaves them as they are.
        regions_from_labels: the label regions that the module reads are given to `forward`, not predicted by auxiliary
            heads, of which there are none (App. E); for modules that take `densities`.
    """

    def __init__(
        self,
        backbone: Backbone | BranchedBackbone,
        tasks: tuple[Task, ...],
        channels: int,
        distillation: nn.Module | None,
        *,
        neck: Neck | None = None,
        regions_from_labels: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.initial_scales = neck.initial_scales if neck is not None else 0
        self.multi_scale: bool = getattr(distillation, "multi_scale", False)
        widths = (neck or backbone).channels
        joined = sum(widths)
        head = pointwise_head if self.multi_scale else feature_head
        self.heads = nn.ModuleDict({task.name: head(joined, channels) for task in tasks})
        read: Any = distillation.label_tasks if distillation is not None else ()
        self.label_rows = {row: t for t in tasks for row in read if task_of(row) == t.name}
        """Whose label regions the distillation reads: tasks, or where it is `multi_scale` tasks at a scale."""
        self.label_tasks = tuple(dict.fromkeys(self.label_rows.values()))
        self.regions_from_labels = regions_from_labels
        predicted = {} if regions_from_labels else self.label_rows
        self.aux_heads = nn.ModuleDict(
            {
                row: auxiliary_head(widths[scale_of(row)] if self.multi_scale else joined, task.regions)
                for row, task in predicted.items()
            }
        )
        self.distillation = distillation
        self.predictors = nn.ModuleDict({task.name: logit_conv(channels, task.channels) for task in tasks})

    def forward(
        self,
        image: Tensor,
        sample: Mixture | None = None,
        valid: Tensor | None = None,
        regions: Mapping[str, Tensor] | None = None,
    ) -> Output:
        """Predict all tasks.

        Args:
            image: normalised RGB (B, 3, H, W).
            sample: draw of the architecture, for the search network in training.
            valid: bool (B, 1, H, W), False at padded pixels; read with `distillation.mask_padding` only.
            regions: label region (B, H, W) of every pixel, 255 for none, of the `label_tasks`; where they come from
                labels, and only there.
        """
        if (regions is not None) != self.regions_from_labels:
            raise ValueError("regions are given to networks that take them from labels, and to no others")
        maps = self.backbone(image)
        pyramids, initial = self.neck(maps, (image.shape[-2], image.shape[-1])) if self.neck is not None else (maps, {})
        # The auxiliary losses train the auxiliary heads alone; final losses reach these through the label contexts.
        if self.multi_scale:
            own = {task: of_task(pyramids, task) for task in self.heads}
            logits = {row: head(own[task_of(row)][scale_of(row)].detach()) for row, head in self.aux_heads.items()}
            pyramids = self._refine(own, logits, sample, valid, regions)
        inputs = join(pyramids, tuple(self.heads))
        features = {task: head(inputs[task]) for task, head in self.heads.items()}
        if not self.multi_scale:
            logits = {task: head(inputs[task].detach()) for task, head in self.aux_heads.items()}
            features = self._refine(features, logits, sample, valid, regions)
        final = {task: predict(features[task]) for task, predict in self.predictors.items()}
        if self.training:
            return Output(final, logits, initial)
        size = image.shape[-2:]
        return Output({task: resize(x, size) for task, x in final.items()}, {}, initial)

    def _refine(
        self,
        features: dict[str, Any],
        logits: dict[str, Tensor],
        sample: Mixture | None,
        valid: Tensor | None,
        regions: Mapping[str, Tensor] | None,
    ) -> dict[str, Any]:
        """Run the distillation on the features (B, C, h, w), or the pyramids, of every task and on label logits."""
        first = next(iter(features.values()))
        maps = first if self.multi_scale else [first]
        mask: Any = None
        if valid is not None:
            masks = [F.interpolate(valid.to(x.dtype), size=x.shape[-2:], mode="nearest").bool() for x in maps]
            mask = masks if self.multi_scale else masks[0]
        if regions is not None and self.distillation is not None:
            densities = {
                row: region_densities(regions[task.name], task.regions, maps[scale_of(row)].shape[-2:])
                for row, task in self.label_rows.items()
            }
            return self.distillation(features, logits, mask, densities)
        if self.search is not None:
            return self.search(features, logits, sample, mask)
        return features if self.distillation is None else self.distillation(features, logits, mask)

    @property
    def search(self) -> Architecture | None:
        """The distillation module where it is a search network."""
        return self.distillation if isinstance(self.distillation, Architecture) else None

    def architecture_parameters(self) -> list[nn.Parameter]:
        """Architecture logits; empty for a fixed network."""
        return [self.search.arch] if self.search is not None else []

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Weights of the backbone."""
        return list(self.backbone.parameters())

    def head_parameters(self) -> list[nn.Parameter]:
        """All that is neither backbone nor architecture."""
        others = {id(p) for p in (*self.backbone_parameters(), *self.architecture_parameters())}
        return [p for p in self.parameters() if id(p) not in others]


def build_network(config: Config, tasks: tuple[Task, ...], genotype: Genotype | None = None) -> Network:
    """Build the network that `config.backbone`, `config.branching`, `config.neck` and `config.distillation` describe.

    Args:
        tasks: the run's tasks, filled by `tasks.build_tasks`.
        genotype: for `distillation=atrc` only; its tasks must be the run's, in any order.

    Raises:
        UserError: unknown backbone or distillation, weights that cannot be had, a genotype or branching that is missing
            or for other tasks.
    """
    names = tuple(task.name for task in tasks)
    backbone = _build_encoder(config, names)
    neck = build_neck(config.neck, backbone.channels, backbone.reductions, tasks)
    multi_scale = distillations.is_multi_scale(config.distillation)
    if multi_scale:
        neck = with_own_maps(neck, backbone.channels, names)
    pyramid = (neck or backbone).channels
    if config.distillation.scales is not None and len(pyramid) == 1:
        raise UserError(
            f"distillation.scales={config.distillation.scales}: the network has one scale; neck=simple_fpn makes four "
            "of it, and backbone.out_indices names those of a backbone with several"
        )
    channels = config.distillation.channels or (sum(pyramid) if multi_scale else sum(pyramid) // 4)
    width = pyramid if multi_scale else channels
    distillation = distillations.build_distillation(
        config.distillation, names, width, genotype, config.search.candidates
    )
    from_labels = config.distillation.regions == "labels"
    return Network(backbone, tasks, channels, distillation, neck=neck, regions_from_labels=from_labels)


def _build_encoder(config: Config, tasks: tuple[str, ...]) -> Backbone | BranchedBackbone:
    backbone = build_backbone(config.backbone)
    if config.distillation.mask_padding and backbone.normalisation.maps_a_colour_to_zero:
        raise UserError(
            f"distillation.mask_padding=true: padding is known by its 0, which a colour of the image becomes with the "
            f"normalisation of these weights ({backbone.normalisation}); set distillation.mask_padding=false"
        )
    if config.branching.file is None:
        return backbone
    return BranchedBackbone(backbone, branchings.load(config.branching.file), tasks)
