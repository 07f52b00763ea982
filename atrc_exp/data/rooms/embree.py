"""The ray-tracing libraries, imported here and nowhere else, and the first-hit and occlusion queries on them."""

from typing import NamedTuple

import numpy as np

from atrc_exp.errors import UserError

try:
    import trimesh
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene
except ImportError as error:
    raise UserError(
        f"The procedural rooms need trimesh and embreex ({error}). Install them: pip install trimesh embreex"
    ) from error

__all__ = ["Hits", "Tracer", "trimesh"]


class Hits(NamedTuple):
    """First hits of N rays: triangle index (N,) int32 with -1 for a miss, barycentric u, v (N,), ray parameter (N,)."""

    triangle: np.ndarray
    u: np.ndarray
    v: np.ndarray
    distance: np.ndarray


class Tracer:
    """An embree scene over triangles (F, 3, 3) in metres."""

    def __init__(self, triangles: np.ndarray) -> None:
        self._scene = EmbreeScene()
        self._mesh = TriangleMesh(self._scene, np.ascontiguousarray(triangles, np.float32))

    def first_hits(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        """First hits of rays (N, 3) float32; distances are in units of the direction's length."""
        out = self._scene.run(origins, directions, output=1)
        return Hits(out["primID"], out["u"], out["v"], out["tfar"])

    def occluded(self, origins: np.ndarray, segments: np.ndarray) -> np.ndarray:
        """Whether anything lies between origins (N, 3) and origins + segments (N, 3); bool (N,)."""
        limits = np.full(len(origins), 1.0, np.float32)
        return self._scene.run(origins, segments, limits, query="OCCLUDED") != -1
