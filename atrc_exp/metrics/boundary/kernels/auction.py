"""A proof, by an auction, of the number of pairs of the cheapest matching.

Where about as many pixels are predicted as there are to match, the prices that prove a matching cheapest have to even
out over the whole image. The number of pairs needs less. Let M be a matching of k of the n pixels of the smaller side,
and let the pixels of the larger side have prices, none above zero. By duality of linear programming, every matching of
j pairs costs at least D(a) - a (n - j), where

    D(a) = sum over the smaller side of min(a, least cost less price) + sum of the prices.

With E = cost of M + a (n - k) - D(a), the pairs of M cost at most E + a (k - j) more than any j < k pairs. Where E + a
is no more than the true cost of a pixel left alone, that is no more than what k - j pixels left alone cost, so no fewer
than k pairs are cheapest. More than k are impossible where no alternating path leads from a pixel of the smaller side
that M leaves alone to one of the larger side.

M and prices with a small E come from a forward and reverse auction (Bertsekas and Castañon, 1992), in which each pixel
gives away at most a step; the steps become smaller until E is small enough. A pixel of the smaller side bids up to half
of the true cost and then stays alone; the other half is room for E.
"""

from typing import NamedTuple

import numpy as np
from numba import types
from numpy.typing import NDArray

from .jit import compiled
from .least import LANES, two_least

# In the unit of costs, a two-hundredth of a pixel. Prices climb the higher, the fewer pixels the larger side has too
# many: the first step is at most START over the share of those. If it takes more than PATIENCE bids a pixel, there are
# places where pixels stay alone and prices climb as high as they can, and the auction goes on with the largest step.
STEPS = (8192, 2048, 512, 128, 32, 8, 2, 1)
START, PATIENCE = 12, 20
LIMIT = 200  # bids a pixel for one step; then the proof is given up
NOWHERE = 1 << 29  # cost of a pair out of reach; its negative is the dual where there is no pixel

_INT32, _INT64 = types.int32[::1], types.int64[::1]


class Disc(NamedTuple):
    """The square around the disc of reach, row by row, the nearest first, in C pieces of LANES pixels.

    Attributes:
        shift: (C,), to the first pixel of a piece.
        costs: (C, LANES).
    """

    shift: NDArray[np.int64]
    costs: NDArray[np.int32]


class Side(NamedTuple):
    """Flat images of the pixels of one side.

    Attributes:
        dual: what a pixel pays (smaller side) or its price (larger side); the two of a pair add up to its cost. It is
            longer than the image by LANES.
        partner: position of the partner, -1 for none.
    """

    dual: NDArray[np.int32]
    partner: NDArray[np.int32]


DISC = types.NamedTuple([_INT64, types.int32[:, ::1]], Disc)
_SIDE = types.NamedUniTuple(_INT32, 2, Side)


@compiled(_SIDE(_INT32, types.int64))
def _side(pixels, size):
    """Return the side of `pixels`, all of dual zero and alone, in an image of `size`."""
    side = Side(np.full(size + LANES, -NOWHERE, np.int32), np.full(size, -1, np.int32))
    side.dual[pixels] = 0
    return side


@compiled(types.int64(types.int64, types.int64, types.int64, types.int64, _SIDE, _SIDE, DISC))
def _bid(at, most, step, limit, side, others, disc):
    """Let a pixel without a partner bid, then the pixel whose partner it takes, until a partner has been free.

    A bid raises the dual of the pixel to its second best offer and a step more. At `most`, or after `limit` bids, it
    stays alone. Returns the number of bids.
    """
    bids = 0
    while at >= 0 and side.dual[at] < most and bids < limit:
        bids += 1
        partner, best, second = two_least(others.dual, at, disc.shift, disc.costs)
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
        at = displaced
    return bids


@compiled(types.boolean(_INT32, _SIDE, _SIDE, DISC))
def _is_largest(few, buyers, sellers, disc):
    """Tell whether no alternating path leads from a pixel of `few` without a partner to one of the larger side."""
    seen, waiting, n_waiting = np.zeros(sellers.partner.size, np.bool_), np.empty_like(few), 0
    for at in few:
        if buyers.partner[at] < 0:
            waiting[n_waiting] = at
            n_waiting += 1
    while n_waiting > 0:
        n_waiting -= 1
        at = waiting[n_waiting]
        for c in range(disc.shift.size):
            for i in range(LANES):
                where = at + disc.shift[c] + i
                if disc.costs[c, i] == NOWHERE or sellers.dual[where] == -NOWHERE or seen[where]:
                    continue
                if sellers.partner[where] < 0:
                    return False
                seen[where] = True
                waiting[n_waiting] = sellers.partner[where]
                n_waiting += 1
    return True


@compiled(types.UniTuple(types.int64, 3)(_INT32, types.int64, _INT32, _SIDE, _SIDE, DISC))
def _gap(few, most, least, buyers, sellers, disc):
    """Return the number of pairs, E and the `a` that it is for; `least` becomes what each pixel had to pay."""
    pairs, gap, dearest = 0, 0, 0
    for i in range(few.size):
        at = few[i]
        _, cheapest, _ = two_least(sellers.dual, at, disc.shift, disc.costs)
        least[i] = min(cheapest, most)
        gap += buyers.dual[at] - least[i]
        if buyers.partner[at] >= 0:
            pairs, dearest = pairs + 1, max(dearest, least[i])
        else:
            dearest = most
    return pairs, gap, dearest


@compiled(types.void(_INT32, _INT32, types.int64, _SIDE, _SIDE))
def _release(few, least, step, buyers, sellers):
    """Let pixels bid again that pay more than a step above their least offer."""
    for i in range(few.size):
        at = few[i]
        if buyers.dual[at] - least[i] > step:
            buyers.dual[at] = least[i]
            if buyers.partner[at] >= 0:
                sellers.partner[buyers.partner[at]] = -1
                buyers.partner[at] = -1


@compiled(types.boolean(_INT32, types.int64, types.int64, types.int64, _SIDE, _SIDE, DISC))
def _bids_end(pixels, most, step, limit, side, others, disc):
    """Let `pixels` bid until all have a partner or are at `most`; returns whether `limit` bids were enough."""
    for at in pixels:
        if side.partner[at] < 0:
            limit -= _bid(at, most, step, limit, side, others, disc)
    return limit > 0


@compiled(types.int64(_INT32, _INT32, types.int64, types.int64, DISC))
def pairs_shown(few, many, size, outlier, disc):
    """Return how many pairs the cheapest matching is shown to have, -1 if it is not shown.

    `few` and `many` are positions in a flat image of `size`, with a margin as wide as the reach.
    """
    buyers, sellers, least = _side(few, size), _side(many, size), np.empty_like(few)
    most, s = outlier // 2, 1
    while s < len(STEPS) - 1 and STEPS[s] * (many.size - few.size) > START * few.size:
        s += 1
    if not _bids_end(few, most, STEPS[s], PATIENCE * few.size, buyers, sellers, disc):
        s = 0
    while s < len(STEPS):
        if not (
            _bids_end(few, most, STEPS[s], LIMIT * few.size, buyers, sellers, disc)
            and _bids_end(many, 0, STEPS[s], LIMIT * few.size, sellers, buyers, disc)
        ):
            return -1
        pairs, gap, dearest = _gap(few, most, least, buyers, sellers, disc)
        if gap + dearest <= outlier:
            return pairs if pairs == few.size or _is_largest(few, buyers, sellers, disc) else -1
        s += 1
        if s < len(STEPS):
            _release(few, least, STEPS[s], buyers, sellers)
    return -1
