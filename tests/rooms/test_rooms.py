"""Procedural rooms: one view at every size, exact depth, normals and boundaries."""

import subprocess
import sys

import numpy as np
import pytest

from atrc_exp.rooms import render_room
from atrc_exp.rooms.plans.classes import CLASSES
from atrc_exp.rooms.render.image import boundaries


@pytest.fixture(scope="module")
def samples():
    return [render_room(5, index, (60, 80)) for index in range(5)]


def test_seed_and_index_change_the_room():
    images = [render_room(*key, (24, 32)).image for key in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert np.array_equal(images[0], images[3])
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


def test_a_room_has_one_view_at_every_size():
    coarse, fine = render_room(0, 4, (24, 32)), render_room(0, 4, (72, 96))
    # the centre of a coarse pixel is the centre of the middle one of its 3 x 3 fine pixels
    assert np.array_equal(coarse.semseg, fine.semseg[1::3, 1::3])
    np.testing.assert_allclose(coarse.depth, fine.depth[1::3, 1::3], rtol=1e-4)


def backproject(depth: np.ndarray) -> np.ndarray:
    """Points (H, W, 3) in the camera's frame (x right, y up, z towards the camera), 57 degrees across."""
    h, w = depth.shape
    focal = w / 2 / np.tan(np.deg2rad(28.5))
    x = (np.arange(w) + 0.5 - w / 2) / focal
    y = -(np.arange(h) + 0.5 - h / 2)[:, None] / focal
    return np.stack(np.broadcast_arrays(x * depth, y * depth, -depth), -1).astype(float)


def test_normals_are_unit_vectors_that_face_the_camera(samples):
    for sample in samples:
        np.testing.assert_allclose(np.linalg.norm(sample.normals, axis=-1), 1, atol=1e-5)
        assert ((sample.normals * backproject(sample.depth)).sum(-1) < 0).all()


def test_depth_and_normals_agree_on_flat_surfaces(samples):
    checked = 0
    for sample in samples:
        points = backproject(sample.depth)
        found = np.cross(points[1:-1, 2:] - points[1:-1, :-2], points[:-2, 1:-1] - points[2:, 1:-1])
        found /= np.linalg.norm(found, axis=-1, keepdims=True)
        inner = sample.normals[1:-1, 1:-1]
        flat = np.ones(inner.shape[:2], bool)
        for rows, columns in (
            (np.s_[1:-1], np.s_[2:]),
            (np.s_[1:-1], np.s_[:-2]),
            (np.s_[2:], np.s_[1:-1]),
            (np.s_[:-2], np.s_[1:-1]),
        ):
            flat &= np.abs(sample.normals[rows, columns] - inner).max(-1) < 1e-6
            flat &= sample.semseg[rows, columns] == sample.semseg[1:-1, 1:-1]
        flat &= np.isin(sample.semseg[1:-1, 1:-1], [CLASSES.index(c) + 1 for c in ("floor", "ceiling", "table", "bed")])
        checked += flat.sum()
        # skirting boards and the like share a normal with what is behind them: steps are the rare exception
        assert ((found * inner).sum(-1)[flat] > 0.999).mean() > 0.97
    assert checked > 1500


def test_floor_and_ceiling_point_up_and_down(samples):
    up = np.concatenate([s.normals[s.semseg == CLASSES.index("floor") + 1] for s in samples])
    assert len(up) > 500 and (up[:, 1] > 0.7).all()


def test_boundaries_lie_where_ids_change(samples):
    for sample in samples:
        for change, edge in (
            (sample.semseg[:, 1:] != sample.semseg[:, :-1], sample.edge[:, :-1]),
            (sample.semseg[1:] != sample.semseg[:-1], sample.edge[:-1]),
        ):
            assert edge[change].all()
        assert 0.01 < sample.edge.mean() < 0.35


def test_boundary_rules():
    size = (4, 7)
    instance, surface = np.ones(size, int), np.zeros(size, int)
    narrow = np.zeros(size, bool)
    normals = np.zeros((3, *size))
    normals[2] = 1
    points = np.stack(np.broadcast_arrays(np.arange(7.0) * 0.01, np.zeros((4, 1)), np.full(size, -2.0)))
    assert not boundaries(instance, surface, narrow, normals, points).any()

    columns = boundaries(np.where(np.arange(7) < 3, 1, 2) * instance, surface, narrow, normals, points)
    assert np.array_equal(columns, np.broadcast_to(np.arange(7) == 2, size))  # one pixel wide, on the left side

    step = points.copy()
    step[2, 2:] -= 0.3
    rows = boundaries(instance, surface, narrow, normals, step)
    assert np.array_equal(rows, np.broadcast_to((np.arange(4) == 1)[:, None], size))
    step[2, 2:] += 0.25  # 5 cm at 2 m is no step
    assert not boundaries(instance, surface, narrow, normals, step).any()

    turned = normals.copy()
    turned[:, :, 4:] = np.array([1.0, 0.0, 0.0])[:, None, None]
    corner = surface + (np.arange(7) >= 4)
    flat = np.broadcast_to(points[:, :1, :1], points.shape)
    assert np.array_equal(boundaries(instance, corner, narrow, turned, flat)[0], np.arange(7) == 3)
    assert not boundaries(instance, corner, ~narrow, turned, flat).any()
    assert not boundaries(instance, surface, narrow, turned, flat).any()  # one smooth surface has no creases


def test_missing_ray_tracer_is_named():
    code = "import sys; sys.modules['embreex'] = None\nimport atrc_exp.rooms"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode != 0
    assert "UserError" in result.stderr and "trimesh and embreex" in result.stderr
