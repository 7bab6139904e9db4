/* Sizes one by one: the plain version. */
#include "many_sizes.h"

int64_t qvp_count_each(const struct qvp_rule *rule, const int64_t *heights,
                       const int64_t *widths, int64_t n, int64_t markers,
                       int64_t *counts) {
    for (int64_t i = 0; i < n; i++) {
        if (!qvp_is_countable(heights[i], widths[i], rule->factor)) {
            return i;
        }
        if (qvp_is_too_long(heights[i], widths[i])) {
            counts[i] = 0;
            continue;
        }
        const struct qvp_grid grid = qvp_server_grid(heights[i], widths[i], rule);
        counts[i] = grid.rows * grid.columns + markers;
    }
    return -1;
}

int64_t qvp_resize_each(const struct qvp_rule *rule, const int64_t *heights,
                        const int64_t *widths, int64_t n, int64_t *sizes) {
    for (int64_t i = 0; i < n; i++) {
        struct qvp_grid grid = {0, 0};
        if (!qvp_is_countable(heights[i], widths[i], rule->factor)) {
            return i;
        }
        if (!qvp_is_too_long(heights[i], widths[i])) {
            grid = qvp_server_grid(heights[i], widths[i], rule);
        }
        sizes[2 * i] = grid.rows * rule->factor;
        sizes[2 * i + 1] = grid.columns * rule->factor;
    }
    return -1;
}

const struct qvp_counters qvp_counters_scalar = {
    .name = "scalar",
    .count = qvp_count_each,
    .resize = qvp_resize_each,
};
