"""Parameters and multiply-adds of a network, in all and by part."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from atrc_exp.genotype import CONTEXTS
from atrc_exp.models.network import Network
from atrc_exp.models.search import ArchSample

PARTS = ("backbone", "neck", "heads", "aux_heads", "distillation", "predictors")


@dataclass(frozen=True)
class Part:
    """Cost of one part of the network."""

    parameters: int
    multiply_adds: int
    """Of convolutions and matrix products."""
    local_attention: int
    """Multiply-adds of local attention, 2 K^2 D per pixel and block; not contained in `multiply_adds`."""

    def __add__(self, other: "Part") -> "Part":
        return Part(
            self.parameters + other.parameters,
            self.multiply_adds + other.multiply_adds,
            self.local_attention + other.local_attention,
        )


@dataclass(frozen=True)
class Profile:
    """Cost of a network for one image of `image_size` (height, width) pixels."""

    image_size: tuple[int, int]
    parts: dict[str, Part]

    @property
    def total(self) -> Part:
        """Sum of all parts."""
        return sum(self.parts.values(), Part(0, 0, 0))

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        rows = {name: _row(part) for name, part in self.parts.items()}
        return {"image_size": list(self.image_size), "parts": rows, "total": _row(self.total)}

    def table(self) -> str:
        """Plain text: parameters in millions, multiply-adds in 10^9 without and with local attention."""
        lines = [f"{'part':<14}{'parameters [M]':>16}{'multiply-adds [G]':>20}{'with local attention':>23}"]
        for name, part in (*self.parts.items(), ("total", self.total)):
            with_local = part.multiply_adds + part.local_attention
            lines.append(
                f"{name:<14}{part.parameters / 1e6:>16.3f}{part.multiply_adds / 1e9:>20.4f}{with_local / 1e9:>23.4f}"
            )
        return "\n".join(lines)


def _row(part: Part) -> dict[str, int]:
    return {
        "parameters": part.parameters,
        "multiply_adds": part.multiply_adds,
        "multiply_adds_with_local_attention": part.multiply_adds + part.local_attention,
    }


def profile(network: Network, image_size: tuple[int, int]) -> Profile:
    """Count the parameters of `network` and its multiply-adds for one image (height, width), in evaluation mode.

    Convolutions and matrix products count, one multiply-add being two FLOPs of PyTorch's counter; norms, activations,
    softmax and resizing do not. In a search network every candidate of every block counts, frozen or not. Shapes alone
    are computed (meta device), so any size is quick and needs no memory.
    """
    network = copy.deepcopy(network).to("meta").eval()
    image = torch.empty(1, 3, *image_size, device="meta")
    sample = None
    if network.search is not None:
        sample = ArchSample(1.0, torch.zeros(len(network.search.pairs), len(CONTEXTS)))
    regions = None
    if network.regions_from_labels:
        regions = {task.name: torch.empty(1, *image_size, device="meta") for task in network.label_tasks}
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(image, sample, regions=regions)
    counts = counter.get_flop_counts()
    local = torch.ops.atrc_exp.local_attention_fwd
    parts = {}
    for name in PARTS:
        module = getattr(network, name)
        parameters = sum(p.numel() for p in module.parameters()) if module is not None else 0
        children = [f"{type(network).__name__}.{name}"]
        if isinstance(module, torch.nn.ModuleDict):  # never called itself, so the counter knows its entries only
            children = [f"{children[0]}.{key}" for key in module]
        flops = sum((sum(counts[child].values()) for child in children if child in counts), 0)
        flops_local = sum((counts[child].get(local, 0) for child in children if child in counts), 0)
        parts[name] = Part(parameters, (flops - flops_local) // 2, flops_local // 2)
    return Profile(image_size, parts)
