// What the kernels of strip.cu are made of: maps that stream through shared memory, scores of strips, sums over dy.
//
// A thread owns one offset dy and a strip of queries side by side, with their scores for all dx in registers. Per
// channel it reads STRIP + WINDOW numbers and does KERNEL_SIZE * STRIP multiply-adds: reads from shared memory bound
// these kernels, and strips make the reads few. Sums over dy pass through shared memory in a fixed order.
//
// Set by the compiler's -D: ELEMENT (float, bf16, f16), KERNEL_SIZE, VECTOR (elements a copy: all rows of all tensors
// are aligned to it), FORWARD_BLOCKS, DQ_BLOCKS and DKV_BLOCKS (blocks that share a multiprocessor), and BLOCK_THREADS
// and the SHARED_... sizes that the host launches with.
#pragma once
#include "geometry.cuh"

using T = ELEMENT;

constexpr int TILE_ROWS = 8, TILE_COLUMNS = 16, QUERIES = TILE_ROWS * TILE_COLUMNS;
// Bounded by registers: KERNEL_SIZE * STRIP scores, twice in a backward.
constexpr int STRIP = KERNEL_SIZE <= 9 ? 8 : 4;
constexpr int STRIPS = QUERIES / STRIP, THREADS = STRIPS * KERNEL_SIZE;
constexpr int COLUMN_HALO = (KERNEL_RADIUS + 3) / 4 * 4;  // so that strips read whole vectors of 4
constexpr int WINDOW = STRIP + 2 * COLUMN_HALO, SHIFT = COLUMN_HALO - KERNEL_RADIUS;
constexpr int ROWS = TILE_ROWS + 2 * KERNEL_RADIUS, COLUMNS = TILE_COLUMNS + 2 * COLUMN_HALO;
// Floats between rows: an odd number of vectors, since 8 threads side by side read 8 rows of the same column.
constexpr int PITCH = COLUMNS + 4, CENTRE_PITCH = TILE_COLUMNS + 4;
constexpr int CHUNK = KERNEL_SIZE <= 9 ? 4 : 2;  // channels in shared memory at once, twice (one comes, one is used)
constexpr int STAGE = CHUNK * (ROWS * PITCH + TILE_ROWS * CENTRE_PITCH);
// Partial sums of 4 columns x 8 rows of queries, columns first, 2 vectors of padding: writers go along the rows of one
// column of vectors, readers along four columns and two rows.
constexpr int SLICE = (TILE_COLUMNS / 4) * (TILE_ROWS + 2) * 4;
constexpr int PARTIALS = CHUNK * KERNEL_SIZE * SLICE;
constexpr int STATISTICS = ROWS * PITCH;

static_assert(BLOCK_THREADS == THREADS);
static_assert(SHARED_FORWARD == (2 * STAGE + 2 * PARTIALS) * sizeof(float));
static_assert(SHARED_DQ == SHARED_FORWARD);
static_assert(SHARED_DKV == (2 * STAGE + 2 * PARTIALS + 2 * STATISTICS) * sizeof(float));

using Float4 = Vector<float, 4>;

template <int COUNT>
DEVICE void load_floats(float (&target)[COUNT], const float* source) {
#pragma unroll
    for (int i = 0; i < COUNT; i += 4) {
        const Float4 value = load_vector<4>(source + i);
        for (int j = 0; j < 4; ++j) target[i + j] = value.element[j];
    }
}

using Scores = float[KERNEL_SIZE][STRIP];  // [dx][query of the strip]

struct Thread {
    int dy, row, column;  // offset of the neighbours' row, and first query of the strip in the tile

    DEVICE Thread() {
        int strip = threadIdx.x % STRIPS;
        dy = threadIdx.x / STRIPS;
        row = strip % TILE_ROWS;
        column = strip / TILE_ROWS * STRIP;
    }
    DEVICE int halo() const { return (row + dy) * PITCH + column; }
    DEVICE int centre() const { return row * CENTRE_PITCH + column; }
    // First float of this strip in a slice of partial sums, and the distance between its vectors of 4.
    DEVICE int slice() const { return (column / 4 * (TILE_ROWS + 2) + row) * 4; }
    static constexpr int SLICE_STEP = (TILE_ROWS + 2) * 4;
};

// The queries of a slice as one thread each meets them when the sums over dy are made.
struct Query {
    int row, column, at;

    DEVICE explicit Query(int index) {
        row = index / 4 % TILE_ROWS;
        column = index / (4 * TILE_ROWS) * 4 + index % 4;
        at = (column / 4 * (TILE_ROWS + 2) + row) * 4 + column % 4;
    }
};

