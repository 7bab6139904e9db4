/* The weights of one axis, as Pillow 13 computes them (libImaging/Resample.c). */
#include "convolve.h"

#include <math.h>
#include <stdlib.h>

/* Half the width of the bicubic kernel, in output samples. */
#define BICUBIC_SUPPORT 2.0

/* Keys' cubic with a = -0.5. */
static double bicubic(double x) {
    const double a = -0.5;
    if (x < 0.0) {
        x = -x;
    }
    if (x < 1.0) {
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    }
    if (x < 2.0) {
        return (((x - 5) * x + 8) * x - 4) * a;
    }
    return 0.0;
}

static int32_t to_fixed_point(double weight) {
    const double scaled = weight * (1 << QVP_PRECISION_BITS);
    return (int32_t)(weight < 0 ? scaled - 0.5 : scaled + 0.5);
}

int qvp_axis_make(struct qvp_axis *axis, int64_t in_size, int64_t out_size) {
    /* Enlarging keeps the kernel's own width; shrinking widens it (antialias). */
    const double scale = (double)in_size / (double)out_size;
    const double filter_scale = scale < 1.0 ? 1.0 : scale;
    const double support = BICUBIC_SUPPORT * filter_scale;
    const double inverse = 1.0 / filter_scale;
    const int64_t most = (int64_t)ceil(support) * 2 + 1;
    /* No output reads more than the whole line. */
    const int64_t taps = most < in_size ? most : in_size;
    int64_t cells;

    axis->in_size = in_size;
    axis->out_size = out_size;
    axis->taps = taps;
    axis->starts = NULL;
    axis->counts = NULL;
    axis->weights = NULL;
    if (__builtin_mul_overflow(out_size, taps, &cells) ||
        cells > INT64_MAX / (int64_t)sizeof(double)) {
        return QVP_TOO_LARGE;
    }
    double *row = malloc((size_t)taps * sizeof(double)); /* product checked above */
    axis->starts = malloc((size_t)out_size * sizeof(int32_t));
    axis->counts = malloc((size_t)out_size * sizeof(int32_t));
    axis->weights = calloc((size_t)cells, sizeof(int32_t));
    if (!row || !axis->starts || !axis->counts || !axis->weights) {
        free(row);
        return QVP_NO_MEMORY;
    }
    for (int64_t i = 0; i < out_size; i++) {
        const double center = ((double)i + 0.5) * scale;
        int64_t first = (int64_t)(center - support + 0.5);
        int64_t last = (int64_t)(center + support + 0.5);
        double sum = 0.0;
        if (first < 0) {
            first = 0;
        }
        if (last > in_size) {
            last = in_size;
        }
        for (int64_t k = 0; k < last - first; k++) {
            row[k] = bicubic(((double)(k + first) - center + 0.5) * inverse);
            sum += row[k];
        }
        for (int64_t k = 0; k < last - first; k++) {
            if (sum != 0.0) {
                row[k] /= sum;
            }
            axis->weights[i * taps + k] = to_fixed_point(row[k]);
        }
        axis->starts[i] = (int32_t)first;
        axis->counts[i] = (int32_t)(last - first);
    }
    free(row);
    return QVP_OK;
}

void qvp_axis_free(struct qvp_axis *axis) {
    free(axis->starts);
    free(axis->counts);
    free(axis->weights);
    axis->starts = NULL;
    axis->counts = NULL;
    axis->weights = NULL;
}
