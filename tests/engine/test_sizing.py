"""Images of any size: tiles cover and blend, and an image of the crop size takes the way of validation."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from atrc_exp.engine.sizing import predict_resized, predict_tiled, tile_starts
from atrc_exp.normalisation import IMAGENET, Normalisation

CROP = (16, 24)
HALF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def normalised(image, normalisation=IMAGENET):
    return torch.from_numpy((image / 255 - normalisation.mean) / normalisation.std).permute(2, 0, 1).float()


class Echo:
    """Returns its input, and remembers the sizes that it was called with."""

    def __init__(self):
        self.sizes = []

    def __call__(self, canvas):
        self.sizes.append(tuple(canvas.shape[1:]))
        return {"depth": canvas}


@pytest.mark.parametrize(("length", "tile", "overlap"), [(16, 16, 0.5), (17, 16, 0.5), (100, 16, 0.0), (100, 7, 0.9)])
def test_tiles_cover_everything_and_overlap_enough(length, tile, overlap):
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0 and starts[-1] == length - tile
    assert all(0 < b - a <= max(1, tile * (1 - overlap)) for a, b in pairwise(starts))


@pytest.mark.parametrize("size", [(16, 24), (9, 13), (40, 24), (37, 61), (10, 60)])
def test_blended_tiles_of_what_depends_on_the_pixel_alone_are_the_whole(size):
    image, echo = picture(*size), Echo()
    output = predict_tiled(echo, image, CROP, 0.5, IMAGENET)["depth"]
    torch.testing.assert_close(output, normalised(image), atol=1e-5, rtol=1e-5)
    assert set(echo.sizes) == {CROP}


def test_seams_are_blended():
    """Each tile answers with its own number; neighbouring pixels then differ by a fraction of a step only."""
    answers = iter(range(100))
    output = predict_tiled(
        lambda canvas: {"depth": torch.full((1, *CROP), float(next(answers)))}, picture(16, 60), CROP, 0.5, IMAGENET
    )
    steps = output["depth"][0, 0].diff()
    assert float(steps.min()) >= 0 and float(steps.max()) <= 0.25
    assert float(output["depth"][0, 0, 0]) == 0 and float(output["depth"][0, 0, -1]) == 3


@pytest.mark.parametrize("size", [(16, 24), (32, 48), (64, 30), (5, 7)])
def test_resized_image_is_seen_whole_and_once(size):
    image, echo = np.full((*size, 3), 100, np.uint8), Echo()
    output = predict_resized(echo, image, CROP, IMAGENET)["depth"]
    assert echo.sizes == [CROP] and output.shape[1:] == size
    torch.testing.assert_close(output, normalised(image), atol=1e-5, rtol=1e-5)


def test_image_of_the_crop_size_is_not_touched():
    image = picture(*CROP)
    for norm in (IMAGENET, HALF):
        for output in (predict_resized(Echo(), image, CROP, norm), predict_tiled(Echo(), image, CROP, 0.5, norm)):
            torch.testing.assert_close(output["depth"], normalised(image, norm), atol=1e-5, rtol=1e-5)
