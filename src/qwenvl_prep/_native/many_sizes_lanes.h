/*
 * The size rule for as many sizes as a vector has lanes, each as in size_rule.h.
 *
 * A file that includes this defines TARGET, INLINE and LANES, the type of a vector of
 * doubles, which has + - * and /, that of a choice for each lane, and the functions
 * are_ordinary, load, store, store_pairs, spread, above, either, choose, root, lower,
 * upper and nearest.
 */
#include "many_sizes.h"

/*
 * Up to these, every number below is exact where the rule's is: areas, also rounded
 * ones, are below 2^53, and what is stored is below 2^52.
 */
#define MOST_PIXELS ((int64_t)1 << 50)
#define MOST_MARKERS ((int64_t)1 << 31)

struct caps {
    doubles factor;
    doubles min_pixels;
    doubles max_pixels;
    doubles least;
    doubles most;
};

struct grid {
    doubles rows;
    doubles columns;
    choice is_too_long;
};

INLINE struct caps caps_of(const struct qvp_rule *rule) {
    const int64_t square = rule->factor * rule->factor;
    return (struct caps){
        .factor = spread((double)rule->factor),
        .min_pixels = spread((double)rule->min_pixels),
        .max_pixels = spread((double)rule->max_pixels),
        /* In squares: a whole number of them is below min_pixels and above max_pixels
         * where it is below and above these. */
        .least = spread((double)((rule->min_pixels + square - 1) / square)),
        .most = spread((double)(rule->max_pixels / square)),
    };
}

INLINE struct grid grid_of(const struct caps *caps, doubles height, doubles width) {
    const doubles ratio = spread(QVP_MAX_RATIO);
    const doubles area = height * width;
    const doubles rows = nearest(height / caps->factor);
    const doubles columns = nearest(width / caps->factor);
    const choice shrinks = above(rows * columns, caps->most);
    const choice changes = either(shrinks, above(caps->least, rows * columns));
    /* Both ways take one division and one root, so these are shared. */
    const doubles beta = root(choose(shrinks, area, caps->min_pixels) /
                              choose(shrinks, caps->max_pixels, area));
    const doubles high = choose(shrinks, height / beta, height * beta) / caps->factor;
    const doubles wide = choose(shrinks, width / beta, width * beta) / caps->factor;
    return (struct grid){
        .rows = choose(changes, choose(shrinks, lower(high), upper(high)), rows),
        .columns = choose(changes, choose(shrinks, lower(wide), upper(wide)), columns),
        .is_too_long =
            either(above(height, ratio * width), above(width, ratio * height)),
    };
}

TARGET static int64_t count(const struct qvp_rule *rule, const int64_t *heights,
                            const int64_t *widths, int64_t n, int64_t markers,
                            int64_t *counts) {
    const int is_ordinary =
        rule->max_pixels <= MOST_PIXELS && markers >= 0 && markers <= MOST_MARKERS;
    const struct caps caps = caps_of(rule);
    const doubles none = spread(0), more = spread((double)markers);
    for (int64_t i = 0; i < n; i += LANES) {
        const int64_t *height = heights + i, *width = widths + i;
        if (is_ordinary && n - i >= LANES && are_ordinary(height, width)) {
            const struct grid grid = grid_of(&caps, load(height), load(width));
            store(counts + i,
                  choose(grid.is_too_long, none, grid.rows * grid.columns + more));
            continue;
        }
        const int64_t n_taken = n - i < LANES ? n - i : LANES;
        const int64_t refused =
            qvp_count_each(rule, height, width, n_taken, markers, counts + i);
        if (refused >= 0) {
            return i + refused;
        }
    }
    return -1;
}

TARGET static int64_t resize(const struct qvp_rule *rule, const int64_t *heights,
                             const int64_t *widths, int64_t n, int64_t *sizes) {
    const int is_ordinary = rule->max_pixels <= MOST_PIXELS;
    const struct caps caps = caps_of(rule);
    const doubles none = spread(0);
    for (int64_t i = 0; i < n; i += LANES) {
        const int64_t *height = heights + i, *width = widths + i;
        if (is_ordinary && n - i >= LANES && are_ordinary(height, width)) {
            const struct grid grid = grid_of(&caps, load(height), load(width));
            const doubles side = choose(grid.is_too_long, none, caps.factor);
            store_pairs(sizes + 2 * i, grid.rows * side, grid.columns * side);
            continue;
        }
        const int64_t n_taken = n - i < LANES ? n - i : LANES;
        const int64_t refused =
            qvp_resize_each(rule, height, width, n_taken, sizes + 2 * i);
        if (refused >= 0) {
            return i + refused;
        }
    }
    return -1;
}
