"""The network as training and evaluation call it."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from atrc_exp.config import Config
from atrc_exp.errors import UserError
from atrc_exp.models.network import Network, Output
from atrc_exp.models.search import ArchSample
from atrc_exp.tasks.regions import region_labels

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision context; none for fp32, so that float64 networks stay float64."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_AUTOCAST[precision])


class Predictor(nn.Module):
    """The network as the engine calls it: memory layout, precision, padding mask and label regions as configured.

    Args:
        codebook: unit normals (40, 3), where label regions of normals come from labels.
    """

    codebook: Tensor | None

    def __init__(self, network: Network, config: Config, codebook: Tensor | None = None) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("codebook", codebook, persistent=False)
        self.precision, self.mask_padding = config.engine.precision, config.distillation.mask_padding
        self.layout = torch.channels_last if config.engine.channels_last else torch.contiguous_format

    def forward(
        self, image: Tensor, sample: ArchSample | None = None, labels: Mapping[str, Tensor] | None = None
    ) -> Output:
        """Predictions at the size of `image` (B, 3, H, W); `labels` are read where label regions come from them.

        Raises:
            UserError: the network needs labels, and there are none.
        """
        # Padding is 0 in all channels; no normalised pixel is, see `Normalisation.maps_a_colour_to_zero`.
        valid = (image != 0).any(1, keepdim=True) if self.mask_padding else None
        with autocast(image.device, self.precision):
            return self.network(image.contiguous(memory_format=self.layout), sample, valid, self._regions(labels))

    def _regions(self, labels: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
        """Label regions (B, H, W) of the labels, padding in none; None where the network predicts them."""
        if not self.network.regions_from_labels:
            return None
        if labels is None:
            raise UserError("a network with distillation.regions=labels predicts for labelled images only")
        return {task.name: region_labels(task, labels[task.name], self.codebook) for task in self.network.label_tasks}
