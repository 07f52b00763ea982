"""Thinning and maximum matching of boundary pixels with numba: the fast backend of `boundary`.

Images are flat arrays with a margin as wide as the matching radius, so that no kernel tests for the border.
`boundary_fallback` offers the same three functions, with equal results, on SciPy and scikit-image.
"""

import numpy as np
from numpy.typing import NDArray

from atrc_exp.compiled import compiled
from atrc_exp.metrics.boundary_assignment import count_assigned
from atrc_exp.metrics.boundary_maps import disc

NAME = "numba"

ON, QUEUED = 1, (2, 4)  # bits of the state of a pixel: set, waiting for the first or second subiteration


def _deletion_table() -> NDArray[np.uint8]:
    """Which of the 256 neighbourhoods lose their centre in both subiterations of parallel thinning, (2, 256).

    Bit k of a neighbourhood is the neighbour number k, counter-clockwise from East.
    """
    code = np.arange(256)
    x = [((code >> (k % 8)) & 1).astype(bool) for k in range(9)]  # x[8] is East again
    crossings = sum((~x[k] & (x[k + 1] | x[k + 2])).astype(int) for k in (0, 2, 4, 6))
    n1 = sum((x[k] | x[k + 1]).astype(int) for k in (0, 2, 4, 6))
    n2 = sum((x[k + 1] | x[k + 2]).astype(int) for k in (0, 2, 4, 6))
    fewer = np.minimum(n1, n2)
    simple = (crossings == 1) & (fewer >= 2) & (fewer <= 3)
    first = simple & ~((x[1] | x[2] | ~x[7]) & x[0])
    second = simple & ~((x[5] | x[6] | ~x[3]) & x[4])
    return np.stack([first, second]).astype(np.uint8)


DELETABLE = _deletion_table()  # a constant of the compiled code


@compiled("void(uint8[::1], int64, int32[::1])")
def _thin(state, stride, pixels):
    """Set `pixels` in `state` and thin them until nothing changes; the survivors keep the bit ON.

    A neighbourhood is looked at again only after one of its pixels went, so a pass costs as much as it
    deletes.
    """
    around = np.array([1, 1 - stride, -stride, -stride - 1, -1, stride - 1, stride, stride + 1])
    queue = np.empty((2, pixels.size), np.int32)
    waiting = np.array([pixels.size, pixels.size])
    gone = np.empty(pixels.size, np.int32)
    for i in range(pixels.size):
        state[pixels[i]] = ON | QUEUED[0] | QUEUED[1]
        queue[0, i] = queue[1, i] = pixels[i]
    while waiting[0] + waiting[1] > 0:
        for half in range(2):
            deleted = 0
            for i in range(waiting[half]):
                pixel = queue[half, i]
                state[pixel] &= ~QUEUED[half] & 7
                if not state[pixel] & ON:
                    continue
                code = 0
                for k in range(8):
                    code |= (state[pixel + around[k]] & ON) << k
                if DELETABLE[half, code]:
                    gone[deleted] = pixel
                    deleted += 1
            waiting[half] = 0
            for i in range(deleted):
                state[gone[i]] &= ~ON & 7
            for i in range(deleted):
                for k in range(8):
                    pixel = gone[i] + around[k]
                    if state[pixel] & ON:
                        for h in range(2):
                            if not state[pixel] & QUEUED[h]:
                                state[pixel] |= QUEUED[h]
                                queue[h, waiting[h]] = pixel
                                waiting[h] += 1


@compiled(
    "boolean(int64, int64[::1], int64[::1], int32[::1], int32[::1], int32[::1], boolean[::1], int32[::1], int32[::1])"
)
def _augment(root, start, stop, candidates, mate, owner, seen, parent, queue):
    """Match the free row `root` along a shortest alternating path, if there is one.

    Columns of a failed search stay marked in `seen`: as long as no row is removed they lead to no free
    column.
    """
    head, tail, row = 0, 0, root
    while True:
        for e in range(start[row], stop[row]):
            column = candidates[e]
            if seen[column]:
                continue
            seen[column] = True
            parent[column] = row
            queue[tail] = column
            tail += 1
            if owner[column] >= 0:
                continue
            while column >= 0:
                row = parent[column]
                before = mate[row]
                mate[row] = column
                owner[column] = row
                column = before
            for i in range(tail):
                seen[queue[i]] = False
            return True
        if head == tail:
            return False
        row = owner[queue[head]]
        head += 1


@compiled("UniTuple(int64, 3)(int32[::1], uint8[::1], int32[::1], int32[::1], int32[::1])")
def _release(pixels, state, mate, owner, free):
    """Give back the columns of rows that thinning deleted and clear `state`.

    Returns how many rows survive, how many of these are unmatched (listed in `free`), and how many pairs are
    lost.
    """
    alive, unmatched, lost = 0, 0, 0
    for row in range(pixels.size):
        survives = state[pixels[row]] & ON
        state[pixels[row]] = 0
        alive += survives
        if survives and mate[row] < 0:
            free[unmatched] = row
            unmatched += 1
        elif not survives and mate[row] >= 0:
            owner[mate[row]] = -1
            mate[row] = -1
            lost += 1
    return alive, unmatched, lost


