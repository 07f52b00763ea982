"""Maps of values of any number of channels, such as albedo, optical flow or curvature; NaN where there is no label."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from atrc_exp.errors import UserError
from atrc_exp.tasks.kinds.kind import EMPTY, Bins, Doubt, Kind, Look, Measure

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from atrc_exp.tasks import Task


def nearest_centre(values: Tensor, task: Task) -> Tensor:
    """Index (B, H, W) of the centre of the task at the smallest distance to each of the values (B, C, H, W).

    Raises:
        ValueError: the centres are not fitted yet.
    """
    import torch

    if not task.centres:
        raise ValueError(f"the label regions of {task.name} are clusters, which must be fitted first")
    centres = values.new_tensor(task.centres)
    offset = centres.square().sum(1) / 2
    # One image at a time: the distances of a whole batch would outweigh all its predictions.
    nearest = [(image.flatten(1).T @ centres.T - offset).argmax(1).view(image.shape[1:]) for image in values]
    return torch.stack(nearest)


class Regression(Kind):
    """Arrays (H, W), or (H, W, C) for more than one channel; tensors (B, C, H, W).

    A pixel with a channel that is not finite is invalid. Values are those of the pixel: neither scaling nor mirroring
    an image changes them. Label regions are equal bins of one channel over `Task.range`, or of the norm of all channels
    from 0 to the largest that the range allows, or else the cells of `Task.centres`.
    """

    name = "regression"
    fill = math.nan
    bins = Bins(None, logarithmic=False)
    any_channels = True
    any_unit = True
    encodings = ("values",)
    losses: ClassVar[Mapping[str, tuple[str, ...]]] = {"l1": (), "l2": (), "berhu": ()}
    metrics: ClassVar[Mapping[str, Measure]] = {
        "rmse": Measure("value_errors", False),
        "mae": Measure("value_errors", False),
        "psnr": Measure("value_errors", True, "dB"),
        "ssim": Measure("structural_similarity", True, ""),
    }
    stored_as = "channels"
    stored_form = "an array (height, width) or (height, width, channels), as numpy.save writes it"

    def sizes(self, loss: str, channels: int, regions: int) -> tuple[int, int]:
        """See `Kind`."""
        return channels, regions

    def shape(self, task: Task, size: Sequence[int]) -> tuple[int, ...]:
        """See `Kind`."""
        return (size[0], size[1], task.channels) if task.channels > 1 else (size[0], size[1])

    def doubts(self, task: Task, label: np.ndarray) -> Iterator[Doubt]:
        """See `Kind`."""
        import numpy as np

        values, (low, high) = label[np.isfinite(label)], self.span(task)
        if not values.size:
            yield EMPTY
        elif ((values < low) | (values > high)).mean() > 0.5:
            cure = f"are dataset.folders.labels.{task.name}.scale and dataset.task_table.{task.name}.range right?"
            detail = f"{values.min():.4g} to {values.max():.4g}"
            yield Doubt(f"more values outside {low:g} to {high:g} than inside", cure, 0.5, detail)

    def statistics(self, task: Task, label: np.ndarray) -> dict[str, Any]:
        """See `Kind`."""
        import numpy as np

        pixels = label.reshape(-1, task.channels)
        pixels = pixels[np.isfinite(pixels).all(axis=1)]
        if not pixels.size:
            return {}
        total = np.array([pixels.mean(axis=1, dtype=np.float64).sum(), 0.0, 0.0])
        return {"valid": len(pixels), "range": (float(pixels.min()), float(pixels.max())), "total": total}

    def finish(self, task: Task, label: Tensor) -> Tensor:
        """See `Kind`."""
        return label if task.channels > 1 else label.unsqueeze(-3)

    def valid(self, label: Tensor) -> Tensor:
        """See `Kind`."""
        return label.isfinite().all(dim=1)

    def _binned(self, task: Task) -> tuple[int | None, float, float]:
        """The channel whose values are divided, None for the norm, and the ends of the bins."""
        low, high = self.span(task)
        channel = 0 if task.channels == 1 else task.bins_of
        return (channel, low, high) if channel is not None else (
            None, 0.0, math.sqrt(task.channels) * max(abs(low), abs(high))
        )  # fmt: skip

    def regions(self, task: Task, label: Tensor, codebook: Tensor | None) -> Tensor:
        """See `Kind`; values outside the range fall into the first or last bin."""
        if task.centres is not None:
            return nearest_centre(label.nan_to_num(), task)
        channel, low, high = self._binned(task)
        values = label.norm(dim=1) if channel is None else label[:, channel]
        position = (values.nan_to_num() - low) * (task.regions / (high - low))
        return position.floor_().clamp_(0, task.regions - 1).long()

    def region_names(self, task: Task, class_names: Sequence[str] | None) -> list[str]:
        """See `Kind`."""
        if task.centres is not None:
            return [f"around {', '.join(f'{value:.3g}' for value in centre)} {task.value_unit}".strip()
                    for centre in task.centres]  # fmt: skip
        channel, low, high = self._binned(task)
        of = "norm " if channel is None else f"channel {channel} " if task.channels > 1 else ""
        edges = [low + (high - low) * index / task.regions for index in range(task.regions + 1)]
        return [f"{of}{first:.4g} to {last:.4g} {task.value_unit}".strip() for first, last in pairwise(edges)]

    def random(self, task: Task, images: int, height: int, width: int) -> Tensor:
        """See `Kind`."""
        import torch

        return torch.empty(images, task.channels, height, width).uniform_(*self.span(task))

    def store(self, prediction: Tensor) -> Tensor:
        """See `Kind`."""
        return prediction[0].float() if len(prediction) == 1 else prediction.permute(1, 2, 0).float()

    def restore(self, task: Task, array: np.ndarray) -> Tensor:
        """See `Kind`."""
        import torch

        channels = 1 if array.ndim == 2 else array.shape[2]
        if channels != task.channels:
            raise UserError(f"holds {channels} values a pixel; {task.name} has {task.channels}")
        values = torch.tensor(array).float()
        if not values.isfinite().all():
            raise UserError("holds NaN or infinite values")
        return values[None] if values.ndim == 2 else values.permute(2, 0, 1)

    def _look(self, task: Task, values: np.ndarray) -> Look:
        """Three channels as colours over the range, other numbers as their norm, one as it is."""
        import numpy as np

        low, high = self.span(task)
        if values.ndim == 3 and values.shape[2] == 3:
            scaled = ((values - low) / (high - low)).clip(0, 1)
            return Look(np.where(np.isfinite(values).all(axis=2, keepdims=True), scaled, 0.5))
        if values.ndim == 3:
            values, low, high = np.linalg.norm(values, axis=2), 0.0, math.sqrt(task.channels) * max(abs(low), abs(high))
        return Look(np.ma.masked_invalid(values), "viridis", (low, high), unit=task.value_unit)

    def look_of_label(self, task: Task, label: np.ndarray, span: tuple[float, float] | None) -> Look:
        """See `Kind`."""
        return self._look(task, label)

    def look_of_prediction(self, task: Task, stored: np.ndarray) -> Look:
        """See `Kind`."""
        return self._look(task, stored)

    def pictures(self, task: Task, label: Tensor, prediction: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """See `Kind`."""
        import torch

        from atrc_exp.tasks.kinds.colours import coloured, grey_out

        valid = self.valid(label[None])[0]
        looks = [self._look(task, self.store(values).numpy()) for values in (label, prediction)]
        above, below = (torch.from_numpy(look.pixels.astype("float32")) for look in looks)
        if looks[0].colours is not None:
            low, high = looks[0].span or (0.0, 1.0)
            above, below = (torch.from_numpy(coloured((one - low) / (high - low), looks[0].colours))
                            for one in (above.nan_to_num(), below))  # fmt: skip
        return grey_out(above.numpy(), valid), below.numpy()
