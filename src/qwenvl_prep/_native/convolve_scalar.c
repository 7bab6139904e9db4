/* The plain version of both passes: read this one first. Its blocks are rows. */
#include "convolve.h"

#include <string.h>

/* Columns that the downward pass sums side by side; their sums stay in cache. */
#define COLUMNS 512

/*
 * Sums stay inside int32: the weights of one output sum to 1 with a negative part
 * below 0.14, and rounding millions of tiny weights to fixed point lifts the positive
 * part to 1.36 at most, so no sum leaves 255 * 1.6 * 2^22 < 2^31.
 */
static inline uint8_t to_byte(int32_t sum) {
    const int32_t value = sum >> QVP_PRECISION_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

static int prepare(struct qvp_axis *axis) {
    (void)axis;
    return QVP_OK;
}

static int64_t scratch_bytes(int64_t in_width, int channels) {
    (void)in_width;
    (void)channels;
    return 0;
}

/* Inlined with a constant number of channels, so that the loops over them unroll. */
static inline void across_row(const struct qvp_axis *axis, const uint8_t *row,
                              uint8_t *target, const int channels) {
    for (int64_t x = 0; x < axis->out_size; x++) {
        const uint8_t *samples = row + (int64_t)axis->starts[x] * channels;
        const int32_t *weights = axis->weights + x * axis->taps;
        int32_t sums[4] = {QVP_HALF, QVP_HALF, QVP_HALF, QVP_HALF};
        for (int64_t k = 0; k < axis->counts[x]; k++) {
            for (int c = 0; c < channels; c++) {
                sums[c] += samples[k * channels + c] * weights[k];
            }
        }
        for (int c = 0; c < channels; c++) {
            *target++ = to_byte(sums[c]);
        }
    }
}

static void across(const struct qvp_axis *axis, int channels, const uint8_t *rows,
                   int64_t n_rows, uint8_t *scratch, uint8_t *block,
                   int64_t pitch) {
    (void)scratch;
    for (int64_t y = 0; y < n_rows; y++) {
        const uint8_t *row = rows + y * axis->in_size * channels;
        uint8_t *target = block + y * pitch;
        switch (channels) {
        case 1:
            across_row(axis, row, target, 1);
            break;
        case 3:
            across_row(axis, row, target, 3);
            break;
        default:
            across_row(axis, row, target, 4);
        }
    }
}

static void gather(const uint8_t *rows, int64_t n_rows, int64_t row_bytes,
                   uint8_t *block, int64_t pitch) {
    for (int64_t y = 0; y < n_rows; y++) {
        memcpy(block + y * pitch, rows + y * row_bytes, (size_t)row_bytes);
    }
}

static void scatter(const uint8_t *block, int64_t pitch, int64_t n_rows,
                    int64_t row_bytes, uint8_t *rows) {
    for (int64_t y = 0; y < n_rows; y++) {
        memcpy(rows + y * row_bytes, block + y * pitch, (size_t)row_bytes);
    }
}

static void down(const struct qvp_axis *axis, int64_t y, const uint8_t *ring,
                 int64_t ring_rows, int64_t pitch, int64_t row_bytes,
                 uint8_t *target) {
    const int32_t *weights = axis->weights + y * axis->taps;
    for (int64_t left = 0; left < row_bytes; left += COLUMNS) {
        const int64_t left_over = row_bytes - left;
        const int64_t columns = left_over < COLUMNS ? left_over : COLUMNS;
        int32_t sums[COLUMNS];
        for (int64_t x = 0; x < columns; x++) {
            sums[x] = QVP_HALF;
        }
        for (int64_t k = 0; k < axis->counts[y]; k++) {
            const int64_t row = (axis->starts[y] + k) % ring_rows;
            const uint8_t *samples = ring + row * pitch + left;
            for (int64_t x = 0; x < columns; x++) {
                sums[x] += samples[x] * weights[k];
            }
        }
        for (int64_t x = 0; x < columns; x++) {
            target[left + x] = to_byte(sums[x]);
        }
    }
}

const struct qvp_kernels qvp_scalar = {
    .name = "scalar",
    .prepare = prepare,
    .scratch_bytes = scratch_bytes,
    .across = across,
    .gather = gather,
    .scatter = scatter,
    .down = down,
};