@compiled("int64(int64, int32[::1], int64[::1], int32[::1], int64)")
def _look_up(pixel, columns, offsets, candidates, used):
    """Append the columns in reach of `pixel`, nearest first, to the `used` candidates; count them all."""
    for k in range(offsets.size):
        column = columns[pixel + offsets[k]]
        if column >= 0:
            candidates[used] = column
            used += 1
    return used


@compiled("void(int32[::1], int64[::1], int32[::1], int64, int64[::1], int64, int64[::1], int64[::1])")
def _sweep(pixels, passing, columns, n_columns, offsets, stride, matched, predicted):
    """Fill `matched` and `predicted` (T,) from the highest threshold down, each from the last one.

    `pixels` are sorted by falling response; the first `passing[t]` of them pass threshold t. `columns`
    numbers the ground-truth pixels of the image, -1 elsewhere. Rows of the matching are positions in
    `pixels`.
    """
    n_rows = pixels.size
    state = np.zeros(columns.size, np.uint8)
    mate, owner = np.full(n_rows, -1, np.int32), np.full(n_columns, -1, np.int32)
    start, stop = np.full(n_rows, -1, np.int64), np.full(n_rows, -1, np.int64)
    candidates, used = np.empty(16 * n_columns + offsets.size, np.int32), 0
    seen, parent = np.zeros(n_columns, np.bool_), np.empty(n_columns, np.int32)
    queue, free = np.empty(n_columns, np.int32), np.empty(n_rows, np.int32)
    previous, pairs, alive = 0, 0, 0
    for t in range(passing.size - 1, -1, -1):
        if passing[t] != previous:
            previous = passing[t]
            _thin(state, stride, pixels[:previous])
            alive, unmatched, lost = _release(pixels[:previous], state, mate, owner, free)
            pairs -= lost
            left = 0
            for i in range(unmatched):
                row = free[i]
                if start[row] < 0:  # looked up late, since most pixels never survive thinning
                    if used + offsets.size > candidates.size:
                        candidates = np.concatenate((candidates, np.empty_like(candidates)))
                    start[row] = used
                    used = _look_up(pixels[row], columns, offsets, candidates, used)
                    stop[row] = used
                for e in range(start[row], stop[row]):
                    if owner[candidates[e]] < 0:
                        owner[candidates[e]], mate[row] = row, candidates[e]
                        pairs += 1
                        break
                else:
                    free[left] = row
                    left += 1
            seen[:] = False
            for i in range(left):
                pairs += _augment(free[i], start, stop, candidates, mate, owner, seen, parent, queue)
        matched[t], predicted[t] = pairs, alive


def thin(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Thin (H, W) to convergence (Lam, Lee and Suen 1992, as MATLAB's bwmorph)."""
    state = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)
    state[1:-1, 1:-1] = mask
    _thin(state.reshape(-1), state.shape[1], np.flatnonzero(state).astype(np.int32))
    return state[1:-1, 1:-1].astype(bool)


def maximum_matchings(
    levels: NDArray[np.uint8], truth: NDArray[np.bool_], thresholds: int, radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Largest number of one-to-one pairs within `radius`, and of thinned predicted pixels, at each threshold.

    Args:
        levels: (H, W), how many of the thresholds, counted from the lowest, a pixel passes.
        truth: (H, W), thinned.
        thresholds: their number T, below 256.
        radius: largest distance of a pair in pixels.

    Returns:
        Pairs and predicted pixels, both (T,).
    """
    margin = max(1, int(radius))
    columns, n_columns = _numbered(truth, margin)
    flat = np.pad(levels, margin).ravel()
    pixels = np.flatnonzero(flat).astype(np.int32)
    pixels = pixels[np.argsort(flat[pixels], kind="stable")[::-1]]
    passing = np.cumsum(np.bincount(flat, minlength=thresholds + 1)[::-1])[::-1][1:]
    dy, dx, _ = disc(radius)
    stride = levels.shape[1] + 2 * margin
    matched, predicted = np.zeros(thresholds, np.int64), np.zeros(thresholds, np.int64)
    _sweep(
        np.ascontiguousarray(pixels),
        np.ascontiguousarray(passing),
        columns,
        n_columns,
        dy * stride + dx,
        stride,
        matched,
        predicted,
    )
    return matched, predicted


def cheapest_matching(prediction: NDArray[np.bool_], truth: NDArray[np.bool_], radius: float, outlier: int) -> int:
    """Number of pairs of the matching of thinned maps (H, W) with the least cost.

    A pair at distance d <= `radius` costs 2 rint(100 d), a predicted pixel left alone costs `outlier`.
    """
    margin = max(1, int(radius))
    columns, n_columns = _numbered(truth, margin)
    dy, dx, cost = disc(radius)
    stride = prediction.shape[1] + 2 * margin
    pixels = np.flatnonzero(np.pad(prediction, margin)).astype(np.int32)
    return count_assigned(pixels, columns, n_columns, dy * stride + dx, 2 * cost, outlier)


def _numbered(truth: NDArray[np.bool_], margin: int) -> tuple[NDArray[np.int32], int]:
    """Running number of every set pixel, -1 elsewhere, flat with the margin; and how many there are."""
    flat = np.pad(truth, margin).ravel()
    numbers = np.full(flat.size, -1, np.int32)
    count = int(np.count_nonzero(flat))
    numbers[flat] = np.arange(count)
    return numbers, count
