"""One place knows how images are normalised; the numbers by hand."""

from pathlib import Path

import pytest
import torch

import atrc_exp
from atrc_exp.data.batch import Batch
from atrc_exp.data.finish import finish
from atrc_exp.normalisation import IMAGENET, Normalisation

HALF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
DPN = Normalisation((124 / 255, 117 / 255, 104 / 255), (0.23, 0.23, 0.23))  # whole 8-bit values
ZERO = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def finished(pixels: list[list[int]], normalisation: Normalisation) -> torch.Tensor:
    """Pixels (N, 3) in a row, between two pixels of padding."""
    image = torch.zeros(1, 3, 1, len(pixels) + 2, dtype=torch.uint8)
    image[0, :, 0, 1:-1] = torch.tensor(pixels, dtype=torch.uint8).T
    batch = Batch(image, {}, [""], torch.tensor([[1, len(pixels)]]))
    return finish(batch, (), torch.device("cpu"), normalisation).image[0]


def test_worked_values_and_padding():
    row = finished([[0, 255, 51]], HALF)[:, 0]
    torch.testing.assert_close(row[:, 1], torch.tensor([-1.0, 1.0, -0.6]))
    row = finished([[0, 255, 51]], IMAGENET)[:, 0]
    torch.testing.assert_close(row[:, 1], torch.tensor([-0.485 / 0.229, 0.544 / 0.224, -0.206 / 0.225]))
    assert not row[:, 0].any() and not row[:, 2].any()


@pytest.mark.parametrize("normalisation", [IMAGENET, HALF, DPN])
def test_what_is_undone_are_the_pixels(normalisation):
    values = torch.arange(256)
    pixels = torch.stack([values, 255 - values, values // 2], dim=1)
    undone = normalisation.undone(finished(pixels.tolist(), normalisation))[:, 0, 1:-1]
    torch.testing.assert_close(undone.T, pixels / 255, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("normalisation", "expected"), [(IMAGENET, False), (HALF, False), (DPN, True), (ZERO, True)])
def test_colours_that_look_like_padding_are_known(normalisation, expected):
    """Against the images themselves: grey values, and the mean where it is one."""
    nearest = [round(255 * mean) for mean in normalisation.mean]
    image = finished([*([v, v, v] for v in range(256)), nearest], normalisation)[:, 0, 1:-1]
    assert normalisation.maps_a_colour_to_zero is expected
    assert bool((image.abs() < 1e-5).all(0).any()) is expected


def test_imagenets_values_are_written_down_once():
    package = Path(atrc_exp.__file__).parent
    assert [path.name for path in package.rglob("*.py") if "0.485" in path.read_text()] == ["normalisation.py"]
