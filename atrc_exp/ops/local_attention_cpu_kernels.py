"""Local attention on the CPU, compiled by numba: LANES pixels of a row at a time.

Importing this module compiles it, or loads what was compiled before, unless a module of this folder has changed.
Arrays are 1-D and float32; the layout of scratch is that of `local_attention_cpu_scratch`.
"""

import numpy as np

from atrc_exp.metrics.boundary.kernels.jit import compiled
from atrc_exp.ops.local_attention_cpu_scratch import (
    GROUP,
    ZERO,
    border_rows,
    clear,
    copy,
    first_pixel,
    frame,
    framed_row,
    new_frame,
    part,
    scratch,
    sizes_of,
    unframe,
    window_rows,
)
from atrc_exp.ops.vectors import (
    LANES,
    add,
    divide,
    exp2,
    larger,
    load,
    multiply,
    multiply_add,
    shifted,
    smaller,
    splat,
    store,
    subtract,
)

ONE = np.float32(1)
LOG2_E = np.float32(np.log2(np.e))


@part
def dot_products(a, center, b, row, sizes, sums, slot):
    """Sums over the channels of a[center] times each of the GROUP taps in b from `row` on."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = splat(ZERO)
    for c in range(0, sizes.channels * sizes.stride, sizes.stride):
        x, left, right = load(a, center + c), load(b, row + c), load(b, row + c + LANES)
        s0 = multiply_add(x, left, s0)
        s1 = multiply_add(x, shifted(left, right, 1), s1)
        s2 = multiply_add(x, shifted(left, right, 2), s2)
        s3 = multiply_add(x, shifted(left, right, 3), s3)
        s4 = multiply_add(x, shifted(left, right, 4), s4)
        s5 = multiply_add(x, shifted(left, right, 5), s5)
        s6 = multiply_add(x, shifted(left, right, 6), s6)
        s7 = multiply_add(x, shifted(left, right, 7), s7)
        s8 = multiply_add(x, shifted(left, right, 8), s8)
    store(sums, slot * LANES, s0)
    store(sums, (slot + 1) * LANES, s1)
    store(sums, (slot + 2) * LANES, s2)
    store(sums, (slot + 3) * LANES, s3)
    store(sums, (slot + 4) * LANES, s4)
    store(sums, (slot + 5) * LANES, s5)
    store(sums, (slot + 6) * LANES, s6)
    store(sums, (slot + 7) * LANES, s7)
    store(sums, (slot + 8) * LANES, s8)


@part
def add_taps(weights, first, step, a, row, sizes, sums):
    """Add to the sums of each channel the GROUP taps in `a` from `row` on times weights, `step` values apart."""
    w0, w1, w2 = load(weights, first), load(weights, first + step), load(weights, first + 2 * step)
    w3, w4, w5 = load(weights, first + 3 * step), load(weights, first + 4 * step), load(weights, first + 5 * step)
    w6, w7, w8 = load(weights, first + 6 * step), load(weights, first + 7 * step), load(weights, first + 8 * step)
    for c in range(sizes.channels):
        left, right = load(a, row + c * sizes.stride), load(a, row + c * sizes.stride + LANES)
        # Three chains of additions, none of which waits for another.
        s = multiply_add(w0, left, load(sums, c * LANES))
        t = multiply(w1, shifted(left, right, 1))
        u = multiply(w2, shifted(left, right, 2))
        s = multiply_add(w3, shifted(left, right, 3), s)
        t = multiply_add(w4, shifted(left, right, 4), t)
        u = multiply_add(w5, shifted(left, right, 5), u)
        s = multiply_add(w6, shifted(left, right, 6), s)
        t = multiply_add(w7, shifted(left, right, 7), t)
        u = multiply_add(w8, shifted(left, right, 8), u)
        store(sums, c * LANES, add(add(s, t), u))


@part
def scores(a, b, y, x, sizes, sums):
    """Products of LANES pixels of `a` with the taps in `b`, without a scale; 0 for rows outside the image."""
    center = framed_row(y, sizes) + x + sizes.radius
    clear(sums, sizes.kernel_size * sizes.slots)
    for dy in window_rows(y, sizes):
        row = framed_row(y + dy - sizes.radius, sizes) + x
        for dx in range(0, sizes.slots, GROUP):
            dot_products(a, center, b, row + dx, sizes, sums, dy * sizes.slots + dx)


@part
def attend(weights, a, y, x, sizes, sums):
    """Sums over the taps in `a`, weighted, for LANES pixels."""
    clear(sums, sizes.channels)
    for dy in window_rows(y, sizes):
        row = framed_row(y + dy - sizes.radius, sizes) + x
        for dx in range(0, sizes.slots, GROUP):
            add_taps(weights, (dy * sizes.slots + dx) * LANES, LANES, a, row + dx, sizes, sums)


@part
def attend_back(ring, a, y, x, sizes, sums):
    """Sums over the queries that have LANES keys as taps, of what `a` holds for the query times its weight."""
    clear(sums, sizes.channels)
    for dy in window_rows(y, sizes):
        query = y + dy - sizes.radius
        row = framed_row(query, sizes) + x
        slot = (query % sizes.kernel_size * sizes.kernel_size + sizes.kernel_size - 1 - dy) * sizes.slots
        for dx in range(0, sizes.slots, GROUP):
            add_taps(ring, (slot + dx) * sizes.stride + x + dx, sizes.stride + 1, a, row + dx, sizes, sums)


@part
def softmax(sums, factor, border, y, x, sizes, weights):
    """Powers of two of the scaled scores, less their maximum; returns the maximum and the sum of the powers."""
    factor, most, total = splat(factor), splat(np.float32(-np.inf)), splat(ZERO)
    inside = window_rows(y, sizes)
    for dy in range(sizes.kernel_size):
        row = x if inside.start <= dy < inside.stop else x + sizes.stride
        for dx in range(sizes.kernel_size):
            at = (dy * sizes.slots + dx) * LANES
            score = multiply_add(load(sums, at), factor, load(border, row + dx))
            most = larger(score, most)
            store(sums, at, score)
    for dy in range(sizes.kernel_size):
        for dx in range(sizes.kernel_size):
            at = (dy * sizes.slots + dx) * LANES
            power = exp2(subtract(load(sums, at), most))
            total = add(total, power)
            store(weights, at, power)
    return most, total


@compiled(f"void({', '.join(6 * ['float32[::1]'])}, {', '.join(6 * ['int64'])}, float32, float32)")
def forward(q, k, v, out, most, total, first, last, channels, height, width, kernel_size, factor, outside):
    """Attend in rows `first` to `last` of all B * H.

    `factor` times a product is the score to base 2; `outside` is added to it for taps outside the image. Of the
    scores `most` is the maximum and `total` the sum of powers of two of the differences from it, both (B, H, W).
    """
    sizes = sizes_of(channels, height, width, kernel_size)
    radius, slots = sizes.radius, kernel_size * sizes.slots
    framed_q, framed_k, framed_v = new_frame(sizes), new_frame(sizes), new_frame(sizes)
    border = border_rows(outside, sizes)
    sums, weights, means = scratch(slots * LANES), scratch(slots * LANES), scratch(channels * LANES)
    extremes = scratch(2 * LANES)
    while first < last:
        image, begin = first // height, first % height
        end = min(height, begin + last - first)
        for row in range(max(0, begin - radius), end + radius):
            if row < height:
                frame(q, image, row, sizes, framed_q)
                frame(k, image, row, sizes, framed_k)
                frame(v, image, row, sizes, framed_v)
            y = row - radius
            if y < begin:
                continue
            for vector in range(sizes.vectors):
                x = first_pixel(vector, sizes)
                scores(framed_q, framed_k, y, x, sizes, sums)
                largest, norm = softmax(sums, factor, border, y, x, sizes, weights)
                attend(weights, framed_v, y, x, sizes, means)
                unframe(means, divide(splat(ONE), norm), image, y, x, sizes, out)
                store(extremes, 0, largest)
                store(extremes, LANES, norm)
                at = (image * height + y) * width + x
                copy(extremes, 0, most, at, min(LANES, width))
                copy(extremes, LANES, total, at, min(LANES, width))
        first += end - begin


@part
def sum_of_products(a, b, y, x, sizes):
    """Sums over the channels for LANES pixels."""
    total = splat(ZERO)
    start = framed_row(y, sizes) + x + sizes.radius
    for c in range(0, sizes.channels * sizes.stride, sizes.stride):
        total = multiply_add(load(a, start + c), load(b, start + c), total)
    return total


@part
def weights_and_gradients(sums, products, factor, scale, lse2, delta, y, x, sizes, weights, p_ring, ds_ring):
    """Weights p and gradients of the scores ds of LANES pixels from their products q . k and g . v."""
    factor, scale = splat(factor), splat(scale)
    for dy in window_rows(y, sizes):
        for dx in range(sizes.kernel_size):
            at = (dy * sizes.slots + dx) * LANES
            # No weight exceeds 1; where the mask left keys out of the log-sum-exp, theirs would, to infinity.
            score = smaller(subtract(multiply(load(sums, at), factor), lse2), splat(ZERO))
            p = exp2(score)
            ds = multiply(multiply(p, scale), subtract(load(products, at), delta))
            store(weights, at, ds)
            slot = (y % sizes.kernel_size * sizes.kernel_size + dy) * sizes.slots + sizes.kernel_size - 1 - dx
            store(p_ring, slot * sizes.stride + sizes.radius + x, p)
            store(ds_ring, slot * sizes.stride + sizes.radius + x, ds)


@compiled(f"void({', '.join(9 * ['float32[::1]'])}, {', '.join(6 * ['int64'])}, float32, float32)")
def backward(g, q, k, v, out, lse, dq, dk, dv, first, last, channels, height, width, kernel_size, factor, scale):
    """Gradients in rows `first` to `last` of all B * H.

    The weights of the queries around these rows are needed too: they are computed twice where two calls meet.
    """
    sizes = sizes_of(channels, height, width, kernel_size)
    radius, slots = sizes.radius, kernel_size * sizes.slots
    framed_g, framed_q, framed_k, framed_v = new_frame(sizes), new_frame(sizes), new_frame(sizes), new_frame(sizes)
    sums, products, weights = scratch(slots * LANES), scratch(slots * LANES), scratch(slots * LANES)
    p_ring, ds_ring = scratch(kernel_size * slots * sizes.stride), scratch(kernel_size * slots * sizes.stride)
    framed_out, lse_row, gradient = new_frame(sizes), scratch(sizes.stride), scratch(channels * LANES)
    while first < last:
        image, begin = first // height, first % height
        end = min(height, begin + last - first)
        for row in range(max(0, begin - 2 * radius), end + 2 * radius):
            if row < height:
                frame(k, image, row, sizes, framed_k)
                frame(v, image, row, sizes, framed_v)
            y = row - radius
            if max(0, begin - radius) <= y < height:
                frame(q, image, y, sizes, framed_q)
                frame(g, image, y, sizes, framed_g)
                frame(out, image, y, sizes, framed_out)
                copy(lse, (image * height + y) * width, lse_row, 0, width)
                for vector in range(sizes.vectors):
                    x = first_pixel(vector, sizes)
                    delta = sum_of_products(framed_g, framed_out, y, x, sizes)
                    lse2 = multiply(load(lse_row, x), splat(LOG2_E))
                    scores(framed_q, framed_k, y, x, sizes, sums)
                    scores(framed_g, framed_v, y, x, sizes, products)
                    weights_and_gradients(
                        sums, products, factor, scale, lse2, delta, y, x, sizes, weights, p_ring, ds_ring
                    )
                    if begin <= y < end:
                        attend(weights, framed_k, y, x, sizes, gradient)
                        unframe(gradient, splat(ONE), image, y, x, sizes, dq)
            y -= radius
            if y >= begin:  # the last query that sees this row of keys is done
                for vector in range(sizes.vectors):
                    x = first_pixel(vector, sizes)
                    attend_back(ds_ring, framed_q, y, x, sizes, gradient)
                    unframe(gradient, splat(ONE), image, y, x, sizes, dk)
                    attend_back(p_ring, framed_g, y, x, sizes, gradient)
                    unframe(gradient, splat(ONE), image, y, x, sizes, dv)
        first += end - begin
