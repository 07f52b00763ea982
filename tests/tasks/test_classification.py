"""Depth bins and codeword triangles, against loops, solids whose triangles are known, and worked numbers."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from atrc_exp.errors import UserError
from atrc_exp.tasks import build_tasks, classification
from atrc_exp.tasks.classification import Decoder, TriangularCode, delaunay_triangles, triangular_code
from atrc_exp.tasks.kinds.depth import decode_depth, depth_bins

HALF_OCTAHEDRON = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]], dtype=torch.float64)


def icosahedron() -> Tensor:
    golden = (1 + math.sqrt(5)) / 2
    corners = [(0, a, b * golden) for a, b in itertools.product((1, -1), repeat=2)]
    rotated = [corner[k:] + corner[:k] for corner in corners for k in range(3)]
    return torch.nn.functional.normalize(torch.tensor(rotated, dtype=torch.float64), dim=1)


def sphere(number: int, seed: int) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(number, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def frontal() -> Tensor:
    """40 codewords that face the camera, as visible surfaces do: a Fibonacci spiral over the half sphere."""
    index = torch.arange(40, dtype=torch.float64)
    z, angle = (index + 0.5) / 40, index * math.pi * (3 - math.sqrt(5))
    radius = (1 - z**2).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], 1)


def as_map(vectors) -> Tensor:
    """(n, c) as a map (1, c, 1, n)."""
    return torch.as_tensor(np.asarray(vectors)).T.reshape(1, -1, 1, len(vectors))


def as_list(maps: Tensor) -> np.ndarray:
    return maps[0, :, 0].T.numpy()


def tasks(*names: str):
    forms = {"depth": "classification", "normals": "classification"}
    facts = {"num_classes": {"semseg": 3}, "edge_positive_weight": 0.8, "edge_max_distance": 0.011}
    return build_tasks(names, forms={name: form for name, form in forms.items() if name in names}, **facts)


@pytest.mark.parametrize(("index", "metres"), [(0, 0.72366), (1, 0.77340), (20, 2.73518), (39, 9.67306)])
def test_a_certain_bin_is_its_centre_in_log_space(index, metres):
    logits = torch.full((1, 40, 1, 1), -100.0)
    logits[0, index] = 100
    assert decode_depth(logits).item() == pytest.approx(metres, abs=1e-5)


def test_depth_is_the_geometric_mean_weighted_by_probabilities():
    logits = torch.randn(2, 40, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    depth = decode_depth(logits)
    assert depth.shape == (2, 1, 3, 4)
    for b, y, x in np.ndindex(2, 3, 4):
        exponentials = [math.exp(logit) for logit in logits[b, :, y, x]]
        product = 1.0
        for i, exponential in enumerate(exponentials):
            product *= (0.7 * (10 / 0.7) ** ((i + 0.5) / 40)) ** (exponential / sum(exponentials))
        assert depth[b, 0, y, x].item() == pytest.approx(product, rel=1e-9)


def test_depth_through_its_bin_is_off_by_half_a_bin_at_most():
    depth = torch.exp(torch.linspace(math.log(0.7001), math.log(9.999), 500)).view(1, 1, 1, -1)
    logits = 200.0 * torch.nn.functional.one_hot(depth_bins(depth[:, 0]), 40).movedim(-1, 1)
    assert (decode_depth(logits) / depth).log().abs().max() <= 0.5 * math.log(10 / 0.7) / 40 + 1e-5


def test_the_triangles_of_an_icosahedron_are_its_faces():
    words = icosahedron().numpy()
    triangles = delaunay_triangles(words)
    adjacent = np.isclose(words @ words.T, 1 / math.sqrt(5))
    faces = [
        (a, b, c)
        for a, b, c in itertools.combinations(range(12), 3)
        if adjacent[a, b] and adjacent[b, c] and adjacent[a, c]
    ]
    assert sorted(tuple(sorted(t)) for t in triangles.tolist()) == faces and len(faces) == 20


def test_triangles_are_delaunay_neighbours_and_cover_what_the_codewords_cover(frontal):
    """No codeword lies in the cap around a triangle, no triangle closes the empty half, none overlaps another."""
    words = frontal.numpy()
    triangles = delaunay_triangles(words)
    assert set(triangles.flatten()) == set(range(40))
    for triangle in triangles:
        a, b, c = words[triangle]
        centre = np.cross(b - a, c - a)
        centre *= np.sign(centre @ a) / np.linalg.norm(centre)
        assert centre @ a > 0.5
        assert max(np.delete(words, triangle, axis=0) @ centre) < centre @ a
    points = sphere(300, seed=1)
    inside = contains(words, triangles, points).sum(axis=1)
    assert set(inside[points[:, 2] > 0.3]) == {1} and set(inside) == {0, 1} and not inside[points[:, 2] < -0.3].any()


def contains(words: np.ndarray, triangles: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(points, triangles): on the same side of all three planes through the origin and a side as the third corner."""
    inside = np.ones((len(points), len(triangles)), dtype=bool)
    for column, triangle in enumerate(triangles):
        for k in range(3):
            a, b, third = (words[triangle[(k + i) % 3]] for i in range(3))
            plane = np.cross(a, b)
            inside[:, column] &= (points @ plane) * (third @ plane) > 0
    return inside


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_within_the_triangles_come_back_exactly(frontal, dtype):
    points = sphere(400, seed=2)
    for codebook, normals in ((icosahedron(), points), (frontal, points[points[:, 2] > 0.7])):
        code = TriangularCode(codebook)
        words, weights = (as_list(x) for x in code.encode(as_map(normals).to(dtype)))
        containing = contains(codebook.numpy(), code.triangles.numpy(), normals)
        assert containing.any(axis=1).all()
        for index, triangle in enumerate(containing.argmax(axis=1)):
            assert set(words[index]) == set(code.triangles[triangle].tolist())
        np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
        assert weights.min() >= 0
        tolerance = 1e-6 if dtype == torch.float32 else 1e-12
        np.testing.assert_allclose(mixed(codebook, words, weights), normals, atol=tolerance)
        decoded = code.decode(as_map(dense(len(codebook), words, weights)).clamp(min=1e-30).log())
        np.testing.assert_allclose(as_list(decoded), normals, atol=tolerance)


