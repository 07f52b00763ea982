// Local attention on tensor cores, kernel sizes up to 9: 16-bit types, and float32 as three products of TF32.
//
// A not-a-number or infinite pixel can reach queries up to 8 columns off (0 * inf), not only those whose window has
// it.
#include "tensor_core.cuh"

// out and the natural log-sum-exp of the scaled scores.
KERNEL(THREADS, FORWARD_BLOCKS)
local_attention_forward(const T* q, const T* k, const T* v, T* out, float* lse, int channels, int height, int width,
                        float scale, int zero_border) {
    SHARED_MEMORY(memory);
    T* keys = reinterpret_cast<T*>(memory);
    T* values = keys + WIDE * CHANNELS;
    T* queries = values + WIDE * CHANNELS;
    const Image image{channels, height, width};
    const Tile tile = tile_of_block<TILE_ROWS, TILE_COLUMNS>(image);
    const long long offset = tile.offset(image, channels);
    load_halo(keys, k + offset, image, tile);
    load_centre(queries, q + offset, image, tile);
    copy_commit();
    load_halo(values, v + offset, image, tile);
    copy_commit();

    const Lane lane;
    const ColumnMask mask(lane, image, tile);
    const int y = tile.top + lane.row, x = tile.left + lane.column + lane.g;
    const float scale2 = scale * LOG2_E;
    // A neighbour outside the image is a score of 0 with a value of 0 in border mode "zero", and nothing in "mask".
    float maximum[2], total[2];
    for (int h = 0; h < 2; ++h) {
        int outside = zero_border ? image.neighbours_outside(y + h, x) : 0;
        maximum[h] = outside > 0 ? 0.0f : LOWEST;
        total[h] = lane.t == 0 ? static_cast<float>(outside) : 0.0f;
    }
    float sum[CHANNEL_TILES][4];
    clear(sum);
    copy_wait<1>();
    __syncthreads();
    const Centre centre(queries, lane);

#pragma unroll(UNROLLED ? KEY_ROWS : 1)
    for (int first = 0; first < KEY_ROWS; first += GROUP_ROWS) {
        float s[GROUP_ROWS][2][4];
        float highest[2] = {maximum[0], maximum[1]};
#pragma unroll
        for (int i = 0; i < GROUP_ROWS; ++i) {
            const int key_row = first + i;
            const int key_y = y - KERNEL_RADIUS + key_row;
            const bool inside = key_y >= 0 && key_y < height;  // the same for the whole warp
            if (inside) HaloRow(keys, lane, key_row).contract_channels(s[i], centre);
#pragma unroll
            for (int n = 0; n < 2; ++n)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const bool counts = inside && !outside_window(key_row, e / 2);
                    s[i][n][e] = counts ? fmaf(s[i][n][e], scale2, mask.bias[n][e % 2]) : -infinity();
                    highest[e / 2] = fmaxf(highest[e / 2], s[i][n][e]);
                }
        }
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            highest[h] = fmaxf(highest[h], shuffle_xor(highest[h], 1));
            highest[h] = fmaxf(highest[h], shuffle_xor(highest[h], 2));
            const float shrink = exp2_fast(maximum[h] - highest[h]);
            maximum[h] = highest[h];
            total[h] *= shrink;
            if (first > 0)
#pragma unroll
                for (int n = 0; n < CHANNEL_TILES; ++n) {
                    sum[n][2 * h] *= shrink;
                    sum[n][2 * h + 1] *= shrink;
                }
        }
        if (first == 0) {
            copy_wait<0>();
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < GROUP_ROWS; ++i) {
#pragma unroll
            for (int n = 0; n < 2; ++n)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    s[i][n][e] = exp2_fast(s[i][n][e] - maximum[e / 2]);
                    total[e / 2] += s[i][n][e];
                }
            HaloRow(values, lane, first + i).contract_pixels(sum, s[i]);
        }
    }

    for (int h = 0; h < 2; ++h) {
        total[h] += shuffle_xor(total[h], 1);
        total[h] += shuffle_xor(total[h], 2);
        if (lane.t == 0 && image.contains(y + h, x))
            lse[static_cast<long long>(tile.batch) * image.plane() + (y + h) * width + x] =
                (maximum[h] + log2_fast(total[h])) * LN_2;
    }
    stage(queries, sum, 1 / total[0], 1 / total[1], lane);
    __syncthreads();
    store_centre(out + offset, queries, image, tile);
}

