/* Moves of bytes that both x86 kernels make with the 128-bit instructions they share. */
#ifndef QVP_X86_SHUFFLES_H
#define QVP_X86_SHUFFLES_H

#include <immintrin.h>
#include <stdint.h>

/*
 * So many rows at once are more streams than the CPU looks ahead in by itself. The
 * bytes asked for stay inside each row.
 */
static inline __attribute__((always_inline)) void
qvp_prefetch(const uint8_t *const *rows, int n_rows, int64_t at, int64_t row_bytes) {
    const int64_t ahead = at + 512 < row_bytes ? at + 512 : row_bytes - 1;
    for (int i = 0; i < n_rows; i++) {
        __builtin_prefetch(rows[i] + ahead);
    }
}

/* Four vectors of four 32-bit words, rows to columns. */
#define QVP_TRANSPOSE_WORDS(a, b, c, d)                                               \
    do {                                                                              \
        const __m128i ab_low = _mm_unpacklo_epi32(a, b);                              \
        const __m128i ab_high = _mm_unpackhi_epi32(a, b);                             \
        const __m128i cd_low = _mm_unpacklo_epi32(c, d);                              \
        const __m128i cd_high = _mm_unpackhi_epi32(c, d);                             \
        a = _mm_unpacklo_epi64(ab_low, cd_low);                                       \
        b = _mm_unpackhi_epi64(ab_low, cd_low);                                       \
        c = _mm_unpacklo_epi64(ab_high, cd_high);                                     \
        d = _mm_unpackhi_epi64(ab_high, cd_high);                                     \
    } while (0)

/* See braid and unbraid in convolve_fours.h; both stop before a partial vector. */
#define QVP_DEFINE_BRAIDS                                                             \
    TARGET static int64_t braid(const uint8_t *const *rows, int64_t n,                \
                                uint8_t *fours) {                                     \
        int64_t x = 0;                                                                \
        for (; x + 16 <= n; x += 16) {                                                \
            const __m128i a = _mm_loadu_si128((const __m128i *)(rows[0] + x));        \
            const __m128i b = _mm_loadu_si128((const __m128i *)(rows[1] + x));        \
            const __m128i c = _mm_loadu_si128((const __m128i *)(rows[2] + x));        \
            const __m128i d = _mm_loadu_si128((const __m128i *)(rows[3] + x));        \
            const __m128i ab_low = _mm_unpacklo_epi8(a, b);                           \
            const __m128i ab_high = _mm_unpackhi_epi8(a, b);                          \
            const __m128i cd_low = _mm_unpacklo_epi8(c, d);                           \
            const __m128i cd_high = _mm_unpackhi_epi8(c, d);                          \
            __m128i *target = (__m128i *)(fours + x * 4);                             \
            _mm_storeu_si128(target, _mm_unpacklo_epi16(ab_low, cd_low));             \
            _mm_storeu_si128(target + 1, _mm_unpackhi_epi16(ab_low, cd_low));         \
            _mm_storeu_si128(target + 2, _mm_unpacklo_epi16(ab_high, cd_high));       \
            _mm_storeu_si128(target + 3, _mm_unpackhi_epi16(ab_high, cd_high));       \
        }                                                                             \
        return x;                                                                     \
    }                                                                                 \
    TARGET static int64_t unbraid(const uint8_t *fours, int64_t n,                    \
                                  uint8_t *const *rows) {                             \
        const __m128i order =                                                         \
            _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);      \
        int64_t x = 0;                                                                \
        for (; x + 16 <= n; x += 16) {                                                \
            const __m128i *source = (const __m128i *)(fours + x * 4);                 \
            __m128i a = _mm_shuffle_epi8(_mm_loadu_si128(source), order);             \
            __m128i b = _mm_shuffle_epi8(_mm_loadu_si128(source + 1), order);         \
            __m128i c = _mm_shuffle_epi8(_mm_loadu_si128(source + 2), order);         \
            __m128i d = _mm_shuffle_epi8(_mm_loadu_si128(source + 3), order);         \
            QVP_TRANSPOSE_WORDS(a, b, c, d);                                          \
            _mm_storeu_si128((__m128i *)(rows[0] + x), a);                            \
            _mm_storeu_si128((__m128i *)(rows[1] + x), b);                            \
            _mm_storeu_si128((__m128i *)(rows[2] + x), c);                            \
            _mm_storeu_si128((__m128i *)(rows[3] + x), d);                            \
        }                                                                             \
        return x;                                                                     \
    }

#endif
