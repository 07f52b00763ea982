"""Regression by classification: the code of normals, and predictions brought back to values (App. D).

Depth is spread over logarithmic bins (`kinds.depth`). Normals are coded by triangles: the codewords' Delaunay
triangulation of the sphere turns a normal into three codewords and their weights (Zeisl et al., ECCV 2014, as the paper
cites it).
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrc_exp.errors import UserError
from atrc_exp.tasks import Task

# Codewords that cover half the sphere leave the other half to facets of the convex hull that are no neighbourhoods.
# Their circumscribed caps are about a hemisphere; three perpendicular codewords, a coarse triangle, have 55 degrees.
MAX_CAP = math.radians(60)
_CHUNK = 2**16  # pixels coded at once, which bounds the memory


def delaunay_triangles(codebook: np.ndarray) -> np.ndarray:
    """Delaunay triangles (T, 3) of unit vectors (R, 3) on the sphere: facets of their convex hull.

    Facets whose circumscribed cap is wider than `MAX_CAP` are left out, so that codewords which cover a part of the
    sphere triangulate that part.

    Raises:
        UserError: no triangle is left, as where all codewords are in one plane.
    """
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = ConvexHull(codebook.astype(np.float64))
    except (QhullError, ValueError) as error:
        raise UserError(f"the codebook of normals has no triangulation: {str(error).splitlines()[0]}") from error
    # A facet lies in the plane n.x + d = 0 with n pointing outwards: its cap is around n, of angle acos(-d).
    triangles = hull.simplices[-hull.equations[:, 3] > math.cos(MAX_CAP)]
    if not len(triangles):
        raise UserError(
            f"the codebook of normals is too coarse: no three neighbours within {math.degrees(MAX_CAP):.0f} degrees"
        )
    return triangles


class TriangularCode(nn.Module):
    """Unit normals as weights of the three codewords around them, and back (App. D).

    Args:
        codebook: (R, 3) unit vectors.

    Raises:
        UserError: see `delaunay_triangles`.
    """

    codebook: Tensor
    triangles: Tensor
    inverse: Tensor
    membership: Tensor

    def __init__(self, codebook: Tensor) -> None:
        super().__init__()
        words = codebook.detach().double().cpu()
        triangles = torch.from_numpy(delaunay_triangles(words.numpy()).astype(np.int64))
        self.register_buffer("codebook", words)
        self.register_buffer("triangles", triangles)  # (T, 3)
        # A normal n is the sum of weights w times corners, n = C w: w = C^-1 n.
        self.register_buffer("inverse", torch.linalg.inv(words[triangles].transpose(1, 2)))
        self.register_buffer("membership", F.one_hot(triangles, len(words)).sum(1).double())  # (T, R)

    def encode(self, normals: Tensor) -> tuple[Tensor, Tensor]:
        """Codewords and weights, (B, 3, H, W) each, of normals (B, 3, H, W); the weights of a pixel sum to 1.

        Inside a triangle the weighted sum points along the normal. A normal that no triangle contains gets the weights
        of the triangle with the smallest negative ones, these cut, or its nearest codeword alone if that is nearer.
        """
        pixels = normals.movedim(1, -1)
        parts = [self._encode(part) for part in pixels.flatten(0, 2).split(_CHUNK)]
        words, weights = (torch.cat(part).view_as(pixels).movedim(-1, 1) for part in zip(*parts, strict=True))
        return words, weights

    def decode(self, logits: Tensor) -> Tensor:
        """Unit normals (B, 3, H, W) of logits (B, R, H, W).

        The triangle with the largest total probability is chosen; its three probabilities weight its codewords.
        """
        pixels = logits.movedim(1, -1)
        parts = [self._decode(part) for part in pixels.flatten(0, 2).split(_CHUNK)]
        return torch.cat(parts).view(*pixels.shape[:-1], 3).movedim(-1, 1)

    def _encode(self, normals: Tensor) -> tuple[Tensor, Tensor]:
        """As `encode`, for a list of normals (n, 3)."""
        normals = F.normalize(normals, dim=1)
        all_weights = (normals @ self.inverse.to(normals).flatten(0, 1).T).unflatten(1, (-1, 3))  # (n, T, 3)
        best = all_weights.clamp(max=0).sum(2).argmax(1)
        weights = all_weights[torch.arange(len(best), device=best.device), best].clamp(min=0)
        words = self.triangles[best]
        total = weights.sum(1, keepdim=True)
        weights = weights / total.clamp(min=torch.finfo(weights.dtype).tiny)
        cosine, nearest = (normals @ self.codebook.to(normals).T).max(1, keepdim=True)
        reached = (self._direction(words, weights) * normals).sum(1, keepdim=True)
        alone = (reached < cosine) | (total == 0)
        one_hot = torch.tensor([1, 0, 0]).to(weights)
        return nearest.where(alone, words), one_hot.where(alone, weights)

    def _decode(self, logits: Tensor) -> Tensor:
        """As `decode`, for a list of logits (n, R)."""
        probabilities = logits.softmax(1)
        words = self.triangles[(probabilities @ self.membership.to(logits).T).argmax(1)]
        return self._direction(words, probabilities.gather(1, words))

    def _direction(self, words: Tensor, weights: Tensor) -> Tensor:
        """Unit vectors (n, 3) along the weighted sums of codewords, (n, 3) indices and weights."""
        return F.normalize(torch.einsum("nk,nkc->nc", weights, self.codebook.to(weights)[words]), dim=1)


def triangular_code(tasks: Iterable[Task], codebook: Tensor | None) -> TriangularCode | None:
    """The code of those tasks that are predicted through it; None where there are none.

    Raises:
        ValueError: there is no codebook.
    """
    names = [task.name for task in tasks if task.is_classification and task.kind.coded]
    if names and codebook is None:
        raise ValueError(f"{', '.join(names)} as a classification need a codebook")
    return TriangularCode(codebook) if names and codebook is not None else None


class Decoder(nn.Module):
    """Turns the network's outputs into what metrics, panels and files take, whatever the form of a task.

    Classification forms of depth and normals become metres and unit vectors; all other outputs stay as they are.
    """

    def __init__(self, tasks: Iterable[Task], codebook: Tensor | None = None) -> None:
        super().__init__()
        self.tasks = {task.name: task for task in tasks}
        self.code = triangular_code(self.tasks.values(), codebook)

    def forward(self, predictions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Decode predictions (B, `task.channels`, H, W), in at least single precision, by task."""
        return {name: self._decode(self.tasks[name], prediction) for name, prediction in predictions.items()}

    def _decode(self, task: Task, prediction: Tensor) -> Tensor:
        return task.kind.from_regions(task, prediction, self.code) if task.is_classification else prediction
