"""Root mean square error of depth, in metres."""

import torch
from torch import Tensor
from torchmetrics import Metric

from atrc_exp.tasks.kinds import KINDS

REFERENCE_INVALID_DEPTH = 255.0


class DepthError(Metric):
    """RMSE pooled over the valid pixels of the dataset; predictions below 0 count as 0.

    `compute()` gives `rmse` (m), `rmse_per_image` (m; the mean over images that have valid pixels) and
    `invalid_pixels` (a count).

    Args:
        reference_invalid: count a depth of 0 as 255 m, and a negative one as it is. The published metric does so: it
            ignores the value 0, but after that has been replaced by 255. On fully labelled data both are the same.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    squared_error: Tensor
    pixels: Tensor
    image_rmse: Tensor
    images: Tensor
    invalid: Tensor

    def __init__(self, *, reference_invalid: bool = False) -> None:
        super().__init__()
        self.reference_invalid = reference_invalid
        for state, dtype in (
            ("squared_error", torch.float64),
            ("pixels", torch.int64),
            ("image_rmse", torch.float64),
            ("images", torch.int64),
            ("invalid", torch.int64),
        ):
            self.add_state(state, torch.zeros((), dtype=dtype), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add a batch: depths (B, 1, H, W) in metres, labels likewise with 0 for invalid."""
        valid = KINDS["depth"].valid(label).unsqueeze(1)
        self.invalid += (~valid).sum()
        if self.reference_invalid:
            label = label.where(label != 0, REFERENCE_INVALID_DEPTH)
            valid = label.isfinite()
        error = (prediction.double().clamp(min=0) - label).where(valid, 0)
        squared = error.square().sum(dim=(1, 2, 3))
        pixels = valid.sum(dim=(1, 2, 3))
        self.squared_error += squared.sum()
        self.pixels += pixels.sum()
        self.image_rmse += (squared / pixels.clamp(min=1)).sqrt().sum()
        self.images += (pixels > 0).sum()

    def compute(self) -> dict[str, float]:
        """See the class; NaN where no pixel was valid."""
        return {
            "rmse": (self.squared_error / self.pixels).sqrt().item(),
            "rmse_per_image": (self.image_rmse / self.images).item(),
            "invalid_pixels": float(self.invalid),
        }
