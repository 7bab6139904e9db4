/* The plain version of both passes: read this one first. */
#include "convolve.h"

/* Columns that the downward pass sums side by side; their sums stay in cache. */
#define COLUMNS 512

static inline uint8_t to_byte(int32_t sum) {
    const int32_t value = sum >> QVP_PRECISION_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/*
 * Sums start at one half, so that cutting the fraction off rounds. They stay inside
 * int32: the weights of one output sum to 1 with a negative part below 0.14, and
 * rounding millions of tiny weights to fixed point lifts the positive part to 1.36 at
 * most, so no sum leaves 255 * 1.6 * 2^22 < 2^31.
 */
#define HALF (1 << (QVP_PRECISION_BITS - 1))

/* Inlined with a constant number of channels, so that the loops over them unroll. */
static inline void across(const struct qvp_axis *axis, const uint8_t *source,
                          uint8_t *target, int64_t rows, const int channels) {
    for (int64_t y = 0; y < rows; y++) {
        const uint8_t *line = source + y * axis->in_size * channels;
        for (int64_t x = 0; x < axis->out_size; x++) {
            const uint8_t *samples = line + (int64_t)axis->starts[x] * channels;
            const int32_t *weights = axis->weights + x * axis->taps;
            int32_t sums[4] = {HALF, HALF, HALF, HALF};
            for (int32_t k = 0; k < axis->counts[x]; k++) {
                for (int c = 0; c < channels; c++) {
                    sums[c] += samples[k * channels + c] * weights[k];
                }
            }
            for (int c = 0; c < channels; c++) {
                *target++ = to_byte(sums[c]);
            }
        }
    }
}

void qvp_across_scalar(const struct qvp_axis *axis, const uint8_t *source,
                         uint8_t *target, int64_t rows, int channels) {
    switch (channels) {
    case 1:
        across(axis, source, target, rows, 1);
        break;
    case 3:
        across(axis, source, target, rows, 3);
        break;
    default:
        across(axis, source, target, rows, 4);
    }
}

void qvp_down_scalar(const struct qvp_axis *axis, const uint8_t *source,
                       uint8_t *target, int64_t row_bytes) {
    for (int64_t y = 0; y < axis->out_size; y++) {
        const uint8_t *top = source + axis->starts[y] * row_bytes;
        const int32_t *weights = axis->weights + y * axis->taps;
        for (int64_t left = 0; left < row_bytes; left += COLUMNS) {
            const int64_t left_over = row_bytes - left;
            const int64_t columns = left_over < COLUMNS ? left_over : COLUMNS;
            int32_t sums[COLUMNS];
            for (int64_t x = 0; x < columns; x++) {
                sums[x] = HALF;
            }
            for (int32_t k = 0; k < axis->counts[y]; k++) {
                const uint8_t *samples = top + k * row_bytes + left;
                for (int64_t x = 0; x < columns; x++) {
                    sums[x] += samples[x] * weights[k];
                }
            }
            for (int64_t x = 0; x < columns; x++) {
                target[y * row_bytes + left + x] = to_byte(sums[x]);
            }
        }
    }
}
