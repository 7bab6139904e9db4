/*
 * Pillow's bicubic resampling, arranged for one axis at a time.
 *
 * Nothing here knows of Python. Sizes are arguments, results are status codes, and
 * memory taken in a call is freed in that call unless a comment says who frees it.
 */
#ifndef QVP_CONVOLVE_H
#define QVP_CONVOLVE_H

#include <stdint.h>

/*
 * Weights are fixed point with 22 bits behind the point: 32 bits less 8 for the
 * pixel and 2 for sums that overshoot, because bicubic weights may be negative.
 */
#define QVP_PRECISION_BITS 22

enum qvp_status {
    QVP_OK = 0,
    QVP_NO_MEMORY = 1,
    QVP_TOO_LARGE = 2,
};

/*
 * Which input samples make one output sample, and with what weights.
 * Output i is the sum of weights[i * taps + k] * input[starts[i] + k] for
 * k < counts[i], where 0 <= starts[i] and starts[i] + counts[i] <= input size.
 */
struct qvp_axis {
    int64_t in_size;
    int64_t out_size;
    int64_t taps;
    int32_t *starts;
    int32_t *counts;
    int32_t *weights;
};

/* Fills axis; the caller frees it with qvp_axis_free, also after a failure. */
int qvp_axis_make(struct qvp_axis *axis, int64_t in_size, int64_t out_size);
void qvp_axis_free(struct qvp_axis *axis);

/*
 * Preconditions of both passes: source and target are distinct; source holds
 * rows * in_size * channels (across) or in_size * row_bytes (down) bytes; target
 * holds rows * out_size * channels or out_size * row_bytes; channels is 1, 3 or 4.
 */
void qvp_across_scalar(const struct qvp_axis *axis, const uint8_t *source,
                         uint8_t *target, int64_t rows, int channels);
void qvp_down_scalar(const struct qvp_axis *axis, const uint8_t *source,
                       uint8_t *target, int64_t row_bytes);

#endif
