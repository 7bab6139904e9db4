/* Four sizes at a time (AVX2). */
#if defined(__x86_64__)
#define TARGET __attribute__((target("avx2")))
#define INLINE TARGET static inline __attribute__((always_inline))

#include <immintrin.h>
#include <stdint.h>

#define LANES 4

typedef __m256d doubles;
typedef __m256d choice;

#include "many_sizes.h"

/* 2^52: the last bits of whole numbers below it, added to it, are the number. */
#define WHOLE 4503599627370496.0

/* A side of 0 or less wraps around to a large one. */
INLINE int are_ordinary(const int64_t *heights, const int64_t *widths) {
    const __m256i one = _mm256_set1_epi64x(1);
    const __m256i beyond = _mm256_or_si256(
        _mm256_sub_epi64(_mm256_loadu_si256((const __m256i *)heights), one),
        _mm256_sub_epi64(_mm256_loadu_si256((const __m256i *)widths), one));
    return _mm256_testz_si256(beyond, _mm256_set1_epi64x(~QVP_ORDINARY_BITS));
}

INLINE doubles load(const int64_t *sides) {
    const doubles whole = _mm256_set1_pd(WHOLE);
    const doubles bits = _mm256_loadu_pd((const double *)sides);
    return _mm256_or_pd(bits, whole) - whole;
}

INLINE void store(int64_t *target, doubles values) {
    const doubles whole = _mm256_set1_pd(WHOLE);
    _mm256_storeu_pd((double *)target, _mm256_xor_pd(values + whole, whole));
}

INLINE void store_pairs(int64_t *target, doubles first, doubles second) {
    const doubles even = _mm256_unpacklo_pd(first, second);
    const doubles odd = _mm256_unpackhi_pd(first, second);
    store(target, _mm256_permute2f128_pd(even, odd, 0x20));
    store(target + LANES, _mm256_permute2f128_pd(even, odd, 0x31));
}

INLINE doubles spread(double value) { return _mm256_set1_pd(value); }

INLINE choice above(doubles a, doubles b) { return _mm256_cmp_pd(a, b, _CMP_GT_OQ); }

INLINE choice either(choice a, choice b) { return _mm256_or_pd(a, b); }

INLINE doubles choose(choice is_first, doubles first, doubles second) {
    return _mm256_blendv_pd(second, first, is_first);
}

INLINE doubles root(doubles value) { return _mm256_sqrt_pd(value); }

INLINE doubles lower(doubles value) {
    return _mm256_round_pd(value, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

INLINE doubles upper(doubles value) {
    return _mm256_round_pd(value, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}

INLINE doubles nearest(doubles value) {
    return _mm256_round_pd(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

#include "many_sizes_lanes.h"

const struct qvp_counters qvp_counters_avx2 = {"avx2", count, resize};
#endif