def mixed(codebook: Tensor, words: np.ndarray, weights: np.ndarray) -> np.ndarray:
    vectors = sum(weights[:, k, None] * codebook.numpy()[words[:, k]] for k in range(3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def dense(number: int, words: np.ndarray, weights: np.ndarray) -> np.ndarray:
    distribution = np.zeros((len(words), number))
    for index, k in np.ndindex(words.shape):
        distribution[index, words[index, k]] += weights[index, k]
    return distribution


@pytest.mark.parametrize(
    ("normal", "expected"),
    [
        ((1 / 3, 2 / 3, 2 / 3), (0.2, 0, 0.4, 0, 0.4)),
        ((0, -0.6, 0.8), (0, 0, 0, 3 / 7, 4 / 7)),
        ((0, 0, 1), (0, 0, 0, 0, 1)),
        ((-1, 0, 0), (0, 1, 0, 0, 0)),
        ((0.6, 0, -0.8), (1, 0, 0, 0, 0)),  # from here on below the half that is covered
        ((0.36, -0.48, -0.8), (3 / 7, 0, 0, 4 / 7, 0)),
    ],
)
def test_weights_of_an_octahedron(normal, expected):
    words, weights = TriangularCode(HALF_OCTAHEDRON).encode(as_map([normal]).double())
    np.testing.assert_allclose(dense(5, as_list(words), as_list(weights))[0], expected, atol=1e-12)


def test_a_normal_that_no_triangle_contains_is_met_at_least_as_well_as_by_its_nearest_codeword(frontal):
    normals = np.concatenate([sphere(2000, seed=3), -frontal.numpy(), [[0.0, 0.0, -1.0]]])
    for codebook in (frontal, HALF_OCTAHEDRON):
        words, weights = (as_list(x) for x in TriangularCode(codebook).encode(as_map(normals)))
        np.testing.assert_allclose(weights.sum(1), 1)
        reached = (mixed(codebook, words, weights) * normals).sum(1)
        assert (reached >= (normals @ codebook.numpy().T).max(1) - 1e-12).all()


def test_decoding_mixes_the_triangle_of_largest_total_probability():
    probabilities = [
        (0.30, 0.05, 0.10, 0.25, 0.30),  # x, -y, z
        (0.40, 0.35, 0.11, 0.04, 0.10),  # x, y, z: -x is second but no neighbour of x
        (0.02, 0.02, 0.50, 0.42, 0.04),
    ]
    expected = np.array([(0.30, -0.25, 0.30), (0.40, 0.11, 0.10), (0.02, 0.50, 0.04)])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    decoded = as_list(TriangularCode(HALF_OCTAHEDRON).decode(as_map(probabilities).log() + 3))
    decoded[2, 0] = abs(decoded[2, 0])  # x and -x are equally probable there
    np.testing.assert_allclose(decoded, expected, atol=1e-12)


def test_a_certain_codeword_is_itself(frontal):
    decoded = TriangularCode(frontal).decode(as_map(200 * np.eye(40)))
    np.testing.assert_allclose(as_list(decoded), frontal, atol=1e-12)


def test_maps_keep_their_shape_and_coding_in_parts_changes_nothing(frontal, monkeypatch):
    code = TriangularCode(frontal)
    normals, logits = torch.randn(2, 3, 4, 5), torch.randn(2, 40, 4, 5)
    whole = (*code.encode(normals), code.decode(logits))
    assert [x.shape for x in whole] == [(2, 3, 4, 5)] * 3
    torch.testing.assert_close(whole[2].norm(dim=1), torch.ones(2, 4, 5))
    one = code.encode(normals[1:, :, 2:3, 3:4])
    torch.testing.assert_close(one[1][0, :, 0, 0], whole[1][1, :, 2, 3])
    monkeypatch.setattr(classification, "_CHUNK", 7)
    for expected, found in zip(whole, (*code.encode(normals), code.decode(logits)), strict=True):
        torch.testing.assert_close(found, expected)


def test_codebooks_without_triangles_are_refused():
    angles = torch.arange(8) * math.pi / 4
    circle = torch.stack([angles.cos(), angles.sin(), torch.zeros(8)], 1)
    with pytest.raises(UserError, match="no triangulation"):
        TriangularCode(circle)
    tetrahedron = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / math.sqrt(3)  # caps: 71 degrees
    with pytest.raises(UserError, match="too coarse"):
        TriangularCode(tetrahedron)


def test_decoder_gives_metres_and_unit_vectors_and_leaves_other_tasks_alone(frontal):
    decode = Decoder(tasks("semseg", "depth", "normals"), frontal)
    outputs = {name: torch.randn(1, c, 2, 2) for name, c in (("semseg", 3), ("depth", 40), ("normals", 40))}
    decoded = decode(outputs)
    assert decoded["semseg"] is outputs["semseg"]
    torch.testing.assert_close(decoded["depth"], decode_depth(outputs["depth"]))
    torch.testing.assert_close(decoded["normals"], TriangularCode(frontal).decode(outputs["normals"]))
    regression = build_tasks(["depth"], num_classes={}, edge_positive_weight=0.8, edge_max_distance=0.011)
    metres = {"depth": torch.rand(1, 1, 2, 2)}
    assert Decoder(regression)(metres) == metres


def test_triangular_code_is_built_where_it_is_needed_and_needs_a_codebook(frontal):
    assert triangular_code(tasks("semseg", "depth"), frontal) is None
    assert triangular_code(tasks("normals"), frontal) is not None
    with pytest.raises(ValueError, match="normals as a classification need a codebook"):
        triangular_code(tasks("normals"), None)
