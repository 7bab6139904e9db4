/*
 * The size rule for one size, in doubles.
 *
 * The operations stand in exactly the published order (RULES: round each side, then
 * shrink by sqrt(h * w / max) or enlarge by sqrt(min / (h * w))), because a different
 * order gives other sizes for some images.  rint rounds ties to even, as Python's
 * round does.
 */
#ifndef QVP_SIZE_RULE_H
#define QVP_SIZE_RULE_H

#include <math.h>
#include <stdint.h>

#include "exact_division.h"

/* Longest side over shortest side; above it no size is legal. */
#define QVP_MAX_RATIO 200

/* 1 <= factor <= 2^16, 1 <= min_pixels <= max_pixels <= 2^52. */
struct qvp_rule {
    int64_t factor;
    int64_t min_pixels;
    int64_t max_pixels;
};

/* Squares of factor x factor, down and across. */
struct qvp_grid {
    int64_t rows;
    int64_t columns;
};

/* 1 where both sides are positive and their padded product stays inside int64. */
static inline int qvp_is_countable(int64_t height, int64_t width, int64_t factor) {
    if (height < 1 || width < 1) {
        return 0;
    }
    if (height <= INT32_MAX && width <= INT32_MAX) { /* nearly all: no division */
        return 1;
    }
    if (height > INT64_MAX - factor || width > INT64_MAX - factor) {
        return 0;
    }
    return height + factor <= INT64_MAX / (width + factor);
}

/* Precondition: both sides are positive. */
static inline int qvp_is_too_long(int64_t height, int64_t width) {
    const int64_t longest = height > width ? height : width;
    const int64_t shortest = height > width ? width : height;
    /* Where 200 times a side would leave int64, the other side is below it. */
    return shortest <= INT64_MAX / QVP_MAX_RATIO && longest > QVP_MAX_RATIO * shortest;
}

/*
 * The size divided by the factor: so it is counted, and multiplied only where the size
 * itself is wanted.
 *
 * Preconditions: qvp_is_countable and not qvp_is_too_long.
 */
static inline struct qvp_grid qvp_server_grid(int64_t height, int64_t width,
                                              const struct qvp_rule *rule) {
    const int64_t factor = rule->factor;
    struct qvp_grid grid = {
        (int64_t)rint(qvp_exact_division(height, factor)),
        (int64_t)rint(qvp_exact_division(width, factor)),
    };
    const int64_t area = (grid.rows * factor) * (grid.columns * factor);
    if (area > rule->max_pixels) {
        const double beta = sqrt(qvp_exact_division(height * width, rule->max_pixels));
        grid.rows = (int64_t)floor((double)height / beta / (double)factor);
        grid.columns = (int64_t)floor((double)width / beta / (double)factor);
    } else if (area < rule->min_pixels) {
        /* Exact: the product is below 2^53 here.  Under 200:1, sides whose rounded
         * area is below 2^52 lost far less than half of it by rounding down. */
        const double beta = sqrt((double)rule->min_pixels / (double)(height * width));
        grid.rows = (int64_t)ceil((double)height * beta / (double)factor);
        grid.columns = (int64_t)ceil((double)width * beta / (double)factor);
    }
    return grid;
}

#endif
