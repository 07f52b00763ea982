// What the kernels of tensor_core.cu are made of: the layout of maps in shared memory, and products of matrices.
//
// A warp owns 2 rows x 8 columns of queries, the 16 rows of one matrix product. Their keys lie in 2 + 2 R rows x 16
// columns; per key row the products are 16 queries x 16 keys, of which the window keeps about half. A larger query
// tile would keep less. Scores live in registers; shared memory holds the maps channel by channel as in global memory,
// so that nothing is transposed on the way in. products_16.cuh and products_tf32.cuh multiply.
//
// Set by the compiler's -D: ELEMENT (bf16, f16, float) and its ELEMENT_BYTES, CHANNELS (a multiple of 8, padded with
// zeros), KERNEL_SIZE, VECTOR (elements a copy: all rows of all tensors are aligned to it), TILE_ROWS, TILE_COLUMNS,
// FORWARD_BLOCKS, DQ_BLOCKS and DKV_BLOCKS (blocks that share a multiprocessor), and BLOCK_THREADS and the SHARED_...
// sizes that the host launches with.
#pragma once
#include "geometry.cuh"

using T = ELEMENT;

constexpr int COLUMN_HALO = 4;  // for every radius, so that rows of a tile start at multiples of 8 bytes
constexpr int ROWS = TILE_ROWS + 2 * KERNEL_RADIUS, COLUMNS = TILE_COLUMNS + 2 * COLUMN_HALO;
constexpr int QUERIES = TILE_ROWS * TILE_COLUMNS, WARPS = QUERIES / 16, THREADS = 32 * WARPS;
constexpr int KEY_ROWS = 2 + 2 * KERNEL_RADIUS;
// Elements between channels: an odd multiple of 8, so that ldmatrix rows of 8 channels, and float32 numbers of 4
// channels and 8 columns, meet distinct banks.
constexpr int WIDE = ROWS * COLUMNS + 8, NARROW = QUERIES + 8;
constexpr int CHANNEL_TILES = CHANNELS / 8;
// Key rows whose scores are in registers at once: half of them, with one step of the running-maximum softmax between
// the halves. All at once spill registers from 40 channels on when two blocks share a multiprocessor.
constexpr int GROUP_ROWS = KEY_ROWS / 2;
// A key row of float32 takes hundreds of instructions; ten of them in a row would leave the cache.
constexpr bool UNROLLED = sizeof(T) == 2;

static_assert(BLOCK_THREADS == THREADS && ELEMENT_BYTES == sizeof(T));
static_assert(KERNEL_SIZE <= 2 * COLUMN_HALO + 1 && CHANNELS % 8 == 0 && TILE_ROWS % 2 == 0 && TILE_COLUMNS % 8 == 0);
static_assert(SHARED_FORWARD == (2 * WIDE + NARROW) * CHANNELS * sizeof(T));
static_assert(SHARED_DQ == 2 * (WIDE + NARROW) * CHANNELS * sizeof(T) + 2 * QUERIES * sizeof(float));
static_assert(SHARED_DKV == 2 * (WIDE + NARROW) * CHANNELS * sizeof(T) + 2 * ROWS * COLUMNS * sizeof(float));

struct Lane {
    int row, column;  // first query of the warp, in the tile
    int g, t;         // matrix row g (and 8 + g), matrix columns 2t and 2t + 1: the query column is g

    DEVICE Lane() {
        int warp = warp_number(), lane = threadIdx.x % 32;
        row = warp / (TILE_COLUMNS / 8) * 2;
        column = warp % (TILE_COLUMNS / 8) * 8;
        g = lane / 4;
        t = lane % 4;
    }
    DEVICE int corner() const { return row * COLUMNS + column; }
    DEVICE int query() const { return row * TILE_COLUMNS + column; }
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
#pragma unroll 1  // unrolled, a kernel is a tenth longer for nothing, since copies do not wait
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

#if ELEMENT_BYTES == 4
#include "products_tf32.cuh"
#else
#include "products_16.cuh"
#endif

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
#pragma unroll 1
    for (int i = threadIdx.x; i < VECTORS * image.channels; i += THREADS) {
        int c = i / VECTORS, element = i % VECTORS * VECTOR;
        int y = tile.top + element / TILE_COLUMNS, x = tile.left + element % TILE_COLUMNS;
        if (image.contains(y, x))
            store_vector(tensor + c * image.plane() + y * image.width + x,
                         load_vector<VECTOR>(map + c * NARROW + element));
    }
}
