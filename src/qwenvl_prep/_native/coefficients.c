/* The weights of one axis, as Pillow 13 computes them (libImaging/Resample.c). */
#include "convolve.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

int qvp_axis_make(struct qvp_axis *axis, int64_t in_size, double extent,
                  int64_t out_size, int mirrored) {
    /* Enlarging keeps the kernel's own width; shrinking widens it (antialias). */
    const double scale = extent / (double)out_size;
    /* What the line lacks of the extent lies at its end, where a mirrored one begins. */
    const double lacking = mirrored ? extent - (double)in_size : 0.0;
    const double filter_scale = scale < 1.0 ? 1.0 : scale;
    const double support = BICUBIC_SUPPORT * filter_scale;
    const double inverse = 1.0 / filter_scale;
    const int64_t most = (int64_t)ceil(support) * 2 + 1;
    /* No output reads more than the whole line. */
    const int64_t taps = most < in_size ? most : in_size;
    int64_t cells;

    memset(axis, 0, sizeof *axis);
    axis->in_size = in_size;
    axis->out_size = out_size;
    axis->taps = taps;
    if (__builtin_mul_overflow(out_size, taps, &cells) ||
        cells > INT64_MAX / (int64_t)sizeof(double)) {
        return QVP_NO_MEMORY;
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
        const double center = ((double)i + 0.5) * scale - lacking;
        /* The weights are those of the upright line, so that sums stay exact; a
         * mirrored one only finds them, and its samples, from the other end. */
        const int64_t cell = mirrored ? out_size - 1 - i : i;
        int32_t *weights = axis->weights + cell * taps;
        int64_t first = (int64_t)(center - support + 0.5);
        int64_t last = (int64_t)(center + support + 0.5);
        double sum = 0.0;
        if (first < 0) {
            first = 0;
        }
        if (last > in_size) {
            last = in_size;
        }
        const int64_t count = last - first;
        for (int64_t k = 0; k < count; k++) {
            row[k] = bicubic(((double)(k + first) - center + 0.5) * inverse);
            sum += row[k];
        }
        for (int64_t k = 0; k < count; k++) {
            if (sum != 0.0) {
                row[k] /= sum;
            }
            weights[mirrored ? count - 1 - k : k] = to_fixed_point(row[k]);
        }
        axis->starts[cell] = (int32_t)(mirrored ? in_size - last : first);
        axis->counts[cell] = (int32_t)count;
    }
    free(row);
    return QVP_OK;
}

int qvp_axis_pack(struct qvp_axis *axis, qvp_split *split, int64_t words_per_four) {
    const int64_t out_size = axis->out_size;
    int64_t most = 0, words;
    axis->first_fours = malloc((size_t)out_size * sizeof(int32_t));
    axis->n_fours = malloc((size_t)out_size * sizeof(int32_t));
    if (!axis->first_fours || !axis->n_fours) {
        return QVP_NO_MEMORY;
    }
    for (int64_t i = 0; i < out_size; i++) {
        const int32_t first = axis->starts[i] / 4;
        const int64_t behind = ((int64_t)axis->starts[i] + axis->counts[i] + 3) / 4;
        axis->first_fours[i] = first;
        axis->n_fours[i] = (int32_t)(behind - first);
        most = behind - first > most ? behind - first : most;
    }
    axis->most_fours = most;
    if (__builtin_mul_overflow(out_size * words_per_four, most, &words)) {
        return QVP_NO_MEMORY;
    }
    axis->packed = calloc((size_t)words, sizeof(int32_t));
    if (!axis->packed) {
        return QVP_NO_MEMORY;
    }
    for (int64_t i = 0; i < out_size; i++) {
        const int32_t *weights = axis->weights + i * axis->taps;
        int32_t *packed = axis->packed + i * most * words_per_four;
        /* Sample of the line that weights[0] belongs to, within its four. */
        const int64_t offset = axis->starts[i] % 4;
        for (int64_t four = 0; four < axis->n_fours[i]; four++) {
            int32_t group[4] = {0, 0, 0, 0};
            for (int64_t j = 0; j < 4; j++) {
                const int64_t k = four * 4 + j - offset;
                if (0 <= k && k < axis->counts[i]) {
                    group[j] = weights[k];
                }
            }
            split(group, packed + four * words_per_four);
        }
    }
    free(axis->weights);
    axis->weights = NULL;
    return QVP_OK;
}

void qvp_axis_free(struct qvp_axis *axis) {
    free(axis->starts);
    free(axis->counts);
    free(axis->weights);
    free(axis->first_fours);
    free(axis->n_fours);
    free(axis->packed);
    memset(axis, 0, sizeof *axis);
}
