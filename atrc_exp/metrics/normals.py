"""Angular error of surface normals, in degrees."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from atrc_exp.tasks.kinds import KINDS

WITHIN = (11.25, 22.5, 30.0)
"""Angles in degrees below which the share of pixels is reported."""
BINS_PER_DEGREE = 1000
BINS = 180 * BINS_PER_DEGREE


class NormalsError(Metric):
    """Angle between prediction and label, pooled over the valid pixels of the dataset.

    The angle is 2 atan2(|a - b|, |a + b|) of the unit vectors, which stays accurate near 0 and 180 degrees; a zero
    prediction is 90 degrees off. `compute()` gives `mean_error`, `median` and `rmse` in degrees, `within_11.25`,
    `within_22.5` and `within_30` in per cent of pixels with a smaller error, and `invalid_pixels` (a count).
    The median comes from a histogram and is off by at most 0.0005 degrees.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    angle: Tensor
    squared_angle: Tensor
    pixels: Tensor
    within: Tensor
    histogram: Tensor
    invalid: Tensor

    def __init__(self) -> None:
        super().__init__()
        for state, size, dtype in (
            ("angle", (), torch.float64),
            ("squared_angle", (), torch.float64),
            ("pixels", (), torch.int64),
            ("within", (len(WITHIN),), torch.int64),
            ("histogram", (BINS,), torch.int64),
            ("invalid", (), torch.int64),
        ):
            self.add_state(state, torch.zeros(size, dtype=dtype), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add a batch: vectors (B, 3, H, W) of any length, labels likewise with (0, 0, 0) for invalid."""
        valid = KINDS["normals"].valid(label)
        self.invalid += (~valid).sum()
        angle = angular_error(prediction.double(), label.double())[valid]
        self.angle += angle.sum()
        self.squared_angle += angle.square().sum()
        self.pixels += angle.numel()
        self.within += torch.stack([(angle < limit).sum() for limit in WITHIN])
        self.histogram += torch.bincount((angle * BINS_PER_DEGREE).long().clamp(0, BINS - 1), minlength=BINS)

    def compute(self) -> dict[str, float]:
        """See the class; NaN where no pixel was valid."""
        shares = 100 * self.within / self.pixels
        return {
            "mean_error": (self.angle / self.pixels).item(),
            "median": self._median(),
            "rmse": (self.squared_angle / self.pixels).sqrt().item(),
            **{f"within_{limit:g}": share for limit, share in zip(WITHIN, shares.tolist(), strict=True)},
            "invalid_pixels": float(self.invalid),
        }

    def _median(self) -> float:
        if not self.pixels:
            return float("nan")
        middle = torch.stack([(self.pixels + 1) // 2, self.pixels // 2 + 1])  # the same pixel where their number is odd
        bins = torch.searchsorted(self.histogram.cumsum(0), middle)
        return (bins.double().mean().item() + 0.5) / BINS_PER_DEGREE


def angular_error(first: Tensor, second: Tensor) -> Tensor:
    """Angle in degrees (B, H, W) between vectors (B, 3, H, W)."""
    first, second = F.normalize(first, dim=1), F.normalize(second, dim=1)
    return 2 * torch.atan2((first - second).norm(dim=1), (first + second).norm(dim=1)).rad2deg()
