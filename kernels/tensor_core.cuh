// What the kernels of tensor_core.cu are made of: the layout of maps in shared memory, and products of matrices.
//
// A warp owns 2 rows x 8 columns of queries, the 16 rows of one matrix product. Their keys lie in 2 + 2 R rows x 16
// columns; per key row the products are 16 queries x 16 keys, of which the window keeps about half. A larger query
// tile would keep less. Scores live in registers; shared memory holds the maps channel by channel as in global memory,
// so that nothing is transposed on the way in: `ldmatrix` transposes where the sum runs over channels.
//
// Set by the compiler's -D: ELEMENT (bf16, f16), CHANNELS (a multiple of 8, padded with zeros), KERNEL_SIZE, VECTOR
// (elements a copy: all rows of all tensors are aligned to it), TILE_ROWS, TILE_COLUMNS, FORWARD_BLOCKS, DQ_BLOCKS and
// DKV_BLOCKS (blocks that share a multiprocessor), and BLOCK_THREADS and the SHARED_... sizes that the host launches with.
#pragma once
#include "geometry.cuh"

using T = ELEMENT;

constexpr int COLUMN_HALO = 4;  // for every radius, so that rows of a tile start at multiples of 8 bytes
constexpr int ROWS = TILE_ROWS + 2 * KERNEL_RADIUS, COLUMNS = TILE_COLUMNS + 2 * COLUMN_HALO;
constexpr int QUERIES = TILE_ROWS * TILE_COLUMNS, WARPS = QUERIES / 16, THREADS = 32 * WARPS;
constexpr int KEY_ROWS = 2 + 2 * KERNEL_RADIUS;
// Elements between channels: an odd multiple of 16 bytes, so that ldmatrix rows of 8 channels meet distinct banks.
constexpr int WIDE = ROWS * COLUMNS + 8, NARROW = QUERIES + 8;
constexpr int STEPS_16 = CHANNELS / 16, STEPS_8 = CHANNELS / 8 % 2, CHANNEL_TILES = CHANNELS / 8;
// Key rows whose scores are in registers at once: half of them, with one step of the running-maximum softmax between
// the halves. All at once spill registers from 40 channels on when two blocks share a multiprocessor.
constexpr int GROUP_ROWS = KEY_ROWS / 2;

static_assert(BLOCK_THREADS == THREADS);
static_assert(KERNEL_SIZE <= 2 * COLUMN_HALO + 1 && CHANNELS % 8 == 0 && TILE_ROWS % 2 == 0 && TILE_COLUMNS % 8 == 0);
static_assert(SHARED_FORWARD == (2 * WIDE + NARROW) * CHANNELS * sizeof(T));
static_assert(SHARED_DQ == 2 * (WIDE + NARROW) * CHANNELS * sizeof(T) + 2 * QUERIES * sizeof(float));
static_assert(SHARED_DKV == 2 * (WIDE + NARROW) * CHANNELS * sizeof(T) + 2 * ROWS * COLUMNS * sizeof(float));

struct Lane {
    int row, column;  // first query of the warp, in the tile
    int g, t;         // matrix row g (and 8 + g), matrix columns 2t and 2t + 1: the query column is g
    // This lane's rows for ldmatrix, in bytes from the start of a map. In `by_channel` lanes 8 to 15 continue the
    // channels and lanes 16 to 31 the columns, in `by_column` the reverse.
    int by_channel, by_column, centre;

    DEVICE Lane() {
        int warp = warp_number(), lane = threadIdx.x % 32;
        row = warp / (TILE_COLUMNS / 8) * 2;
        column = warp % (TILE_COLUMNS / 8) * 8;
        g = lane / 4;
        t = lane % 4;
        int low = lane / 8 % 2, high = lane / 16, eighth = lane % 8;
        int corner = row * COLUMNS + column;
        by_channel = ((8 * low + eighth) * WIDE + corner + 8 * high) * sizeof(T);
        by_column = ((8 * high + eighth) * WIDE + corner + 8 * low) * sizeof(T);
        centre = ((8 * high + eighth) * NARROW + (row + low) * TILE_COLUMNS + column) * sizeof(T);
    }
};

