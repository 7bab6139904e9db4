/* How arrays of sizes are counted: the one place that asks the CPU. */
#include "many_sizes.h"

#include <stddef.h>

extern const struct qvp_counters qvp_counters_scalar;

#if defined(__x86_64__)
extern const struct qvp_counters qvp_counters_avx2, qvp_counters_avx512;

static int has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
}

static int has_avx2(void) { return __builtin_cpu_supports("avx2"); }
#elif defined(__aarch64__)
extern const struct qvp_counters qvp_counters_neon;

/* NEON is part of every 64-bit ARM. */
static int has_neon(void) { return 1; }
#endif

static int has_any(void) { return 1; }

static const struct {
    const struct qvp_counters *counters;
    int (*can_run)(void);
} rows[] = {
#if defined(__x86_64__)
    {&qvp_counters_avx512, has_avx512},
    {&qvp_counters_avx2, has_avx2},
#elif defined(__aarch64__)
    {&qvp_counters_neon, has_neon},
#endif
    {&qvp_counters_scalar, has_any},
};

const struct qvp_counters *qvp_counters_at(int i) {
    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        if (rows[row].can_run() && i-- == 0) {
            return rows[row].counters;
        }
    }
    return NULL;
}
