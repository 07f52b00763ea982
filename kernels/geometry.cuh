// What both kernel families share: maps, the image tile of a block, the border term and delta.
#pragma once
#include "primitives.cuh"

constexpr int KERNEL_RADIUS = KERNEL_SIZE / 2;
constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;
constexpr float LOWEST = -1e30f;  // below any score, yet finite: differences from it are numbers

// One image of a batch (B, C, H, W), contiguous. Host code makes sure that C * H * W fits an int.
struct Image {
    int channels, height, width;

    DEVICE int plane() const { return height * width; }
    DEVICE bool contains(int y, int x) const {
        return static_cast<unsigned>(y) < static_cast<unsigned>(height) &&
               static_cast<unsigned>(x) < static_cast<unsigned>(width);
    }
    // Pixels of the window around (y, x) that lie outside the image: each is a score of 0 in border mode "zero".
    DEVICE int neighbours_outside(int y, int x) const {
        return KERNEL_SIZE * KERNEL_SIZE - inside(y, height) * inside(x, width);
    }

  private:
    DEVICE static int inside(int at, int size) {
        int first = max(at - KERNEL_RADIUS, 0), last = min(at + KERNEL_RADIUS, size - 1);
        return last - first + 1;
    }
};

struct Tile {
    int batch, top, left;

    // First element of this tile's image in a tensor of `channels` maps.
    DEVICE long long offset(const Image& image, int channels) const {
        return static_cast<long long>(batch) * channels * image.plane();
    }
};

// Blocks are numbered in one dimension, since a grid's other two are too short for a large batch.
template <int ROWS, int COLUMNS>
DEVICE Tile tile_of_block(const Image& image) {
    int across = (image.width + COLUMNS - 1) / COLUMNS, down = (image.height + ROWS - 1) / ROWS;
    int tile = static_cast<int>(blockIdx.x);
    int row = tile / across;
    return {row / down, row % down * ROWS, tile % across * COLUMNS};
}

// Copy COUNT elements to shared memory, in the background where the hardware can (4 bytes and more).
template <class T, int COUNT>
DEVICE void copy_elements(T* target, const T* source, bool valid) {
    if constexpr (COUNT * sizeof(T) >= 4)
        copy_async<COUNT * sizeof(T)>(target, source, valid);
    else
        *target = valid ? *source : T{};
}

// Sum over every `step`-th channel from `first` of g * out at one pixel: summed over all, the delta of the softmax's
// backward, dS = P (dP - delta). `g` and `out` point at the image.
template <class T>
DEVICE float partial_delta(const T* g, const T* out, const Image& image, int pixel, int first, int step) {
    float sum = 0;
#pragma unroll 4
    for (int c = first; c < image.channels; c += step) {
        int at = c * image.plane() + pixel;
        sum += to_float(g[at]) * to_float(out[at]);
    }
    return sum;
}
