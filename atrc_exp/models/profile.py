"""Parameters and multiply-adds of a network, in all and by part, by two conventions."""

import copy
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from atrc_exp.config import Config
from atrc_exp.config.derived import build_tasks_of, genotype_of
from atrc_exp.genotype import NONE, row_of, task_of
from atrc_exp.models.contexts.maps import Block
from atrc_exp.models.distillation.atrc import ContextBlocks
from atrc_exp.models.network import Network, build_network
from atrc_exp.models.search import Mixture

PARTS = ("backbone", "neck", "heads", "aux_heads", "distillation", "predictors")
_LOCAL_ATTENTION = torch.ops.atrc_exp.local_attention_fwd


@dataclass(frozen=True)
class Part:
    """Cost of one part of the network."""

    parameters: int
    multiply_adds: int
    """Multiply-adds of convolutions and matrix products."""
    local_attention: int
    """Multiply-adds of local attention, 2 K^2 D per pixel and block; not contained in `multiply_adds`."""
    paper: int
    """Multiply-adds as Table 1 counts them, see `profile`."""

    def __add__(self, other: "Part") -> "Part":
        return Part(
            self.parameters + other.parameters,
            self.multiply_adds + other.multiply_adds,
            self.local_attention + other.local_attention,
            self.paper + other.paper,
        )


@dataclass(frozen=True)
class Profile:
    """Cost of a network for one image of `image_size` (height, width) pixels."""

    image_size: tuple[int, int]
    parts: dict[str, Part]
    blocks: dict[str, dict[str, dict[str, Part]]] = field(default_factory=dict)
    """Context modules by target, source and type, each as if it ran alone; empty where the network has none. Targets
    are tasks, or tasks at a scale (`semseg@0`)."""

    @property
    def total(self) -> Part:
        """Sum of all parts."""
        return sum(self.parts.values(), Part(0, 0, 0, 0))

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        rows = {name: _row(part) for name, part in self.parts.items()}
        blocks = {
            target: {source: {name: _row(part) for name, part in types.items()} for source, types in row.items()}
            for target, row in self.blocks.items()
        }
        return {"image_size": list(self.image_size), "parts": rows, "blocks": blocks, "total": _row(self.total)}


def _row(part: Part) -> dict[str, int]:
    return {
        "parameters": part.parameters,
        "multiply_adds": part.multiply_adds,
        "multiply_adds_with_local_attention": part.multiply_adds + part.local_attention,
        "multiply_adds_paper": part.paper,
    }


def profile_of(config: Config) -> Profile:
    """Count for one image of `dataset.crop`.

    Raises:
        UserError: a network that cannot be built.
    """
    config = replace(config, backbone=replace(config.backbone, weights="random"))  # counts need no weights
    height, width = config.dataset.crop
    with torch.device("meta"):
        network = build_network(config, build_tasks_of(config), genotype_of(config))
    return profile(network, (height, width))


def profile(network: Network, image_size: tuple[int, int]) -> Profile:
    """Count the parameters of `network` and its multiply-adds for one image (height, width), in evaluation mode.

    Plain: convolutions and matrix products, one multiply-add being two FLOPs of PyTorch's counter; norms, activations,
    softmax and resizing do not count. Every context block counts by itself, whatever it shares with others; in a search
    network every candidate of every block, frozen or not. Shapes alone are computed (meta device), so any size is quick
    and needs no memory.

    Paper: the convention that reproduces Table 1 (inferred from its numbers). To the plain ones and local attention it
    adds 1 per output of a convolution with bias, 2 per output of a batch norm and 1 per output of a ReLU; a module
    with `published_multiply_adds` counts by that instead of by what it computes.
    """
    counts = _count(network, image_size)
    blocks: dict[str, dict[str, dict[str, Part]]] = {}
    for path, module in counts.network.named_modules():
        if isinstance(module, ContextBlocks):
            rows: Any = module  # of modules by key, which its type does not tell
            scale = re.search(r"\.scales\.(\d+)\.", path)
            for target, row in rows.items():
                blocks[row_of(target, int(scale[1])) if scale else target] = {
                    s: {c: _part(counts, f"{path}.{target}.{s}.{c}") for c in types} for s, types in row.items()
                }
    return Profile(image_size, {name: _part(counts, name) for name in PARTS}, blocks)


