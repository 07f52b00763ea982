// Products of matrices of float32 as three of TF32 each: x = high + low, and high * high + high * low + low * high
// leaves out low * low and the last bits of low, some 2^-21 of a product.
//
// Tensor cores may round their sums toward zero. So a sum of theirs has the products of one key row, terms with low
// apart from the others, and float32 additions join them.
#pragma once

struct Split {
    unsigned high, low;

    // `high` is x rounded to the 11 bits of TF32. Of `low` a product ignores the last 13 bits.
    DEVICE explicit Split(float x) {
        high = (float_bits(x) + 0x1000u) & 0xffffe000u;
        low = float_bits(x - bits_float(high));
    }
};

// The warp's 16 pixels of a centre map, as the left operand of the products over channels.
struct Centre {
    unsigned high[CHANNEL_TILES][4], low[CHANNEL_TILES][4];

    DEVICE Centre(const T* map, const Lane& lane) {
        const T* first = map + lane.t * NARROW + lane.query() + lane.g;
#pragma unroll
        for (int i = 0; i < CHANNEL_TILES; ++i)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const Split x(first[(8 * i + e / 2 * 4) * NARROW + e % 2 * TILE_COLUMNS]);
                high[i][e] = x.high;
                low[i][e] = x.low;
            }
    }
};

// One row of 16 pixels of a haloed map, `key_row` rows below the first that the warp needs.
struct HaloRow {
    const T *by_channel, *by_column;  // of this lane: channel t, column g; channel g, columns 2t and 2t + 1

    DEVICE HaloRow(const T* map, const Lane& lane, int key_row) {
        const T* row = map + lane.corner() + key_row * COLUMNS;
        by_channel = row + lane.t * WIDE + lane.g;
        by_column = row + lane.g * WIDE + 2 * lane.t;
    }

    // s (16 x 16) = sum over the channels of centre x row.
    DEVICE void contract_channels(float (&s)[2][4], const Centre& centre) const {
#pragma unroll
        for (int n = 0; n < 2; ++n) {
            float small[4] = {0, 0, 0, 0};
            for (int e = 0; e < 4; ++e) s[n][e] = 0;
#pragma unroll
            for (int i = 0; i < CHANNEL_TILES; ++i) {
                const T* at = by_channel + 8 * i * WIDE + 8 * n;
                const Split b0(at[0]), b1(at[4 * WIDE]);
                multiply_add(T{}, small, centre.low[i], b0.high, b1.high);
                multiply_add(T{}, small, centre.high[i], b0.low, b1.low);
                multiply_add(T{}, s[n], centre.high[i], b0.high, b1.high);
            }
            for (int e = 0; e < 4; ++e) s[n][e] += small[e];
        }
    }

    // sum (16 x channels) += weight (16 x 16) x row. Columns 2t and 2t + 1 are terms t and t + 4 of a product, so that
    // the weights are its left operand as they are.
    DEVICE void contract_pixels(float (&sum)[CHANNEL_TILES][4], const float (&weight)[2][4]) const {
        unsigned high[2][4], low[2][4];
#pragma unroll
        for (int n = 0; n < 2; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const Split x(weight[n][e % 2 * 2 + e / 2]);
                high[n][e] = x.high;
                low[n][e] = x.low;
            }
#pragma unroll
        for (int i = 0; i < CHANNEL_TILES; ++i) {
            float row[4] = {0, 0, 0, 0};
#pragma unroll
            for (int n = 0; n < 2; ++n) {
                const Vector<T, 2> pair = load_vector<2>(by_column + 8 * i * WIDE + 8 * n);
                const Split b0(pair.element[0]), b1(pair.element[1]);
                multiply_add(T{}, row, low[n], b0.high, b1.high);
                multiply_add(T{}, row, high[n], b0.low, b1.low);
                multiply_add(T{}, row, high[n], b0.high, b1.high);
            }
            for (int e = 0; e < 4; ++e) sum[i][e] += row[e];
        }
    }
};