// Which of the 16 key columns lie in the window of this lane's query and in the image: 0, or minus infinity, to be
// added to a score. Element [tile][i] is column 8 * tile + 2t + i.
struct ColumnMask {
    float bias[2][2];

    DEVICE ColumnMask(const Lane& lane, const Image& image, const Tile& tile) {
        for (int n = 0; n < 2; ++n)
            for (int i = 0; i < 2; ++i) {
                int column = 8 * n + 2 * lane.t + i;
                int dx = column - COLUMN_HALO - lane.g;
                int x = tile.left + lane.column - COLUMN_HALO + column;
                bool valid = abs(dx) <= KERNEL_RADIUS && x >= 0 && x < image.width;
                bias[n][i] = valid ? 0.0f : -infinity();
            }
    }
};

// The window of query row 0 ends before the last key row, that of query row 1 begins after the first.
DEVICE constexpr bool outside_window(int key_row, int query_row) {
    return query_row == 0 ? key_row == KEY_ROWS - 1 : key_row == 0;
}

// Fetch `rows` x `columns` pixels of all channels, one warp a channel; zeros outside the image and past its channels.
template <int MAP_ROWS, int MAP_COLUMNS, int PITCH>
DEVICE void load_map(T* map, const T* tensor, const Image& image, int top, int left) {
    constexpr int VECTORS = MAP_ROWS * MAP_COLUMNS / VECTOR, PER_LANE = (VECTORS + 31) / 32;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int source[PER_LANE];
#pragma unroll
    for (int i = 0; i < PER_LANE; ++i) {
        int element = (lane + 32 * i) * VECTOR;
        int y = top + element / MAP_COLUMNS, x = left + element % MAP_COLUMNS;
        source[i] = image.contains(y, x) ? y * image.width + x : -1;
    }
    for (int c = warp; c < CHANNELS; c += WARPS) {
        const T* plane = c < image.channels ? tensor + c * image.plane() : tensor;
#pragma unroll
        for (int i = 0; i < PER_LANE; ++i)
            if (VECTORS % 32 == 0 || lane + 32 * i < VECTORS)
                copy_elements<T, VECTOR>(map + c * PITCH + (lane + 32 * i) * VECTOR, plane + max(source[i], 0),
                                         source[i] >= 0 && c < image.channels);
    }
}

DEVICE void load_halo(T* map, const T* tensor, const Image& image, const Tile& tile) {
    load_map<ROWS, COLUMNS, WIDE>(map, tensor, image, tile.top - KERNEL_RADIUS, tile.left - COLUMN_HALO);
}

DEVICE void load_centre(T* map, const T* tensor, const Image& image, const Tile& tile) {
    load_map<TILE_ROWS, TILE_COLUMNS, NARROW>(map, tensor, image, tile.top, tile.left);
}

// The warp's 16 pixels of a centre map, as the left operand of the products over channels.
struct Centre {
    unsigned fragment[CHANNELS / 4];

    DEVICE Centre(const T* map, const Lane& lane) {
        SharedAddress row = shared_address(map) + lane.centre;
#pragma unroll
        for (int i = 0; i < STEPS_16; ++i) {
            unsigned a[4];
            load_matrices_transposed(a, row + i * 16 * NARROW * static_cast<int>(sizeof(T)));
            for (int j = 0; j < 4; ++j) fragment[4 * i + j] = a[j];
        }
        if constexpr (STEPS_8 == 1) {
            unsigned a[2];
            load_matrices_transposed(a, row + STEPS_16 * 16 * NARROW * static_cast<int>(sizeof(T)));
            for (int j = 0; j < 2; ++j) fragment[4 * STEPS_16 + j] = a[j];
        }
    }
};

// One row of 16 pixels of a haloed map, `key_row` rows below the first that the warp needs.
struct HaloRow {
    SharedAddress by_channel, by_column;

