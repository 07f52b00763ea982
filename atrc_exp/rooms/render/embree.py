"""The ray-tracing libraries, imported here and nowhere else, with first-hit and occlusion queries on them."""

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
    """First hits of N rays, all (N,): triangle index (-1: a miss), barycentric u and v, ray parameter."""

    triangle: np.ndarray
    u: np.ndarray
    v: np.ndarray
    distance: np.ndarray


def _rows(vectors: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(vectors.T, np.float32)


class Tracer:
    """An embree scene over triangles (F, 3, 3) in metres. Rays come as (3, N) arrays."""

    def __init__(self, triangles: np.ndarray) -> None:
        self._scene = EmbreeScene()
        self._mesh = TriangleMesh(self._scene, np.ascontiguousarray(triangles, np.float32))

    def first_hits(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        """First hits; distances are in units of the directions' lengths. `origins` may be (3, 1)."""
        directions = _rows(directions)
        out = self._scene.run(_rows(np.broadcast_to(origins, directions.T.shape)), directions, output=1)
        return Hits(out["primID"], out["u"], out["v"], out["tfar"])

    def occluded(self, origins: np.ndarray, segments: np.ndarray) -> np.ndarray:
        """Whether anything lies between the origins and origins + segments; bool (N,)."""
        limits = np.ones(origins.shape[1], np.float32)
        return self._scene.run(_rows(origins), _rows(segments), limits, query="OCCLUDED") != -1
