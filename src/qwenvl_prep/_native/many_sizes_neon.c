/* Two sizes at a time (NEON, part of every 64-bit ARM). */
#if defined(__aarch64__)
#define TARGET
#define INLINE TARGET static inline __attribute__((always_inline))

#include <arm_neon.h>
#include <stdint.h>

#define LANES 2

typedef float64x2_t doubles;
typedef uint64x2_t choice;

#include "many_sizes.h"

/* A side of 0 or less wraps around to a large one. */
INLINE int are_ordinary(const int64_t *heights, const int64_t *widths) {
    const uint64_t beyond =
        ((uint64_t)heights[0] - 1) | ((uint64_t)heights[1] - 1) |
        ((uint64_t)widths[0] - 1) | ((uint64_t)widths[1] - 1);
    return (beyond & ~(uint64_t)QVP_ORDINARY_BITS) == 0;
}

INLINE doubles load(const int64_t *sides) { return vcvtq_f64_s64(vld1q_s64(sides)); }

INLINE void store(int64_t *target, doubles values) {
    vst1q_s64(target, vcvtq_s64_f64(values));
}

INLINE void store_pairs(int64_t *target, doubles first, doubles second) {
    store(target, vzip1q_f64(first, second));
    store(target + LANES, vzip2q_f64(first, second));
}

INLINE doubles spread(double value) { return vdupq_n_f64(value); }

INLINE choice above(doubles a, doubles b) { return vcgtq_f64(a, b); }

INLINE choice either(choice a, choice b) { return vorrq_u64(a, b); }

INLINE doubles choose(choice is_first, doubles first, doubles second) {
    return vbslq_f64(is_first, first, second);
}

INLINE doubles root(doubles value) { return vsqrtq_f64(value); }

INLINE doubles lower(doubles value) { return vrndmq_f64(value); }

INLINE doubles upper(doubles value) { return vrndpq_f64(value); }

INLINE doubles nearest(doubles value) { return vrndnq_f64(value); }

#include "many_sizes_lanes.h"

const struct qvp_counters qvp_counters_neon = {"neon", count, resize};
#endif
