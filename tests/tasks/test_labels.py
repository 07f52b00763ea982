"""Valid pixels and label regions."""

import math

import numpy as np
import pytest
import torch

from atrc_exp.tasks import KINDS, TASKS
from atrc_exp.tasks.kinds.depth import depth_bins
from atrc_exp.tasks.kinds.normals import nearest_codeword
from atrc_exp.tasks.regions import region_labels, require_classes


def depth_edge(index: int) -> float:
    return 0.7 * (10 / 0.7) ** (index / 40)


@pytest.mark.parametrize("index", range(1, 40))
def test_depth_bins_change_at_every_logarithmic_edge(index):
    edge = depth_edge(index)
    bins = depth_bins(torch.tensor([edge * (1 - 1e-5), edge * (1 + 1e-5)]))
    assert bins.tolist() == [index - 1, index]


def test_depth_bins_are_clamped_at_both_ends():
    depths = torch.tensor([0.001, 0.7, depth_edge(1) * 0.999, depth_edge(39) * 1.001, 10.0, 80.0])
    assert depth_bins(depths).tolist() == [0, 0, 0, 39, 39, 39]


def test_depth_regions_leave_out_invalid_pixels():
    depth = torch.tensor([0.0, -1.0, math.nan, math.inf, 0.7, 12.0]).view(1, 1, 2, 3)
    assert region_labels(TASKS["depth"], depth).tolist() == [[[255, 255, 255], [255, 0, 39]]]
    assert KINDS["depth"].valid(depth).tolist() == [[[False, False, False], [False, True, True]]]


def test_nearest_codeword_has_the_smallest_angle():
    generator = np.random.default_rng(0)
    codebook = generator.normal(size=(40, 3))
    codebook /= np.linalg.norm(codebook, axis=1, keepdims=True)
    normals = generator.normal(size=(2, 3, 5, 7))
    nearest = nearest_codeword(torch.from_numpy(normals), torch.from_numpy(codebook))
    for b, y, x in np.ndindex(2, 5, 7):
        normal = normals[b, :, y, x] / np.linalg.norm(normals[b, :, y, x])
        angles = [math.acos(np.clip(normal @ word, -1, 1)) for word in codebook]
        assert nearest[b, y, x] == int(np.argmin(angles))


def test_a_codeword_is_its_own_region_and_the_zero_vector_is_in_none():
    codebook = torch.eye(3)[[2, 0, 1]]
    normals = torch.cat([codebook, torch.zeros(1, 3)]).T.reshape(1, 3, 2, 2)
    assert region_labels(TASKS["normals"], normals, codebook).tolist() == [[[0, 1], [2, 255]]]


def test_class_maps_are_their_own_regions():
    label = torch.tensor([[[0, 1], [255, 1]]], dtype=torch.uint8)
    regions = region_labels(TASKS["edge"], label)
    assert regions.dtype == torch.int64
    assert regions.tolist() == label.tolist()


def test_normals_need_a_codebook():
    with pytest.raises(ValueError, match="codebook"):
        region_labels(TASKS["normals"], torch.zeros(1, 3, 2, 2))


def test_normals_with_one_zero_component_are_valid():
    normals = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [math.nan, 0.0, 1.0]]).T.reshape(1, 3, 1, 3)
    assert KINDS["normals"].valid(normals).tolist() == [[[True, False, False]]]


@pytest.mark.parametrize("wrong", [7, 200, -1])
def test_a_label_out_of_range_is_named(wrong):
    require_classes(torch.tensor([0, 6, 255]), 7)
    with pytest.raises(ValueError, match=f"label {wrong}: must be 0 to 6"):
        require_classes(torch.tensor([0, wrong, 255]), 7)
