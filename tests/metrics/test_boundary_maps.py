"""Quantisation, non-maximum suppression, thinning and partitions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude
from skimage.morphology import thin as skimage_thin

from atrc_exp.metrics.boundary import BoundaryError, nms, partition_to_boundary, quantize
from atrc_exp.metrics.boundary.kernels.thinning import thin
from atrc_exp.metrics.boundary.maps import disc


def blobs(seed, shape, scale=2.0, level=0.0):
    return gaussian_filter(np.random.default_rng(seed).standard_normal(shape), scale) > level


def test_quantize_truncates():
    assert_array_equal(quantize(np.array([[0.0, 0.5, 0.999, 1.0]])), [[0, 127, 254, 255]])
    assert quantize(np.array([[0.5]], np.float16)).item() == 127


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1, np.inf])
def test_quantize_refuses_what_is_no_probability(bad):
    with pytest.raises(BoundaryError, match="NaN or values outside"):
        quantize(np.array([[0.2, bad]]))


# ---------------------------------------------------------------- non-maximum suppression


def triangle_filtered(values):
    """Weights 1 to 5 to 1 along both axes, borders mirrored with the edge sample repeated."""
    taps = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 25
    for axis in (0, 1):
        padded = np.pad(values, [(4, 4) if a == axis else (0, 0) for a in (0, 1)], mode="symmetric")
        n = values.shape[axis]
        values = sum(w * np.take(padded, range(k, k + n), axis=axis) for k, w in enumerate(taps))
    return values


def sampled(values, x, y):
    height, width = values.shape
    x, y = min(max(x, 0), width - 1.001), min(max(y, 0), height - 1.001)
    x0, y0 = int(x), int(y)
    fx, fy = x - x0, y - y0
    upper = (1 - fx) * values[y0, x0] + fx * values[y0, x0 + 1]
    lower = (1 - fx) * values[y0 + 1, x0] + fx * values[y0 + 1, x0 + 1]
    return (1 - fy) * upper + fy * lower


def suppression_margin(values):
    """1.01 E minus the larger sample across the edge, pixel by pixel in double precision."""
    smooth = triangle_filtered(values)
    oy, ox = np.gradient(smooth)
    oxx = np.gradient(ox)[1]
    oyy, oxy = np.gradient(oy)
    margin = np.full(values.shape, np.nan)
    for y, x in np.argwhere(values > 0):
        angle = np.arctan(oyy[y, x] * np.sign(-oxy[y, x]) / (oxx[y, x] + 1e-5)) % np.pi
        c, s = np.cos(angle), np.sin(angle)
        margin[y, x] = 1.01 * values[y, x] - max(sampled(values, x + d * c, y + d * s) for d in (-1, 1))
    return margin


@pytest.mark.parametrize("seed", range(3))
def test_nms_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    values = gaussian_filter(rng.random((34, 41)), 1.5)
    values = (values - values.min()) / np.ptp(values)
    values[values < 0.2] = 0
    margin = suppression_margin(values)
    fade = np.outer(*(np.minimum(1, np.minimum(i, i[::-1]) / 5) for i in map(np.arange, values.shape)))
    inside = (slice(1, -1), slice(1, -1))  # all is 0 outside
    kept = nms(values)[inside] / fade[inside]
    sure = np.abs(margin[inside]) > 1e-5  # single and double precision may differ on a tie
    assert_array_equal((kept > 0)[sure], (margin[inside] >= 0)[sure])
    assert_allclose(kept[kept > 0], values[inside][kept > 0], rtol=1e-6)
    assert 0 < np.count_nonzero(kept) < 0.7 * np.count_nonzero(values[inside])


def running_triangle_by_loop(line, scale):
    """Triangle filter of radius 4 by sums of second differences in float32, one number at a time, mirrored borders."""
    n = len(line)

    def mirrored(i):
        return line[-1 - i] if i < 0 else line[2 * n - 1 - i] if i >= n else line[i]

    box = total = line[0]
    for value in line[1:5]:
        box = box + value
        total = total + box
    out, slope = [scale * (np.float32(2) * total - box)], np.float32(0)
    for i in range(1, n):
        slope = slope + ((mirrored(i - 6) + mirrored(i + 4)) - np.float32(2) * line[i - 1])
        out.append(out[-1] + scale * slope)
    return out


def slope_by_loop(line, i):
    if i == 0 or i == len(line) - 1:
        return line[max(i, 1)] - line[max(i, 1) - 1]
    return (line[i + 1] - line[i - 1]) * np.float32(0.5)


def support_by_loop(values):
    """Where non-maximum suppression leaves pixels, in float32 scalars throughout; the frame's outermost pixels go."""
    height, width = values.shape
    rows = [running_triangle_by_loop(list(row), np.float32(1) / np.float32(625)) for row in values]
    smooth = np.array([running_triangle_by_loop(list(column), np.float32(1)) for column in np.array(rows).T]).T
    assert smooth.dtype == np.float32
    ox = np.array([[slope_by_loop(smooth[y], x) for x in range(width)] for y in range(height)])
    oy = np.array([[slope_by_loop(smooth[:, x], y) for x in range(width)] for y in range(height)])
    kept = np.zeros(values.shape, bool)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if values[y, x] == 0:
                continue
            oxx, oxy, oyy = slope_by_loop(ox[y], x), slope_by_loop(oy[y], x), slope_by_loop(oy[:, x], y)
            angle = np.arctan(oyy * np.sign(-oxy) / (oxx + np.float32(1e-5))) % np.float32(np.pi)
            c, s = np.cos(angle), np.sin(angle)
            beside = max(sampled(values, np.float32(x) + d * c, np.float32(y) + d * s) for d in (-1, 1))
            kept[y, x] = np.float32(1.01) * values[y, x] >= beside
    return kept


