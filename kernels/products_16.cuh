// Products of matrices of 16-bit elements. `ldmatrix` transposes where the sum runs over channels.
#pragma once

constexpr int STEPS_16 = CHANNELS / 16, STEPS_8 = CHANNELS / 8 % 2;

// Which row of which matrix this lane names to ldmatrix.
struct MatrixRow {
    int low, high, eighth;

    DEVICE MatrixRow() {
        const int lane = threadIdx.x % 32;
        low = lane / 8 % 2;
        high = lane / 16;
        eighth = lane % 8;
    }
};

// The warp's 16 pixels of a centre map, as the left operand of the products over channels.
struct Centre {
    unsigned fragment[CHANNELS / 4];

    DEVICE Centre(const T* map, const Lane& lane) {
        const MatrixRow own;
        const int first = (8 * own.high + own.eighth) * NARROW + lane.query() + own.low * TILE_COLUMNS;
        SharedAddress row = shared_address(map) + first * static_cast<int>(sizeof(T));
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
    // Lanes 8 to 15 continue the channels and lanes 16 to 31 the columns, or the reverse.
    SharedAddress by_channel, by_column;

    DEVICE HaloRow(const T* map, const Lane& lane, int key_row) {
        constexpr int BYTES = sizeof(T);
        const MatrixRow own;
        SharedAddress row = shared_address(map) + key_row * COLUMNS * BYTES;
        by_channel = row + ((8 * own.low + own.eighth) * WIDE + lane.corner() + 8 * own.high) * BYTES;
        by_column = row + ((8 * own.high + own.eighth) * WIDE + lane.corner() + 8 * own.low) * BYTES;
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
