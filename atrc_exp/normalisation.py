"""How images are normalised: by the mean and deviation with which the network's first weights were trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of R, G and B in [0, 1]."""

    mean: Channels
    std: Channels

    @classmethod
    def of_run(cls, environment: Mapping[str, Any]) -> "Normalisation":
        """What a run's environment.json says; ImageNet's where it says nothing, since such a run knew no other."""
        record = environment.get("backbone")
        return IMAGENET if record is None else cls(tuple(record["mean"]), tuple(record["std"]))

    def as_dict(self) -> dict[str, list[float]]:
        """The fields as plain JSON values."""
        return {"mean": list(self.mean), "std": list(self.std)}

    def __str__(self) -> str:
        return f"mean {', '.join(map(str, self.mean))}, deviation {', '.join(map(str, self.std))}"

    def undone(self, image: Tensor) -> Tensor:
        """RGB in [0, 1] of a normalised image (3, H, W) on the CPU; padding has the mean colour."""
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return image.float() * std + mean

    @property
    def maps_a_colour_to_zero(self) -> bool:
        """Whether an 8-bit colour is the mean, and becomes 0 as padding does."""
        return all(abs(255 * mean - round(255 * mean)) < 1e-3 for mean in self.mean)


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