// Brings chunks of channels of a haloed map, and of a map without halo beside it, to shared memory. Each thread keeps
// the same few pixels for all channels, so that addresses are worked out once.
struct Loader {
    static constexpr int HALO = ROWS * COLUMNS / VECTOR, CENTRE = QUERIES / VECTOR;
    static constexpr int ITEMS = (HALO + CENTRE + THREADS - 1) / THREADS;
    int source[ITEMS];  // pixel, or -1 outside the image

    DEVICE Loader(const Image& image, const Tile& tile) {
#pragma unroll
        for (int i = 0; i < ITEMS; ++i) {
            const int item = threadIdx.x + i * THREADS;
            int y, x;
            if (item < HALO) {
                y = tile.top - KERNEL_RADIUS + item / (COLUMNS / VECTOR);
                x = tile.left - COLUMN_HALO + item % (COLUMNS / VECTOR) * VECTOR;
            } else {
                y = tile.top + (item - HALO) / (TILE_COLUMNS / VECTOR);
                x = tile.left + (item - HALO) % (TILE_COLUMNS / VECTOR) * VECTOR;
            }
            source[i] = image.contains(y, x) ? y * image.width + x : -1;
        }
    }

    // `centre` may be null: then only the haloed map comes.
    DEVICE void load(float* stage, const T* halo, const T* centre, const Image& image, int first_channel) const {
#pragma unroll
        for (int i = 0; i < ITEMS; ++i) {
            const int item = threadIdx.x + i * THREADS;
            if (item < HALO) {
                const int at = item / (COLUMNS / VECTOR) * PITCH + item % (COLUMNS / VECTOR) * VECTOR;
                load_item(stage + at, ROWS * PITCH, halo, source[i], image, first_channel);
            } else if (centre && item < HALO + CENTRE) {
                const int in_tile = item - HALO;
                const int at = in_tile / (TILE_COLUMNS / VECTOR) * CENTRE_PITCH +
                               in_tile % (TILE_COLUMNS / VECTOR) * VECTOR;
                load_item(stage + CHUNK * ROWS * PITCH + at, TILE_ROWS * CENTRE_PITCH, centre, source[i], image,
                          first_channel);
            }
        }
        copy_commit();
    }

  private:
    DEVICE static void load_item(float* target, int step, const T* tensor, int pixel, const Image& image, int first) {
#pragma unroll
        for (int c = 0; c < CHUNK; ++c) {
            const bool valid = pixel >= 0 && first + c < image.channels;
            const T* from = tensor + (valid ? (first + c) * image.plane() + pixel : 0);
            if constexpr (sizeof(T) == sizeof(float))
                copy_async<VECTOR * sizeof(T)>(target + c * step, from, valid);
            else
                for (int j = 0; j < VECTOR; ++j) target[c * step + j] = valid ? to_float(from[j]) : 0.0f;
        }
    }
};

// What every phase of a block works with.
struct Block {
    const Image image;
    const Tile tile;
    const Loader loader;
    const Thread thread;
    float* stages;    // [2][STAGE]
    float* partials;  // [2][PARTIALS]

    DEVICE Block(const Image& image, float* memory)
        : image(image),
          tile(tile_of_block<TILE_ROWS, TILE_COLUMNS>(image)),
          loader(image, tile),
          stages(memory),
          partials(memory + 2 * STAGE) {}

    // scores[dx][i] = sum over the channels of centre (query i) * halo (its neighbour at (dy, dx)).
    DEVICE void correlate(Scores& scores, const T* centre, const T* halo) {
        for (int dx = 0; dx < KERNEL_SIZE; ++dx)
            for (int i = 0; i < STRIP; ++i) scores[dx][i] = 0;
        __syncthreads();  // the stages are free
        loader.load(stages, halo, centre, image, 0);
        for (int first = 0, turn = 0; first < image.channels; first += CHUNK, turn ^= 1) {
            copy_wait<0>();
            __syncthreads();
            if (first + CHUNK < image.channels)
                loader.load(stages + (turn ^ 1) * STAGE, halo, centre, image, first + CHUNK);
            const float* stage = stages + turn * STAGE;
#pragma unroll 2  // four channels at once spill a register where three blocks share a multiprocessor
            for (int c = 0; c < CHUNK; ++c) {
                float own[STRIP], window[WINDOW];
                load_floats(own, stage + CHUNK * ROWS * PITCH + c * TILE_ROWS * CENTRE_PITCH + thread.centre());
                load_floats(window, stage + c * ROWS * PITCH + thread.halo());
#pragma unroll
                for (int dx = 0; dx < KERNEL_SIZE; ++dx)
#pragma unroll
                    for (int i = 0; i < STRIP; ++i)
                        scores[dx][i] = fmaf(own[i], window[SHIFT + dx + i], scores[dx][i]);
            }
        }
    }

