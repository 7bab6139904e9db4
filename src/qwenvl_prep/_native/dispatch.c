/* Which kernels run: the one place that asks the CPU. */
#include "convolve.h"

#include <stddef.h>

extern const struct qvp_kernels qvp_scalar;

#if defined(__x86_64__)
extern const struct qvp_kernels qvp_avx2, qvp_avx512vnni;

static int has_avx512vnni(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

static int has_avx2(void) { return __builtin_cpu_supports("avx2"); }
#elif defined(__aarch64__)
extern const struct qvp_kernels qvp_neon;

/* NEON is part of every 64-bit ARM. */
static int has_neon(void) { return 1; }
#endif

static int has_any(void) { return 1; }

static const struct {
    const struct qvp_kernels *kernels;
    int (*can_run)(void);
} rows[] = {
#if defined(__x86_64__)
    {&qvp_avx512vnni, has_avx512vnni},
    {&qvp_avx2, has_avx2},
#elif defined(__aarch64__)
    {&qvp_neon, has_neon},
#endif
    {&qvp_scalar, has_any},
};

const struct qvp_kernels *qvp_kernels_at(int i) {
    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        if (rows[row].can_run() && i-- == 0) {
            return rows[row].kernels;
        }
    }
    return NULL;
}
