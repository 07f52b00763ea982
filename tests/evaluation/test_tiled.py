"""Images of any size: tiles cover and blend, and an image of the crop size takes the way of validation."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from atrc_exp.evaluation.tiled import choose_tile, predict_resized, predict_tiled, tile_starts
from atrc_exp.normalisation import IMAGENET, Normalisation

CROP = (16, 24)
WHOLE = (10**6, 10**6)
HALF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def normalised(image, normalisation=IMAGENET):
    return torch.from_numpy((image / 255 - normalisation.mean) / normalisation.std).permute(2, 0, 1).float()


def joined(bands):
    return torch.cat([band["depth"] for band in bands], 1)


class Echo:
    """Returns its input, and remembers the sizes that it was called with."""

    def __init__(self):
        self.sizes = []

    def __call__(self, canvas):
        self.sizes.append(tuple(canvas.shape[1:]))
        return {"depth": canvas}


@pytest.mark.parametrize(("length", "tile", "overlap"), [(16, 16, 8), (17, 16, 8), (100, 16, 0), (100, 7, 6)])
def test_tiles_cover_everything_and_overlap_enough(length, tile, overlap):
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0 and starts[-1] == length - tile
    assert all(0 < b - a <= tile - overlap for a, b in pairwise(starts))


@pytest.mark.parametrize("size", [(16, 24), (9, 13), (40, 24), (37, 61), (10, 60), (300, 24)])
@pytest.mark.parametrize("tile", [CROP, (16, 40), (33, 24), WHOLE])
def test_blended_tiles_of_what_depends_on_the_pixel_alone_are_the_whole(size, tile):
    image, echo = picture(*size), Echo()
    output = joined(predict_tiled(echo, image, CROP, tile, 0.5, IMAGENET))
    torch.testing.assert_close(output, normalised(image), atol=1e-5, rtol=1e-5)
    canvas = [max(pair) for pair in zip(size, CROP, strict=True)]
    assert set(echo.sizes) == {tuple(min(pair) for pair in zip(canvas, tile, strict=True))}


def test_larger_tiles_overlap_by_the_same_share_of_the_crop_size():
    """64 rows in tiles of 40: two overlap by 16, where half of the tile would ask for three."""
    echo = Echo()
    list(predict_tiled(echo, picture(64, 24), CROP, (40, 24), 0.5, IMAGENET))
    assert len(echo.sizes) == 2


def test_seams_are_blended():
    """Each tile answers with its own number; neighbouring pixels then differ by a fraction of a step only."""
    answers = iter(range(100))
    output = joined(
        predict_tiled(
            lambda canvas: {"depth": torch.full((1, *CROP), float(next(answers)))},
            picture(16, 60),
            CROP,
            CROP,
            0.5,
            IMAGENET,
        )
    )
    steps = output[0, 0].diff()
    assert float(steps.min()) >= 0 and float(steps.max()) <= 0.25
    assert float(output[0, 0, 0]) == 0 and float(output[0, 0, -1]) == 3


def test_bands_hold_no_more_than_a_row_of_tiles():
    heights = [band["depth"].shape[1] for band in predict_tiled(Echo(), picture(200, 24), CROP, CROP, 0.5, IMAGENET)]
    assert sum(heights) == 200 and max(heights) <= CROP[0]


@pytest.mark.parametrize("pixels", [1, 16 * 24, 1000, 5000, 20000, 10**6])
@pytest.mark.parametrize("canvas", [(120, 160), (16, 500), (90, 24)])
def test_the_largest_tiles_that_fit_are_chosen(canvas, pixels):
    tried = []

    def fits(height, width):
        tried.append((height, width))
        return height * width <= pixels

    tile = choose_tile(canvas, CROP, 0.5, fits)
    assert tile[0] * tile[1] <= pixels or tile == CROP
    assert tried[0] == canvas and tried[-1] == tile  # from large to small, and the first that fits
    assert all(a * b > pixels for a, b in tried[:-1])
    assert all(CROP[axis] <= tile[axis] <= canvas[axis] for axis in (0, 1))
    parts = [len(tile_starts(canvas[axis], tile[axis], CROP[axis] // 2)) for axis in (0, 1)]
    assert max(parts) <= len(tried) or tile == CROP  # no side in more parts than were needed


@pytest.mark.parametrize("size", [(16, 24), (32, 48), (64, 30), (5, 7)])
def test_resized_image_is_seen_whole_and_once(size):
    image, echo = np.full((*size, 3), 100, np.uint8), Echo()
    output = joined(predict_resized(echo, image, CROP, IMAGENET))
    assert echo.sizes == [CROP] and output.shape[1:] == size
    torch.testing.assert_close(output, normalised(image), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(700, 1050), (7, 9), (16, 700)])
def test_bands_of_a_resized_map_are_parts_of_the_whole_one(size):
    answer = torch.randn(2, *CROP)
    output = joined(predict_resized(lambda canvas: {"depth": answer}, picture(*size), CROP, IMAGENET))
    scale = min(CROP[0] / size[0], CROP[1] / size[1])
    height, width = (max(1, round(side * scale)) for side in size)
    top, left = (CROP[0] - height) // 2, (CROP[1] - width) // 2
    window = answer[None, :, top : top + height, left : left + width]
    expected = torch.nn.functional.interpolate(window, size, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


def test_image_of_the_crop_size_is_not_touched():
    image = picture(*CROP)
    for norm in (IMAGENET, HALF):
        for bands in (predict_resized(Echo(), image, CROP, norm), predict_tiled(Echo(), image, CROP, CROP, 0.5, norm)):
            torch.testing.assert_close(joined(bands), normalised(image, norm), atol=1e-5, rtol=1e-5)
