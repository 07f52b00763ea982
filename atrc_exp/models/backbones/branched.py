"""Branched encoders: a ResNet cut into layers, of which every group of tasks has its own copy (BMTAS, Sec. 4.4)."""

import copy
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from atrc_exp.bmtas.tree import Branching
from atrc_exp.errors import UserError
from atrc_exp.models.backbones.backbone import Backbone
from atrc_exp.models.necks.pyramid import Pyramid


class Layers(NamedTuple):
    """A ResNet cut into a stem and the layers that can be branched."""

    stem: nn.Sequential
    layers: dict[str, nn.Module]
    """From the first to the last: residual blocks (`layer1.0`, ...) or whole stages (`layer1`, ...)."""
    outputs: list[str]
    """Layers whose output is one of the backbone's maps, in the order of these."""


def cut(backbone: Backbone, granularity: str) -> Layers:
    """Cut a ResNet into layers; the modules are the backbone's own.

    Args:
        granularity: block or stage.

    Raises:
        UserError: a backbone that is no ResNet, or that gives out the map of its stem.
    """
    children = dict(backbone.model.named_children())
    stages = {name: child for name, child in children.items() if name.startswith("layer")}
    maps = backbone.model.feature_info.module_name()  # type: ignore[operator, union-attr]
    if not stages or not set(maps) <= set(stages):
        raise UserError(
            f"backbone.name={backbone.provenance['name']}: only ResNets can be branched, with backbone.out_indices "
            "from 1 on; take backbone=resnet50"
        )
    stem = nn.Sequential(*(child for name, child in children.items() if name not in stages))
    if granularity == "stage":
        return Layers(stem, stages, maps)
    blocks = {f"{stage}.{name}": block for stage, module in stages.items() for name, block in module.named_children()}
    last = {name.partition(".")[0]: name for name in blocks}
    return Layers(stem, blocks, [last[name] for name in maps])


class BranchedBackbone(nn.Module):
    """A ResNet as a tree: one copy of a layer for each group of tasks that shares it.

    Copies start from the same weights, those of `backbone`.

    Attributes:
        channels, reductions, provenance, normalisation, fixed_size: as those of `Backbone`.

    Raises:
        UserError: the branching is for other tasks, or for layers that the backbone does not have.
    """

    def __init__(self, backbone: Backbone, branching: Branching, tasks: Sequence[str]) -> None:
        super().__init__()
        if set(branching.tasks) != set(tasks):
            raise UserError(
                f"the branching is for the tasks {', '.join(branching.tasks)}, the run has {', '.join(tasks)}; "
                "give a branching of the same tasks, or set tasks"
            )
        self.channels, self.reductions, self.provenance = backbone.channels, backbone.reductions, backbone.provenance
        self.normalisation, self.fixed_size = backbone.normalisation, backbone.fixed_size
        granularity = "block" if any("." in layer for layer in branching.layers) else "stage"
        stem, layers, outputs = cut(backbone, granularity)
        if list(branching.layers) != list(layers):
            raise UserError(
                f"the branching has the layers {', '.join(branching.layers)}, {backbone.provenance['name']} has "
                f"{', '.join(layers)}; search a branching of this backbone"
            )
        self.branching, self.outputs = branching, outputs
        self.stem = stem
        self.layers = nn.ModuleList(
            nn.ModuleList(copy.deepcopy(layers[name]) for _ in groups) for name, groups in branching.layers.items()
        )
        self.parents = [branching.parents(name) for name in branching.layers]

    def forward(self, image: Tensor) -> dict[str, Pyramid]:
        """Map an image (B, 3, H, W) to one (B, channels[i], h_i, w_i) per stride, for every task."""
        branches = [self.stem(image)]
        pyramids: dict[str, Pyramid] = {task: [] for task in self.branching.tasks}
        for (name, groups), copies, parents in zip(
            self.branching.layers.items(), self.layers, self.parents, strict=True
        ):
            assert isinstance(copies, nn.ModuleList)
            branches = [block(branches[parent]) for block, parent in zip(copies, parents, strict=True)]
            if name in self.outputs:
                for group, branch in zip(groups, branches, strict=True):
                    for task in group:
                        pyramids[task].append(branch)
        return pyramids
