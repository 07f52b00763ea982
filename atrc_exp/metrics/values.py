"""Errors of values, by their difference, structure and, of positive ones, ratio (Eigen et al., NIPS 2014)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from atrc_exp.tasks import Task

THRESHOLD = 1.25
_WINDOW = 11  # pixels; of the structural similarity
_LEAST = 1e-3  # smaller predictions count as this one, whose logarithm is defined


class ValueErrors(Metric):
    """Errors pooled over the channels of all valid pixels of the dataset.

    `compute()` gives `rmse` and `mae` in the unit of the values, `psnr` in dB with the task's range as the signal's,
    and `invalid_pixels` (a count).
    """

    is_differentiable = False
    full_state_update = False

    values: Tensor
    absolute: Tensor
    squared: Tensor
    invalid: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        for state in ("values", "invalid"):
            self.add_state(state, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        for state in ("absolute", "squared"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add a batch: values (B, C, H, W), and labels likewise."""
        self._add(*self._valid(prediction, label))

    def compute(self) -> dict[str, float]:
        """See the class; NaN where no pixel was valid."""
        low, high = self.task.kind.span(self.task)
        squared = self.squared / self.values
        return {
            "rmse": squared.sqrt().item(),
            "mae": (self.absolute / self.values).item(),
            "psnr": (10 * ((high - low) ** 2 / squared).log10()).item(),
            "invalid_pixels": float(self.invalid),
        }

    def _valid(self, prediction: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions and labels (n,) of the valid pixels, all channels of one after the other."""
        valid = self.task.kind.valid(label)
        self.invalid += (~valid).sum()
        found, wanted = (values.double().movedim(1, -1)[valid].flatten() for values in (prediction, label))
        return found, wanted

    def _add(self, found: Tensor, wanted: Tensor) -> None:
        error = found - wanted
        self.values += error.numel()
        self.absolute += error.abs().sum()
        self.squared += error.square().sum()


class StructuralSimilarity(ValueErrors):
    """As `ValueErrors`; `compute()` also gives `ssim`, the mean structural similarity (Wang et al., TIP 2004).

    It is that of Gaussian windows of 11 x 11 pixels and sigma 1.5, with the task's range as the signal's, and pooled
    over the channels of all pixels whose window lies in the image and is valid.
    """

    similarity: Tensor
    windows: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.add_state("similarity", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("windows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add a batch: values (B, C, H, W), and labels likewise."""
        from torchmetrics.functional.image import structural_similarity_index_measure

        super().update(prediction, label)
        if min(label.shape[2:]) < _WINDOW:
            return
        valid = self.task.kind.valid(label).unsqueeze(1)
        whole = -F.max_pool2d(-valid.double(), _WINDOW, stride=1) > 0
        found, wanted = (values.double().masked_fill(~valid, 0) for values in (prediction, label))
        low, high = self.task.kind.span(self.task)
        maps = structural_similarity_index_measure(found, wanted, data_range=high - low, return_full_image=True)[1]
        border = _WINDOW // 2
        inner = maps[..., border:-border, border:-border]
        self.similarity += (inner * whole).sum()
        self.windows += whole.sum() * label.shape[1]

    def compute(self) -> dict[str, float]:
        """See the class; `ssim` is NaN where no window was valid."""
        return {"ssim": (self.similarity / self.windows).item(), **super().compute()}


class RangeErrors(ValueErrors):
    """Errors of positive values, depth or disparity; predictions below 0.001 count as 0.001.

    `compute()` gives `rmse` and `mae`; `abs_rel` and `sq_rel`, the error and its square divided by the label;
    `log_rmse` of natural logarithms; `delta_1`, `delta_2`, `delta_3`, the shares in [0, 1] of pixels whose ratio, the
    larger value divided by the smaller, is below 1.25, 1.25² and 1.25³; and `invalid_pixels`.
    """

    relative: Tensor
    squared_relative: Tensor
    squared_log: Tensor
    within: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        for state in ("relative", "squared_relative", "squared_log"):
            self.add_state(state, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("within", torch.zeros(3, dtype=torch.int64), dist_reduce_fx="sum")

    def _add(self, found: Tensor, wanted: Tensor) -> None:
        found = found.clamp(min=_LEAST)
        super()._add(found, wanted)
        error, log_ratio = found - wanted, (found / wanted).log()
        self.relative += (error.abs() / wanted).sum()
        self.squared_relative += (error.square() / wanted).sum()
        self.squared_log += log_ratio.square().sum()
        self.within += torch.stack([(log_ratio.abs() < k * math.log(THRESHOLD)).sum() for k in (1, 2, 3)])

    def compute(self) -> dict[str, float]:
        """See the class; NaN where no pixel was valid."""
        shared = super().compute()
        del shared["psnr"]
        shares = (self.within / self.values).tolist()
        return {
            "abs_rel": (self.relative / self.values).item(),
            "sq_rel": (self.squared_relative / self.values).item(),
            "log_rmse": (self.squared_log / self.values).sqrt().item(),
            **{f"delta_{k}": share for k, share in enumerate(shares, start=1)},
            **shared,
        }
