"""Images with their labels, as they go from the transforms through the loader to the network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import default_collate


@dataclass(frozen=True)
class Batch:
    """Images on one canvas; the transforms make batches of one image.

    Until `finish` images and class maps are bytes, which is what crosses to a GPU.
    """

    image: Tensor
    """(B, 3, H, W) RGB: uint8, then float32 normalised."""
    labels: Mapping[str, Tensor]
    """By task: class maps (B, H, W) uint8, then int64; values float32, (B, C, H, W) in the end."""
    ids: Sequence[str]
    sizes: Tensor
    """(B, 2) height and width of the image on its canvas, at offset floor((canvas - size) / 2); always on the CPU."""

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of image and labels, padding included."""
        return self.image.shape[-2], self.image.shape[-1]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """Apply a change to the image and to every label."""
        return replace(self, image=change(self.image), labels={k: change(x) for k, x in self.labels.items()})

    def pin_memory(self) -> "Batch":
        """Called by the data loader."""
        return self.map(Tensor.pin_memory)

    def to(self, device: torch.device) -> "Batch":
        """Move image and labels without waiting for the copy."""
        return self.map(lambda x: x.to(device, non_blocking=True))


def join(batches: Sequence[Batch]) -> Batch:
    """One batch of several that have equal canvases and one image each."""
    # In a worker process `default_collate` writes straight into shared memory.
    stacked = default_collate([(batch.image, batch.labels, batch.sizes) for batch in batches])
    image, labels, sizes = tree_map(lambda x: x.flatten(0, 1), stacked)
    return Batch(image, labels, [id for batch in batches for id in batch.ids], sizes)
