"""Search of the encoder's branching: a supergraph with one copy of every layer per task (BMTAS, BMVC 2020)."""

import copy
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from atrc_exp.bmtas.resources import FORMS, resource_loss
from atrc_exp.bmtas.tree import Branching, refine
from atrc_exp.config import Config
from atrc_exp.models.backbones.backbone import Backbone, build_backbone
from atrc_exp.models.backbones.branched import cut
from atrc_exp.models.heads import feature_head
from atrc_exp.models.layers import logit_conv
from atrc_exp.models.necks import build_neck
from atrc_exp.models.necks.pyramid import Neck, Pyramid, Pyramids, join
from atrc_exp.resizing import resize
from atrc_exp.tasks import Task

RESOURCE_SIZE = (512, 512)  # pixels; the cost of a layer is measured at this size, whatever the data's

Path = Tensor | Sequence[int]
"""The way of a task through the supergraph: weights (layers, copies) of a mixture, or one copy for every layer."""


class Supergraph(nn.Module):
    """A ResNet with `copies` copies of every layer; the stem is shared.

    The last batch norm of every copy has no affine parameters, so that no copy can scale its share of a mixture.

    Attributes:
        names: those of the layers.
        gflops: cost of one copy of every layer at 512 x 512 pixels, 1 multiply-add = 2 FLOPs.
    """

    gflops: Tensor

    def __init__(self, backbone: Backbone, copies: int, granularity: str) -> None:
        super().__init__()
        self.channels, self.reductions, self.provenance = backbone.channels, backbone.reductions, backbone.provenance
        self.normalisation = backbone.normalisation
        self.stem, layers, self.outputs = cut(backbone, granularity)
        self.names = list(layers)
        self.register_buffer("gflops", layer_gflops(self.stem, list(layers.values())), persistent=False)
        for layer in layers.values():
            _drop_last_affine(layer)
        self.layers = nn.ModuleList(
            nn.ModuleList(copy.deepcopy(layer) for _ in range(copies)) for layer in layers.values()
        )

    def forward(self, image: Tensor, path: Path) -> Pyramid:
        """Map an image (B, 3, H, W) to one (B, channels[i], h_i, w_i) per stride along a task's path."""
        x = self.stem(image)
        pyramid = []
        for name, copies, step in zip(self.names, self.layers, path, strict=True):
            assert isinstance(copies, nn.ModuleList)
            if isinstance(step, Tensor):
                x = sum(weight * block(x) for weight, block in zip(step, copies, strict=True))
            else:
                x = copies[step](x)
            if name in self.outputs:
                pyramid.append(x)
        return pyramid

    def reset_statistics(self) -> None:
        """Forget the running statistics of all batch norms."""
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.reset_running_stats()


def _drop_last_affine(layer: nn.Module) -> None:
    """Replace the last batch norm on the residual path of the last block by one without affine parameters."""
    block = list(layer.children())[-1] if isinstance(layer, nn.Sequential) else layer
    name = [name for name, child in block.named_children() if isinstance(child, nn.BatchNorm2d)][-1]
    setattr(block, name, nn.BatchNorm2d(getattr(block, name).num_features, affine=False))


def layer_gflops(stem: nn.Module, layers: Sequence[nn.Module]) -> Tensor:
    """GFLOPs of convolutions in every layer (L,) for one image of 512 x 512 pixels."""
    x = copy.deepcopy(stem).to("meta").eval()(torch.empty(1, 3, *RESOURCE_SIZE, device="meta"))
    costs = []
    for layer in layers:
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            x = copy.deepcopy(layer).to("meta").eval()(x)
        costs.append(counter.get_total_flops() / 1e9)
    return torch.tensor(costs)


