/*
 * The size rule over arrays of sizes.
 *
 * Nothing here knows of Python, and nothing takes memory.
 */
#ifndef QVP_MANY_SIZES_H
#define QVP_MANY_SIZES_H

#include <stdint.h>

#include "size_rule.h"

/*
 * Sides that vectors take, of 1 to 2^26, have no other bits than these when 1 is taken
 * away.  A vector with any other size is handed to the functions at the end.
 */
#define QVP_ORDINARY_BITS (((int64_t)1 << 26) - 1)

/*
 * One way to compute, chosen in many_sizes_dispatch.c.  Both give the index of the
 * first size that is not qvp_is_countable, and then the output holds nothing useful,
 * or -1.
 *
 * Preconditions: heights and widths hold n numbers, counts n and sizes 2 n of them.
 */
struct qvp_counters {
    const char *name;
    /* Squares of factor x factor, and markers; 0 where qvp_is_too_long. */
    int64_t (*count)(const struct qvp_rule *rule, const int64_t *heights,
                     const int64_t *widths, int64_t n, int64_t markers,
                     int64_t *counts);
    /* Height and width in turns; 0 and 0 where qvp_is_too_long. */
    int64_t (*resize)(const struct qvp_rule *rule, const int64_t *heights,
                      const int64_t *widths, int64_t n, int64_t *sizes);
};

/* The i-th that this CPU can run, fastest first; NULL behind the last. */
const struct qvp_counters *qvp_counters_at(int i);

/* The same one by one, in many_sizes_scalar.c: read these first. */
int64_t qvp_count_each(const struct qvp_rule *rule, const int64_t *heights,
                       const int64_t *widths, int64_t n, int64_t markers,
                       int64_t *counts);
int64_t qvp_resize_each(const struct qvp_rule *rule, const int64_t *heights,
                        const int64_t *widths, int64_t n, int64_t *sizes);

#endif
