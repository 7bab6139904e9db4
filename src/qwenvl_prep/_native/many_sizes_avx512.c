/* Eight sizes at a time (AVX-512). */
#if defined(__x86_64__)
#define TARGET __attribute__((target("avx512f,avx512dq")))
#define INLINE TARGET static inline __attribute__((always_inline))

#include <immintrin.h>
#include <stdint.h>

#define LANES 8

typedef __m512d doubles;
typedef __mmask8 choice;

#include "many_sizes.h"

/* A side of 0 or less wraps around to a large one. */
INLINE int are_ordinary(const int64_t *heights, const int64_t *widths) {
    const __m512i one = _mm512_set1_epi64(1);
    const __m512i beyond = _mm512_or_si512(
        _mm512_sub_epi64(_mm512_loadu_si512(heights), one),
        _mm512_sub_epi64(_mm512_loadu_si512(widths), one));
    return !_mm512_test_epi64_mask(beyond, _mm512_set1_epi64(~QVP_ORDINARY_BITS));
}

INLINE doubles load(const int64_t *sides) {
    return _mm512_cvtepi64_pd(_mm512_loadu_si512(sides));
}

INLINE void store(int64_t *target, doubles values) {
    _mm512_storeu_si512(target, _mm512_cvtpd_epi64(values));
}

INLINE void store_pairs(int64_t *target, doubles first, doubles second) {
    const __m512i front = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
    const __m512i back = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    store(target, _mm512_permutex2var_pd(first, front, second));
    store(target + LANES, _mm512_permutex2var_pd(first, back, second));
}

INLINE doubles spread(double value) { return _mm512_set1_pd(value); }

INLINE choice above(doubles a, doubles b) {
    return _mm512_cmp_pd_mask(a, b, _CMP_GT_OQ);
}

INLINE choice either(choice a, choice b) { return (choice)(a | b); }

INLINE doubles choose(choice is_first, doubles first, doubles second) {
    return _mm512_mask_blend_pd(is_first, second, first);
}

INLINE doubles root(doubles value) { return _mm512_sqrt_pd(value); }

INLINE doubles lower(doubles value) {
    return _mm512_roundscale_pd(value, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

INLINE doubles upper(doubles value) {
    return _mm512_roundscale_pd(value, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}

INLINE doubles nearest(doubles value) {
    return _mm512_roundscale_pd(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

#include "many_sizes_lanes.h"

const struct qvp_counters qvp_counters_avx512 = {"avx512", count, resize};
#endif
