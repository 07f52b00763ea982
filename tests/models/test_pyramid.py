"""Joining of pyramids, shared or by task."""

import torch
import torch.nn.functional as F

from atrc_exp.models.necks.pyramid import join, of_task


def pyramid() -> list[torch.Tensor]:
    return [torch.randn(2, c, *size) for c, size in ((3, (9, 7)), (5, (5, 4)), (2, (3, 2)))]


def expected(maps: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([F.interpolate(x, size=(9, 7), mode="bilinear", align_corners=False) for x in maps], 1)


def test_shared_pyramid_is_joined_once():
    maps = pyramid()
    joined = join(maps, ("depth", "edge"))
    assert joined["depth"] is joined["edge"] and joined["depth"].shape == (2, 10, 9, 7)
    torch.testing.assert_close(joined["depth"], expected(maps))
    assert of_task(maps, "edge") is maps


def test_pyramids_by_task_are_joined_each():
    maps = {"depth": pyramid(), "edge": pyramid()}
    joined = join(maps, ("edge", "depth"))
    assert list(joined) == ["edge", "depth"]
    for task, own in maps.items():
        torch.testing.assert_close(joined[task], expected(own))
    assert of_task(maps, "edge") is maps["edge"]