def tent(distance, width):
    """Profile of a ridge at a distance in pixels from its crest, 0 from `width` on."""
    return np.maximum(0, 1 - np.abs(distance) / width)


def ridge(width, offset, ends, shape=(26, 30)):
    """A horizontal ridge `width` pixels to either side of a row, `ends` pixels short of both sides of the image."""
    values = np.repeat(tent(np.arange(shape[0]) - 11 - offset, width)[:, None], shape[1], axis=1)
    if ends:
        values[:, :ends] = values[:, -ends:] = 0
    return np.floor(255 * values) / np.float32(255)


def frame(width, inset=6, shape=(30, 34)):
    """A rectangle of ridges with its crest `inset` pixels inside the border."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    to_border = np.minimum(np.minimum(y, shape[0] - 1 - y), np.minimum(x, shape[1] - 1 - x))
    return np.floor(255 * tent(to_border - inset, width)) / np.float32(255)


def assert_support(values):
    values = values.astype(np.float32)
    assert_array_equal(nms(values) > 0, support_by_loop(values))


@pytest.mark.parametrize("width", range(1, 6))
def test_ridges_along_the_axes_are_thinned_as_the_published_program_rounds(width):
    for offset in range(4):
        for ends in (0, 6):
            assert_support(ridge(width, offset, ends))
            assert_support(ridge(width, offset, ends).T)


@pytest.mark.parametrize("width", range(1, 6))
def test_a_frame_along_the_border_is_thinned_as_the_published_program_rounds(width):
    assert_support(frame(width))
    assert_support(frame(width).T)


@pytest.mark.parametrize("seed", range(3))
def test_soft_rectangles_are_thinned_as_the_published_program_rounds(seed):
    rng = np.random.default_rng(seed)
    regions = np.zeros((45, 54))
    for y, x in rng.integers(0, 30, (5, 2)):
        regions[y : y + rng.integers(5, 20), x : x + rng.integers(5, 25)] = rng.integers(0, 256)
    response = gaussian_gradient_magnitude(regions, rng.uniform(0.7, 2.5))
    assert_support(np.floor(255 * response / response.max()) / 255)


def test_maps_too_small_for_running_sums_are_convolved():
    for shape in ((9, 30), (30, 9), (4, 4), (1, 12)):
        values = gaussian_filter(np.random.default_rng(1).random(shape), 1)
        assert nms(values).shape == shape


def test_nms_leaves_the_crest_of_a_ridge():
    x = np.arange(40)
    values = np.tile(0.8 * np.exp(-(((x - 20) / 2.0) ** 2)), (30, 1))
    values[values < 0.01] = 0
    kept = nms(values)
    assert set(np.nonzero(kept)[1]) == {20}
    assert_allclose(kept[5:-5, 20], 0.8, rtol=1e-6)


def test_frame_fades_linearly_and_doubly_in_corners():
    fade = np.array([0, 0.2, 0.4, 0.6, 0.8, *[1.0] * 10, 0.8, 0.6, 0.4, 0.2, 0])
    assert_allclose(nms(np.ones((20, 20))), np.outer(fade, fade), rtol=1e-6)
    small = np.array([0, 0.5, 0.5, 0])  # the frame is at most half as wide as the image
    assert_allclose(nms(np.ones((4, 20)))[:, 10], small)
    assert_allclose(nms(np.full((1, 20), 0.5)), 0.5)


# ---------------------------------------------------------------- thinning


def test_thin_worked_shapes():
    bar = np.zeros((7, 12), bool)
    bar[2:5, 1:11] = True
    thinned = thin(bar)
    assert set(np.nonzero(thinned)[0]) == {3}
    assert_array_equal(thin(thinned), thinned)
    assert thin(np.zeros((5, 5), bool)).sum() == 0
    assert thin(np.full((1, 1), 255, np.uint8)).sum() == 1


def test_thin_equals_scikit_image():
    rng = np.random.default_rng(0)
    masks = [blobs(seed, (60, 73), scale) for seed, scale in enumerate([0.5, 1, 2, 4, 8])]
    masks += [rng.random((40, 31)) < share for share in (0.1, 0.3, 0.5, 0.7, 0.9, 1)]
    masks += [np.pad(blobs(9, (30, 30)), 1, constant_values=True)]
    for mask in masks:
        assert_array_equal(thin(mask), skimage_thin(mask))


# ---------------------------------------------------------------- partitions and discs


def test_partition_boundary_looks_east_south_and_southeast():
    labels = np.array([[1, 1, 2], [1, 1, 2], [3, 3, 3]])
    assert_array_equal(partition_to_boundary(labels), [[0, 1, 0], [1, 1, 1], [0, 0, 0]])
    last = np.array([[5, 5], [5, 7]])  # last row: East only; last column: South only; last corner never
    assert_array_equal(partition_to_boundary(last), [[1, 1], [1, 0]])


def test_partition_tells_diagonal_regions_apart():
    labels = np.array([[4, 9, 9], [9, 4, 9], [9, 9, 4]], np.uint16)
    labels_of_one = np.array([[1, 2, 2], [3, 1, 2], [3, 3, 1]])  # the 9s above are two regions as well
    assert_array_equal(partition_to_boundary(labels), partition_to_boundary(labels_of_one))
    assert partition_to_boundary(labels)[0, 0]  # (0, 0) and (1, 1) have one label but touch at a corner only
    assert_array_equal(partition_to_boundary(labels - 4), partition_to_boundary(labels))  # 0 is a label, too
    assert not partition_to_boundary(np.zeros((4, 4), np.uint8)).any()


def test_partition_refuses_other_arrays():
    for bad, message in ((np.zeros((2, 2)), "integers"), (np.zeros((1, 2, 2), int), r"\(1, 2, 2\)")):
        with pytest.raises(BoundaryError, match=message):
            partition_to_boundary(bad)


@pytest.mark.parametrize("function", [nms, quantize, partition_to_boundary])
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 0), (5,), (2, 3, 4), ()])
def test_other_shapes_are_refused(function, shape):
    with pytest.raises(BoundaryError, match=r"\(H, W\)"):
        function(np.zeros(shape, int if function is partition_to_boundary else float))


def test_disc_is_closed_and_sorted():
    dy, dx, cost = disc(2.0)
    assert len(dy) == 13 and (dy[0], dx[0]) == (0, 0)
    assert_array_equal(cost, [0, *[100] * 4, *[141] * 4, *[200] * 4])
    assert_array_equal(cost, np.rint(100 * np.hypot(dy, dx)))
    assert len(disc(0.011 * np.hypot(425, 560))[0]) == 185