class BranchSearch(nn.Module):
    """The supergraph, the logits of its copies, and one decoder per task.

    Attributes:
        arch: logits alpha (layers, tasks, copies), zeros at start.

    Args:
        tasks: names in the order used everywhere; there are as many copies of a layer as tasks.
        channels: C of the task features.
    """

    def __init__(
        self, encoder: Supergraph, tasks: Sequence[Task], channels: int, necks: Mapping[str, Neck | None]
    ) -> None:
        super().__init__()
        self.tasks = tuple(task.name for task in tasks)
        self.encoder = encoder
        self.arch = nn.Parameter(torch.zeros(len(encoder.names), len(tasks), len(tasks)))
        self.necks = nn.ModuleDict({task: neck for task, neck in necks.items() if neck is not None})
        joined = {task: sum((neck or encoder).channels) for task, neck in necks.items()}
        self.heads = nn.ModuleDict({task: feature_head(joined[task], channels) for task in self.tasks})
        self.predictors = nn.ModuleDict({task.name: logit_conv(channels, task.channels) for task in tasks})

    def forward(self, image: Tensor, task: str, path: Path) -> Tensor:
        """Predict one task for an image (B, 3, H, W); the size is that of `network.Output.final`."""
        pyramids: Pyramids = self.encoder(image, path)
        if task in self.necks:
            pyramids = self.necks[task](pyramids, (image.shape[-2], image.shape[-1])).pyramids
        features = self.heads[task](join(pyramids, (task,))[task])
        final = self.predictors[task](features)
        return final if self.training else resize(final, image.shape[-2:])

    def own_path(self, task: str) -> list[int]:
        """The path of the warm-up: the copy of the task's own number in every layer."""
        return [self.tasks.index(task)] * len(self.encoder.names)

    def best_path(self, task: str) -> list[int]:
        """The path of evaluation: the most probable copy of every layer."""
        return self.arch[:, self.tasks.index(task)].argmax(1).tolist()

    def drawn_path(self, task: str, temperature: float) -> Tensor:
        """Weights (layers, copies) of the mixture in every layer, by Gumbel-softmax with fresh noise."""
        return F.gumbel_softmax(self.arch[:, self.tasks.index(task)], temperature, dim=1)

    def resource_loss(self, form: str) -> Tensor:
        """Expected GFLOPs of the encoder's layers, see `branch_resources`."""
        return resource_loss(self.arch, self.encoder.gflops, form)

    def weights(self) -> list[nn.Parameter]:
        """All parameters but the logits of the copies."""
        return [parameter for parameter in self.parameters() if parameter is not self.arch]

    @torch.no_grad()
    def branching(self) -> Branching:
        """The branching of the most probable copies; probabilities and GFLOPs (512 x 512) stand in the details."""
        names, chosen = self.encoder.names, self.arch.argmax(2).tolist()
        layers = refine(self.tasks, dict(zip(names, chosen, strict=True)))
        costs = dict(zip(names, self.encoder.gflops.tolist(), strict=True))
        probabilities = self.arch.softmax(2).tolist()
        details = {
            "backbone": self.encoder.provenance["name"],
            "gflops": {
                "shared": sum(costs.values()),
                "branched": sum(costs[name] * len(groups) for name, groups in layers.items()),
                "split": len(self.tasks) * sum(costs.values()),
                **{f"expected_{form}": float(self.resource_loss(form)) for form in FORMS},
            },
            "probabilities": {
                name: dict(zip(self.tasks, rows, strict=True)) for name, rows in zip(names, probabilities, strict=True)
            },
        }
        return Branching(self.tasks, layers, details)


def build_branch_search(config: Config, tasks: Sequence[Task]) -> BranchSearch:
    """Build the supergraph and decoders that `config.backbone`, `config.neck` and `config.branching` describe.

    Raises:
        UserError: a backbone that cannot be branched, or weights that cannot be had.
    """
    encoder = Supergraph(build_backbone(config.backbone), len(tasks), config.branching.layers)
    necks = {task.name: build_neck(config.neck, encoder.channels, encoder.reductions, (task,)) for task in tasks}
    joined = sum((necks[tasks[0].name] or encoder).channels)
    return BranchSearch(encoder, tasks, config.distillation.channels or joined // 4, necks)
