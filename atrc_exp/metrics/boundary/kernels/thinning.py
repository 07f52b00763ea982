"""Parallel thinning of masks to lines one pixel wide."""

import numpy as np
from numpy.typing import NDArray

from .jit import compiled

ON, QUEUED = 1, (2, 4)  # bits of the state of a pixel: set, waiting for the first or second subiteration


def _deletion_table() -> NDArray[np.uint8]:
    """Tell which of the 256 neighbourhoods lose their centre in both subiterations of parallel thinning, (2, 256).

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
def thin_pixels(state, stride, pixels):
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


def thin(mask: NDArray) -> NDArray[np.bool_]:
    """Thin a mask (H, W), set where above 0, to convergence: Lam, Lee and Suen (1992), as MATLAB's bwmorph."""
    state = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), np.uint8)
    state[1:-1, 1:-1] = mask > 0
    thin_pixels(state.reshape(-1), state.shape[1], np.flatnonzero(state).astype(np.int32))
    return state[1:-1, 1:-1].astype(bool)
