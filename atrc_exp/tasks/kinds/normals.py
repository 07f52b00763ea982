"""Surface normals: unit vectors, (0, 0, 0) where there is no label; their label regions are codewords (App. A, D)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from atrc_exp.tasks.kinds.kind import EMPTY, Doubt, Kind, Look, Measure

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from atrc_exp.tasks import Task
    from atrc_exp.tasks.classification import TriangularCode

CODEWORDS = 40  # unit vectors whose nearest one is a normal's auxiliary class
_SHORTEST = 0.5  # 8 bits hold no zero vector: what is shorter stands for it
_LENGTHS = (0.5, 1.5)  # of normals; the coarsest eight bits and an unnormalised teacher stay well inside
_NOISE = 0.01  # what eight bits make of a component that is zero, and more


def nearest_codeword(normals: Tensor, codebook: Tensor) -> Tensor:
    """Index (B, H, W) of the codeword at the smallest angle to each normal (B, 3, H, W) of any length."""
    import torch

    codebook = codebook.to(normals)
    # One image at a time: the similarities of a whole batch would outweigh all its predictions.
    nearest = [(image.flatten(1).T @ codebook.T).argmax(dim=1) for image in normals]
    return torch.stack(nearest).view(normals.shape[0], *normals.shape[2:])


class Normals(Kind):
    """Arrays (H, W, 3), tensors (B, 3, H, W); x to the side, y vertical, z towards the camera."""

    name = "normals"
    coded = True
    reference_rule = True
    unit = "deg"
    encodings = ("vectors",)
    losses: ClassVar[Mapping[str, tuple[str, ...]]] = {"unit_l1": ()}
    classification_loss = "triangular_cross_entropy"
    metrics: ClassVar[Mapping[str, Measure]] = {
        "mean_error": Measure("angular_error", False),
        "median": Measure("angular_error", False),
    }
    stored_as = "rgb"
    stored_form = "8-bit RGB, 255 (n + 1) / 2 of the unit vector n"

    def sizes(self, loss: str, channels: int, regions: int) -> tuple[int, int]:
        """See `Kind`."""
        return 3, CODEWORDS

    def shape(self, task: Task, size: Sequence[int]) -> tuple[int, ...]:
        """See `Kind`."""
        return (size[0], size[1], 3)

    def mirror(self, label: np.ndarray) -> None:
        """See `Kind`: normals point the other way in x."""
        label[..., 0] *= -1

    def doubts(self, task: Task, label: np.ndarray) -> Iterator[Doubt]:
        """See `Kind`."""
        import numpy as np

        vectors = label[label.any(axis=2)]
        if not len(vectors):
            yield EMPTY
            return
        lengths = np.linalg.norm(vectors, axis=1)
        low, high = float(vectors.min()), float(vectors.max())
        to_one_side = (vectors[:, 0] > -_NOISE).all() or (vectors[:, 0] < _NOISE).all()  # the flip of a crop changes x
        wrong = int(((lengths < _LENGTHS[0]) | (lengths > _LENGTHS[1])).sum())
        if wrong:
            cure = "are these 8-bit values? They mean v = 2 u / 255 - 1" if high > 2 else "unit vectors are wanted"
            detail = f"{wrong} of length {lengths.min():.3g} to {lengths.max():.3g}"
            yield Doubt("vectors far from length 1", f"{cure}, and (0, 0, 0) where there is no label", detail=detail)
        if to_one_side and (vectors[:, 1:] > -_NOISE).all():
            cure = "are they stored in [0, 1]? v = 2 n - 1 is wanted"
            yield Doubt("components of a single sign", cure, 1.0, f"{low:.3g} to {high:.3g}")
        elif (vectors[:, 2] < -_NOISE).mean() > 0.5:
            cure = "z must be positive towards the camera: change its sign"
            yield Doubt("normals that point away from the camera", cure, 0.5)

    def statistics(self, task: Task, label: np.ndarray) -> dict[str, Any]:
        """See `Kind`."""
        import numpy as np

        vectors = label[label.any(axis=2)].astype(np.float64)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return {"valid": len(vectors), "total": unit.sum(axis=0)}

    def look_of_label(self, task: Task, label: np.ndarray, span: tuple[float, float] | None) -> Look:
        """See `Kind`: RGB = (n + 1) / 2, in which unlabelled pixels are grey."""
        return Look(((label + 1) / 2).clip(0, 1))

    def valid(self, label: Tensor) -> Tensor:
        """See `Kind`."""
        return (label != 0).any(dim=1) & label.isfinite().all(dim=1)

    def regions(self, task: Task, label: Tensor, codebook: Tensor | None) -> Tensor:
        """See `Kind`."""
        if codebook is None:
            raise ValueError(f"the label regions of {task.name} need a codebook")
        return nearest_codeword(label, codebook)

    def region_names(self, task: Task, class_names: Sequence[str] | None) -> list[str]:
        """See `Kind`."""
        return [f"codeword {index}" for index in range(task.regions)]

    def from_regions(self, task: Task, logits: Tensor, code: TriangularCode | None) -> Tensor:
        """See `Kind`."""
        assert code is not None
        return code.decode(logits)

    def random(self, task: Task, images: int, height: int, width: int) -> Tensor:
        """See `Kind`."""
        import torch

        return torch.nn.functional.normalize(torch.randn(images, 3, height, width), dim=1)

    def blended(self, prediction: Tensor) -> Tensor:
        """See `Kind`: unit vectors."""
        import torch

        return torch.nn.functional.normalize(prediction, dim=0)

    def store(self, prediction: Tensor) -> Tensor:
        """See `Kind`."""
        return (127.5 * (self.blended(prediction) + 1) + 0.5).floor().byte().permute(1, 2, 0)

    def restore(self, task: Task, array: np.ndarray) -> Tensor:
        """See `Kind`."""
        import torch

        vectors = torch.tensor(array).float().permute(2, 0, 1) / 127.5 - 1
        return vectors * (vectors.norm(dim=0) >= _SHORTEST)

    def look_of_prediction(self, task: Task, stored: np.ndarray) -> Look:
        """See `Kind`."""
        return Look(stored)

    def pictures(self, task: Task, label: Tensor, prediction: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """See `Kind`."""
        from atrc_exp.tasks.kinds.colours import grey_out

        unit = self.blended(prediction.float())
        above, below = (((normals + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy() for normals in (label.float(), unit))
        return grey_out(above, (label != 0).any(0)), below
