"""A proof, by an auction, that the cheapest matching leaves no pixel of the smaller side alone.

Where about as many pixels are predicted as there are to match, the prices that prove a matching cheapest have to even
out over the whole image. The number of pairs needs less. Let M be a matching of all n pixels of the smaller side, and
let the pixels of the larger side have prices, none above zero. By duality of linear programming, no matching of k <= n
pairs in which a pixel left alone costs `a` costs less than

    D(a) = sum over the smaller side of min(a, least cost less price) + sum of the prices.

With E = cost of M - D(a), the pairs of M cost at most E + a (n - k) more than any k < n pairs. Where E + a is no more
than the true cost of a pixel left alone, that is no more than what n - k pixels left alone cost, so n pairs are
cheapest. M and prices with a small E come from a forward and reverse auction (Bertsekas and Castañon, 1992), in which
each pixel gives away at most a step; the steps become smaller until E is small enough.
"""

from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from .jit import compiled

STEPS = (512, 128, 32, 8, 2)  # in the unit of costs, a two-hundredth of a pixel
# Prices climb the higher, the fewer pixels the larger side has too many: the first step is at most START over the share
# of those.
START = 12
VECTOR = 16  # rows of the disc are padded to a multiple of as many costs, which are compiled to vectors
NOWHERE = 1 << 29  # cost of a pair out of reach; its negative is the dual where there is no pixel

_INT32, _INT64 = types.int32[::1], types.int64[::1]


class Disc(NamedTuple):
    """The square around the disc of reach, row by row, the nearest first.

    Attributes:
        shift: (S,), to the middle of the row.
        costs: (S, W); W is S padded to a multiple of VECTOR.
    """

    shift: NDArray[np.int64]
    costs: NDArray[np.int32]


class Side(NamedTuple):
    """Flat images of the pixels of one side.

    Attributes:
        dual: what a pixel pays (smaller side) or its price (larger side); the two of a pair add up to its cost. It is
            longer than the image by a row of the disc.
        ceiling: at least the highest dual in the row of a disc around a position.
        partner: position of the partner, -1 for none.
    """

    dual: NDArray[np.int32]
    ceiling: NDArray[np.int32]
    partner: NDArray[np.int32]


DISC = types.NamedTuple([_INT64, types.int32[:, ::1]], Disc)
_SIDE = types.NamedUniTuple(_INT32, 3, Side)


@compiled(_SIDE(_INT32, types.int64, DISC))
def _side(pixels, size, disc):
    """Return the side of `pixels`, all of dual zero and alone, in an image of `size`."""
    room = size + disc.costs.shape[1]
    side = Side(np.full(room, -NOWHERE, np.int32), np.zeros(size, np.int32), np.full(size, -1, np.int32))
    side.dual[pixels] = 0
    return side


@compiled(types.UniTuple(types.int64, 3)(types.int64, _SIDE, DISC))
def _cheapest(at, others, disc):
    """Return the pixel of the other side of least cost less dual, that value, and the second least one."""
    shift, costs = disc
    reach = shift.size // 2
    where, best, second = -1, NOWHERE, NOWHERE
    for k in range(shift.size):
        middle = at + shift[k]
        if costs[k, reach] - others.ceiling[middle] >= second:
            continue
        first, row = middle - reach, costs[k]
        duals = others.dual[first : first + row.size]
        highest, least = np.int32(-NOWHERE), np.int32(NOWHERE)
        for i in range(row.size):  # without a branch, so that it is compiled to vectors
            highest = max(highest, duals[i])
            least = min(least, np.int32(row[i] - duals[i]))
        others.ceiling[middle] = highest
        if least < second:
            for i in range(shift.size):
                value = row[i] - duals[i]
                if value < best:
                    where, best, second = first + i, value, best
                elif value < second:
                    second = value
    return where, best, second


@compiled(types.void(types.int64, types.int64, types.int64, _SIDE, _SIDE, DISC))
def _bid(at, most, step, side, others, disc):
    """Let a pixel without a partner bid, then the pixel whose partner it takes, until a partner has been free.

    A bid raises the dual of the pixel to its second best offer and a step more. At `most` it stays alone.
    """
    reach = disc.shift.size // 2
    while at >= 0 and side.dual[at] < most:
        partner, best, second = _cheapest(at, others, disc)
        paid = min(second + step, most)
        displaced = -1
        if best + step < most:
            displaced = others.partner[partner]
            others.dual[partner] -= paid - best
            others.partner[partner], side.partner[at] = at, partner
            if displaced >= 0:
                side.partner[displaced] = -1
        else:
            paid = most
        side.dual[at] = paid
        for i in range(at - reach, at + reach + 1):
            side.ceiling[i] = max(side.ceiling[i], paid)
        at = displaced


@compiled(types.boolean(_INT32, _INT32, types.int64, types.int64, DISC))
def saturates(few, many, size, outlier, disc):
    """Tell whether it is shown that the cheapest matching has a pair for each of the `few` pixels.

    `few` and `many` are positions in a flat image of `size`, with a margin as wide as the reach.
    """
    buyers, sellers = _side(few, size, disc), _side(many, size, disc)
    first = 0
    while first < len(STEPS) - 1 and STEPS[first] * (many.size - few.size) > START * few.size:
        first += 1
    for s in range(first, len(STEPS)):
        for at in few:
            if buyers.partner[at] < 0:
                _bid(at, outlier, STEPS[s], buyers, sellers, disc)
        for at in many:
            if sellers.partner[at] < 0:
                _bid(at, 0, STEPS[s], sellers, buyers, disc)
        gap, alone = 0, 0
        for at in few:
            if buyers.partner[at] < 0:
                return False
            _, least, _ = _cheapest(at, sellers, disc)
            loss = buyers.dual[at] - least
            gap, alone = gap + loss, max(alone, least)
            if loss > STEPS[min(s + 1, len(STEPS) - 1)]:
                sellers.partner[buyers.partner[at]] = -1
                buyers.partner[at] = -1
        if gap + alone <= outlier:
            return True
    return False