// dq, and delta (B, H, W) for local_attention_dkv.
KERNEL(THREADS, DQ_BLOCKS)
local_attention_dq(const T* g, const T* q, const T* k, const T* v, const T* out, const float* lse, T* dq, float* delta,
                   int channels, int height, int width, float scale) {
    SHARED_MEMORY(memory);
    T* keys = reinterpret_cast<T*>(memory);
    T* values = keys + WIDE * CHANNELS;
    T* queries = values + WIDE * CHANNELS;
    T* gradients = queries + NARROW * CHANNELS;
    float* half_deltas = reinterpret_cast<float*>(gradients + NARROW * CHANNELS);
    const Image image{channels, height, width};
    const Tile tile = tile_of_block<TILE_ROWS, TILE_COLUMNS>(image);
    const long long offset = tile.offset(image, channels);
    load_centre(queries, q + offset, image, tile);
    load_centre(gradients, g + offset, image, tile);
    load_halo(keys, k + offset, image, tile);
    load_halo(values, v + offset, image, tile);
    copy_commit();

    lse += tile.offset(image, 1);
    delta += tile.offset(image, 1);
    {
        const int query = threadIdx.x % QUERIES, half = threadIdx.x / QUERIES;
        const int y = tile.top + query / TILE_COLUMNS, x = tile.left + query % TILE_COLUMNS;
        const bool inside = image.contains(y, x);
        half_deltas[threadIdx.x] =
            inside ? partial_delta(g + offset, out + offset, image, y * width + x, half, 2) : 0.0f;
        __syncthreads();
        if (inside && half == 0) delta[y * width + x] = half_deltas[query] + half_deltas[query + QUERIES];
    }

    const Lane lane;
    const ColumnMask mask(lane, image, tile);
    const int y = tile.top + lane.row, x = tile.left + lane.column + lane.g;
    const float scale2 = scale * LOG2_E;
    float own_delta[2], shift[2][2][2];  // shift [query row][tile][i]: the mask less the log-sum-exp
    for (int h = 0; h < 2; ++h) {
        const int query = (lane.row + h) * TILE_COLUMNS + lane.column + lane.g;
        own_delta[h] = half_deltas[query] + half_deltas[query + QUERIES];
        const float lse2 = image.contains(y + h, x) ? lse[(y + h) * width + x] * LOG2_E : 0.0f;
        for (int n = 0; n < 2; ++n)
            for (int i = 0; i < 2; ++i) shift[h][n][i] = mask.bias[n][i] - lse2;
    }
    float sum[CHANNEL_TILES][4];
    clear(sum);
    copy_wait<0>();
    __syncthreads();
    const Centre centre(queries, lane), gradient(gradients, lane);

#pragma unroll(UNROLLED ? KEY_ROWS : 1)
    for (int key_row = 0; key_row < KEY_ROWS; ++key_row) {
        const int key_y = y - KERNEL_RADIUS + key_row;
        if (key_y < 0 || key_y >= height) continue;
        const HaloRow key(keys, lane, key_row), value(values, lane, key_row);
        float s[2][4], dp[2][4];
        key.contract_channels(s, centre);
        value.contract_channels(dp, gradient);
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int h = e / 2;
                const float p = exp2_fast(fmaf(s[n][e], scale2, shift[h][n][e % 2]));
                s[n][e] = outside_window(key_row, h) ? 0.0f : p * (dp[n][e] - own_delta[h]);
            }
        key.contract_pixels(sum, s);
    }

    stage(queries, sum, scale, scale, lane);
    __syncthreads();
    store_centre(dq + offset, queries, image, tile);
}

