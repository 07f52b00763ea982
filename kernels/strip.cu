// Local attention in float32 multiply-adds, for what the tensor-core kernels leave: kernel sizes from 11, maps that do
// not fit their shared memory, and float32 of many channels or on devices of slow TF32. Any number of channels.
#include "strip.cuh"

// out and the natural log-sum-exp of the scaled scores.
KERNEL(THREADS, FORWARD_BLOCKS)
local_attention_forward(const T* q, const T* k, const T* v, T* out, float* lse, int channels, int height, int width,
                        float scale, int zero_border) {
    SHARED_MEMORY(memory);
    const Image image{channels, height, width};
    Block block(image, reinterpret_cast<float*>(memory));
    const Tile tile = block.tile;
    const Thread thread = block.thread;
    const long long offset = tile.offset(image, channels);
    lse += tile.offset(image, 1);

    Scores p;
    block.correlate(p, q + offset, k + offset);
    const int y = tile.top + thread.row + thread.dy - KERNEL_RADIUS;
    const int x = tile.left + thread.column - KERNEL_RADIUS;
    const float scale2 = scale * LOG2_E;
    float maximum[STRIP], total[STRIP];
#pragma unroll
    for (int i = 0; i < STRIP; ++i) {
        maximum[i] = LOWEST;
#pragma unroll
        for (int dx = 0; dx < KERNEL_SIZE; ++dx) {
            p[dx][i] = image.contains(y, x + dx + i) ? p[dx][i] * scale2 : -infinity();
            maximum[i] = fmaxf(maximum[i], p[dx][i]);
        }
    }
    // A neighbour outside the image is a score of 0 with a value of 0 in border mode "zero", and nothing in "mask".
    const auto outside = [&](const Query& query) {
        return zero_border ? image.neighbours_outside(tile.top + query.row, tile.left + query.column) : 0;
    };
    float* maxima = block.partials + KERNEL_SIZE * SLICE;
    block.reduce(
        maximum, maxima, [](float a, float b) { return fmaxf(a, b); },
        [&](const Query& query, float highest) { return outside(query) > 0 ? fmaxf(highest, 0.0f) : highest; });
#pragma unroll
    for (int i = 0; i < STRIP; ++i) {
        total[i] = 0;
#pragma unroll
        for (int dx = 0; dx < KERNEL_SIZE; ++dx) {
            p[dx][i] = exp2_fast(p[dx][i] - maximum[i]);
            total[i] += p[dx][i];
        }
    }
    block.reduce(
        total, maxima + SLICE, [](float a, float b) { return a + b; },
        [&](const Query& query, float inside) {
            const float highest = maxima[query.at];
            const float sum = inside + outside(query) * exp2_fast(-highest);
            const int query_y = tile.top + query.row, query_x = tile.left + query.column;
            if (image.contains(query_y, query_x))
                lse[query_y * width + query_x] = (highest + log2_fast(sum)) * LN_2;
            return 1 / sum;
        });
#pragma unroll
    for (int i = 0; i < STRIP; ++i)
#pragma unroll
        for (int dx = 0; dx < KERNEL_SIZE; ++dx) p[dx][i] *= total[i];
    block.gather(out + offset, p, v + offset);
}

// dq, and delta (B, H, W) for local_attention_dkv.
KERNEL(THREADS, DQ_BLOCKS)
local_attention_dq(const T* g, const T* q, const T* k, const T* v, const T* out, const float* lse, T* dq, float* delta,
                   int channels, int height, int width, float scale) {
    SHARED_MEMORY(memory);
    const Image image{channels, height, width};
    Block block(image, reinterpret_cast<float*>(memory));
    const Tile tile = block.tile;
    const Thread thread = block.thread;
    const long long offset = tile.offset(image, channels);
    lse += tile.offset(image, 1);
    delta += tile.offset(image, 1);

    Scores p, ds;
    block.correlate(p, q + offset, k + offset);
    block.correlate(ds, g + offset, v + offset);
    float lse2[STRIP], own_delta[STRIP];
    block.share(lse2, block.partials, [&](const Query& query) {
        const int y = tile.top + query.row, x = tile.left + query.column;
        return image.contains(y, x) ? lse[y * width + x] * LOG2_E : 0.0f;
    });
    block.share(own_delta, block.partials + SLICE, [&](const Query& query) {
        const int y = tile.top + query.row, x = tile.left + query.column;
        if (!image.contains(y, x)) return 0.0f;
        return delta[y * width + x] = partial_delta(g + offset, out + offset, image, y * width + x, 0, 1);
    });

    const int y = tile.top + thread.row + thread.dy - KERNEL_RADIUS;
    const int x = tile.left + thread.column - KERNEL_RADIUS;
    const float scale2 = scale * LOG2_E;
#pragma unroll
    for (int dx = 0; dx < KERNEL_SIZE; ++dx)
#pragma unroll
        for (int i = 0; i < STRIP; ++i) {
            const float weight = exp2_fast(fmaf(p[dx][i], scale2, -lse2[i])) * scale;
            ds[dx][i] = image.contains(y, x + dx + i) ? weight * (ds[dx][i] - own_delta[i]) : 0.0f;
        }
    block.gather(dq + offset, ds, k + offset);
}

// dk and dv. A pixel is in its neighbour's window exactly if the neighbour is in its own, so a key gathers from the
// queries around it as a query does from its keys: dq with the roles exchanged, and no atomic sums.
KERNEL(THREADS, DKV_BLOCKS)
local_attention_dkv(const T* g, const T* q, const T* k, const T* v, const float* lse, const float* delta, T* dk, T* dv,
                    int channels, int height, int width, float scale) {
    SHARED_MEMORY(memory);
    const Image image{channels, height, width};
    Block block(image, reinterpret_cast<float*>(memory));
    const Tile tile = block.tile;
    const Thread thread = block.thread;
    const long long offset = tile.offset(image, channels);
    lse += tile.offset(image, 1);
    delta += tile.offset(image, 1);
    float* lses2 = block.partials + 2 * PARTIALS;
    float* deltas = lses2 + STATISTICS;
    for (int index = threadIdx.x; index < ROWS * COLUMNS; index += THREADS) {
        const int row = index / COLUMNS, column = index % COLUMNS;
        const int y = tile.top - KERNEL_RADIUS + row, x = tile.left - COLUMN_HALO + column;
        const bool inside = image.contains(y, x);
        // The weight of a query outside the image is exp(-inf) = 0.
        lses2[row * PITCH + column] = inside ? lse[y * width + x] * LOG2_E : infinity();
        deltas[row * PITCH + column] = inside ? delta[y * width + x] : 0.0f;
    }

    Scores p, ds;
    block.correlate(p, k + offset, q + offset);
    const float scale2 = scale * LOG2_E;
    float window[WINDOW];
    load_floats(window, lses2 + thread.halo());
#pragma unroll
    for (int dx = 0; dx < KERNEL_SIZE; ++dx)
#pragma unroll
        for (int i = 0; i < STRIP; ++i)
            p[dx][i] = exp2_fast(fmaf(p[dx][i], scale2, -window[SHIFT + dx + i]));
    block.gather(dv + offset, p, g + offset);
    block.correlate(ds, v + offset, g + offset);
    load_floats(window, deltas + thread.halo());
#pragma unroll
    for (int dx = 0; dx < KERNEL_SIZE; ++dx)
#pragma unroll
        for (int i = 0; i < STRIP; ++i) ds[dx][i] = p[dx][i] * (ds[dx][i] - window[SHIFT + dx + i]) * scale;
    block.gather(dk + offset, ds, q + offset);
}