@dataclass(frozen=True)
class ChoiceCosts:
    """Multiply-adds, local attention among them, of the networks that a search network can become."""

    rest: int
    """Cost of all that does not depend on the choice."""
    blocks: dict[Block, int]
    """Cost of every candidate: the context itself and its channels in the fusion; 0 of none."""


def choice_costs(network: Network, image_size: tuple[int, int]) -> ChoiceCosts:
    """Count each candidate of a search network once, for one image (height, width).

    `rest` and the blocks of a genotype add up to the ATRC network with that genotype, as far as that has the same
    auxiliary heads, of which it keeps those that are read, and some context for every task.
    """
    counts, search = _count(network, image_size), network.search
    assert search is not None

    def of(target: str, path: str) -> int:
        """Multiply-adds of a module of a target, at all scales that it stands for."""
        return sum(counts.products(f"distillation.{place}{path}") for place in search.paths(target))

    fusions = {target: of(target, f"fusions.{task_of(target)}.context") for target in search.candidates}
    contexts = {
        Block(target, source, name): of(target, f"blocks.{task_of(target)}.{source}.{name}")
        for target, source in search.pairs
        for name in search.candidates[target][source]
    }
    parts = sum((_part(counts, name) for name in PARTS), Part(0, 0, 0, 0))
    rest = parts.multiply_adds + parts.local_attention - sum(fusions.values()) - sum(contexts.values())
    share = {block: 0 if block.context == NONE else fusions[block.target] // len(search.tasks) for block in contexts}
    return ChoiceCosts(rest, {block: count + share[block] for block, count in contexts.items()})


@dataclass(frozen=True)
class _Counts:
    """What a pass of a network took, by the path of the module."""

    network: Network
    flops: Mapping[str, Mapping[Any, int]]
    elements: Counter[str]
    published: Counter[str]

    def products(self, path: str) -> int:
        """Multiply-adds of convolutions, matrix products and local attention; 0 of a module that was not called."""
        return sum(self.flops.get(path, {}).values()) // 2


def _count(network: Network, image_size: tuple[int, int]) -> _Counts:
    network = copy.deepcopy(network).to("meta").eval()
    for module in network.modules():
        if isinstance(module, ContextBlocks):
            module.share_work = False
    image = torch.empty(1, 3, *image_size, device="meta")
    sample = None if network.search is None else Mixture()
    regions = None
    if network.regions_from_labels:
        regions = {task.name: torch.empty(1, *image_size, device="meta") for task in network.label_tasks}
    counter, elements, published = FlopCounterMode(display=False), Counter[str](), Counter[str]()
    for path, module in network.named_modules():
        module.register_forward_hook(partial(_count_elements, elements, path))
        if hasattr(module, "published_multiply_adds"):
            module.register_forward_hook(partial(_count_published, published, path))
    with counter, torch.no_grad():
        network(image, sample, regions=regions)
    flops = {path.partition(".")[2]: counts for path, counts in counter.get_flop_counts().items()}
    return _Counts(network, flops, elements, published)


def _count_elements(counts: Counter[str], path: str, module: nn.Module, _: Any, output: Tensor) -> None:
    """Forward hook: what the paper's convention counts beside products."""
    if isinstance(module, nn.Conv2d) and module.bias is not None:
        counts[path] += output.numel()
    elif isinstance(module, nn.BatchNorm2d):
        counts[path] += 2 * output.numel()
    elif isinstance(module, nn.ReLU):
        counts[path] += output.numel()


def _count_published(counts: Counter[str], path: str, module: Any, inputs: tuple[Tensor, ...], _: Any) -> None:
    counts[path] += module.published_multiply_adds(*inputs)


def _part(counts: _Counts, name: str) -> Part:
    """Sum the counts, by path of the module, of the part of the network that has the path `name`."""

    def within(path: str) -> bool:
        return path == name or path.startswith(f"{name}.")

    module, flops = attrgetter(name)(counts.network), counts.flops  # None for a part that the network lacks
    parameters = sum(p.numel() for p in module.parameters()) if module is not None else 0
    # A ModuleDict is never called itself, so the counter knows its entries only.
    called = [f"{name}.{key}" for key in module] if isinstance(module, nn.ModuleDict) else [name]
    products = sum(counts.products(path) for path in called)
    local = sum(flops[path].get(_LOCAL_ATTENTION, 0) for path in called if path in flops) // 2
    rearranged = sum(count - counts.products(path) for path, count in counts.published.items() if within(path))
    paper = products + rearranged + sum(count for path, count in counts.elements.items() if within(path))
    return Part(parameters, products - local, local, paper)