    // result (query) = sum over its neighbours of weight * halo (neighbour), stored for all channels.
    DEVICE void gather(T* result, const Scores& weights, const T* halo) {
        __syncthreads();
        loader.load(stages, halo, nullptr, image, 0);
        int turn = 0;
        for (int first = 0; first < image.channels; first += CHUNK, turn ^= 1) {
            copy_wait<0>();
            __syncthreads();
            if (first + CHUNK < image.channels)
                loader.load(stages + (turn ^ 1) * STAGE, halo, nullptr, image, first + CHUNK);
            const float* stage = stages + turn * STAGE;
            float* slices = partials + turn * PARTIALS + thread.dy * SLICE + thread.slice();
#pragma unroll
            for (int c = 0; c < CHUNK; ++c) {
                float window[WINDOW], sum[STRIP];
                load_floats(window, stage + c * ROWS * PITCH + thread.halo());
                for (int i = 0; i < STRIP; ++i) sum[i] = 0;
#pragma unroll
                for (int dx = 0; dx < KERNEL_SIZE; ++dx)
#pragma unroll
                    for (int i = 0; i < STRIP; ++i) sum[i] = fmaf(weights[dx][i], window[SHIFT + dx + i], sum[i]);
#pragma unroll
                for (int i = 0; i < STRIP / 4; ++i)
                    store_vector(slices + c * KERNEL_SIZE * SLICE + i * Thread::SLICE_STEP,
                                 Float4{sum[4 * i], sum[4 * i + 1], sum[4 * i + 2], sum[4 * i + 3]});
            }
            // One chunk late, so that one barrier a chunk is enough.
            if (first > 0) store_chunk(result, partials + (turn ^ 1) * PARTIALS, first - CHUNK);
        }
        __syncthreads();
        store_chunk(result, partials + (turn ^ 1) * PARTIALS, (image.channels - 1) / CHUNK * CHUNK);
    }

    // One thread a query works out value(query); all threads of the query get it in `shared`. Slices of statistics lie
    // where partial sums do, since the two are never needed at once.
    template <class Value>
    DEVICE void share(float (&shared)[STRIP], float* slice, Value value) {
        for (int index = threadIdx.x; index < QUERIES; index += THREADS) {
            const Query query(index);
            slice[query.at] = value(query);
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < STRIP / 4; ++i) {
            const Float4 four = load_vector<4>(slice + thread.slice() + i * Thread::SLICE_STEP);
            for (int j = 0; j < 4; ++j) shared[4 * i + j] = four.element[j];
        }
    }

    // As `share`, of value(query, r), r the reduction of the `values` that the threads of the query hold for their dy.
    template <class Reduce, class Value>
    DEVICE void reduce(float (&values)[STRIP], float* slice, Reduce pair, Value value) {
#pragma unroll
        for (int i = 0; i < STRIP / 4; ++i)
            store_vector(partials + thread.dy * SLICE + thread.slice() + i * Thread::SLICE_STEP,
                         Float4{values[4 * i], values[4 * i + 1], values[4 * i + 2], values[4 * i + 3]});
        __syncthreads();
        share(values, slice, [&](const Query& query) {
            float result = partials[query.at];
            for (int dy = 1; dy < KERNEL_SIZE; ++dy) result = pair(result, partials[dy * SLICE + query.at]);
            return value(query, result);
        });
    }

  private:
    DEVICE void store_chunk(T* result, const float* chunk, int first_channel) {
        for (int index = threadIdx.x; index < CHUNK * QUERIES / 4; index += THREADS) {
            const int c = index / (QUERIES / 4), row = index / (TILE_COLUMNS / 4) % TILE_ROWS;
            const int column = index % (TILE_COLUMNS / 4);
            const float* slices = chunk + c * KERNEL_SIZE * SLICE + (column * (TILE_ROWS + 2) + row) * 4;
            Float4 sum = load_vector<4>(slices);
            for (int dy = 1; dy < KERNEL_SIZE; ++dy) {
                const Float4 part = load_vector<4>(slices + dy * SLICE);
                for (int j = 0; j < 4; ++j) sum.element[j] += part.element[j];
            }
            if (first_channel + c < image.channels)
                store_row(result + (first_channel + c) * image.plane(), sum, tile.top + row, tile.left + 4 * column);
        }
    }

    DEVICE void store_row(T* plane, const Float4& sum, int y, int x) {
        Vector<T, 4> rounded;
        for (int j = 0; j < 4; ++j) round_to(rounded.element[j], sum.element[j]);
        if (VECTOR == 4 && image.contains(y, x)) {
            store_vector(plane + y * image.width + x, rounded);
            return;
        }
        for (int j = 0; j < 4; ++j)
            if (image.contains(y, x + j)) plane[y * image.width + x + j] = rounded.element[j];
    }
};