// dk and dv. A pixel is in its neighbour's window exactly if the neighbour is in its own, so a key gathers from the
// queries around it as a query does from its keys: the loop of dq with the roles exchanged, and no atomic sums.
KERNEL(THREADS, DKV_BLOCKS)
local_attention_dkv(const T* g, const T* q, const T* k, const T* v, const float* lse, const float* delta, T* dk, T* dv,
                    int channels, int height, int width, float scale) {
    SHARED_MEMORY(memory);
    T* queries = reinterpret_cast<T*>(memory);
    T* gradients = queries + WIDE * CHANNELS;
    T* keys = gradients + WIDE * CHANNELS;
    T* values = keys + NARROW * CHANNELS;
    float* lses2 = reinterpret_cast<float*>(values + NARROW * CHANNELS);
    float* deltas = lses2 + ROWS * COLUMNS;
    const Image image{channels, height, width};
    const Tile tile = tile_of_block<TILE_ROWS, TILE_COLUMNS>(image);
    const long long offset = tile.offset(image, channels);
    load_centre(keys, k + offset, image, tile);
    load_centre(values, v + offset, image, tile);
    load_halo(queries, q + offset, image, tile);
    load_halo(gradients, g + offset, image, tile);
    copy_commit();
    lse += tile.offset(image, 1);
    delta += tile.offset(image, 1);
    for (int i = threadIdx.x; i < ROWS * COLUMNS; i += THREADS) {
        const int y = tile.top - KERNEL_RADIUS + i / COLUMNS, x = tile.left - COLUMN_HALO + i % COLUMNS;
        const bool inside = image.contains(y, x);
        lses2[i] = inside ? lse[y * width + x] * LOG2_E : infinity();  // the weight of a query outside is 0
        deltas[i] = inside ? delta[y * width + x] : 0.0f;
    }

    const Lane lane;
    const ColumnMask mask(lane, image, tile);
    const int y = tile.top + lane.row;
    const float scale2 = scale * LOG2_E;
    float dk_sum[CHANNEL_TILES][4], dv_sum[CHANNEL_TILES][4];
    clear(dk_sum);
    clear(dv_sum);
    copy_wait<0>();
    __syncthreads();
    const Centre key(keys, lane), value(values, lane);

#pragma unroll(UNROLLED ? KEY_ROWS : 1)
    for (int query_row = 0; query_row < KEY_ROWS; ++query_row) {
        const int query_y = y - KERNEL_RADIUS + query_row;
        if (query_y < 0 || query_y >= height) continue;
        const HaloRow query(queries, lane, query_row), gradient(gradients, lane, query_row);
        float p[2][4], ds[2][4];
        query.contract_channels(p, key);
        gradient.contract_channels(ds, value);
#pragma unroll
        for (int n = 0; n < 2; ++n) {
            const int first = (lane.row + query_row) * COLUMNS + lane.column + 8 * n + 2 * lane.t;
            const Vector<float, 2> lse2 = load_vector<2>(lses2 + first), d = load_vector<2>(deltas + first);
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const float weight = exp2_fast(fmaf(p[n][e], scale2, mask.bias[n][e % 2] - lse2.element[e % 2]));
                p[n][e] = outside_window(query_row, e / 2) ? 0.0f : weight;
                ds[n][e] = p[n][e] * (ds[n][e] - d.element[e % 2]);
            }
        }
        gradient.contract_pixels(dv_sum, p);
        query.contract_pixels(dk_sum, ds);
    }

    stage(keys, dk_sum, scale, scale, lane);
    stage(values, dv_sum, 1, 1, lane);
    __syncthreads();
    store_centre(dk + offset, keys, image, tile);
    store_centre(dv + offset, values, image, tile);
}