    DEVICE HaloRow(const T* map, const Lane& lane, int key_row) {
        SharedAddress row = shared_address(map) + key_row * COLUMNS * static_cast<int>(sizeof(T));
        by_channel = row + lane.by_channel;
        by_column = row + lane.by_column;
    }

    // s (16 x 16) = sum over the channels of centre x row.
    DEVICE void contract_channels(float (&s)[2][4], const Centre& centre) const {
        for (int n = 0; n < 2; ++n)
            for (int e = 0; e < 4; ++e) s[n][e] = 0;
#pragma unroll
        for (int i = 0; i < STEPS_16; ++i) {
            unsigned b[4];
            load_matrices_transposed(b, by_channel + i * 16 * WIDE * static_cast<int>(sizeof(T)));
            multiply_add(T{}, s[0], centre.fragment + 4 * i, b[0], b[1]);
            multiply_add(T{}, s[1], centre.fragment + 4 * i, b[2], b[3]);
        }
        if constexpr (STEPS_8 == 1) {
            unsigned b[2];
            load_matrices_transposed(b, by_column + STEPS_16 * 16 * WIDE * static_cast<int>(sizeof(T)));
            multiply_add(T{}, s[0], centre.fragment + 4 * STEPS_16, b[0]);
            multiply_add(T{}, s[1], centre.fragment + 4 * STEPS_16, b[1]);
        }
    }

    // sum (16 x channels) += weight (16 x 16) x row; the weights are rounded to 16 bits.
    DEVICE void contract_pixels(float (&sum)[CHANNEL_TILES][4], const float (&weight)[2][4]) const {
        const unsigned a[4] = {pack<T>(weight[0][0], weight[0][1]), pack<T>(weight[0][2], weight[0][3]),
                               pack<T>(weight[1][0], weight[1][1]), pack<T>(weight[1][2], weight[1][3])};
#pragma unroll
        for (int i = 0; i < STEPS_16; ++i) {
            unsigned b[4];
            load_matrices(b, by_column + i * 16 * WIDE * static_cast<int>(sizeof(T)));
            multiply_add(T{}, sum[2 * i], a, b[0], b[1]);
            multiply_add(T{}, sum[2 * i + 1], a, b[2], b[3]);
        }
        if constexpr (STEPS_8 == 1) {
            unsigned b[2];
            load_matrices(b, by_column + STEPS_16 * 16 * WIDE * static_cast<int>(sizeof(T)));
            multiply_add(T{}, sum[2 * STEPS_16], a, b[0], b[1]);
        }
    }
};

DEVICE void clear(float (&sum)[CHANNEL_TILES][4]) {
    for (int n = 0; n < CHANNEL_TILES; ++n)
        for (int e = 0; e < 4; ++e) sum[n][e] = 0;
}

// Round factor * sum into the warp's own pixels of a centre map, which it has read for the last time.
DEVICE void stage(T* map, const float (&sum)[CHANNEL_TILES][4], float factor0, float factor1, const Lane& lane) {
    __syncwarp();
#pragma unroll
    for (int n = 0; n < CHANNEL_TILES; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            int channel = 8 * n + 2 * lane.t + e % 2;
            int pixel = (lane.row + e / 2) * TILE_COLUMNS + lane.column + lane.g;
            round_to(map[channel * NARROW + pixel], sum[n][e] * (e < 2 ? factor0 : factor1));
        }
}

DEVICE void store_centre(T* tensor, const T* map, const Image& image, const Tile& tile) {
    constexpr int VECTORS = QUERIES / VECTOR;
    for (int i = threadIdx.x; i < VECTORS * image.channels; i += THREADS) {
        int c = i / VECTORS, element = i % VECTORS * VECTOR;
        int y = tile.top + element / TILE_COLUMNS, x = tile.left + element % TILE_COLUMNS;
        if (image.contains(y, x))
            store_vector(tensor + c * image.plane() + y * image.width + x,
                         load_vector<VECTOR>(map + c * NARROW + element));
    }
}
