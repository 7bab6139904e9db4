/* Three signed bytes of each weight, summed by vpdpbusd (AVX-512 VNNI). */
#if defined(__x86_64__)
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
#define INLINE TARGET static inline __attribute__((always_inline))

#include <immintrin.h>
#include <stdint.h>

#define LANES 16
#define WORDS 3

/* Balanced base 256: weight = low + 256 mid + 65536 high, each in -128..127. */
static void split(const int32_t *weights, int32_t *words) {
    int32_t rest[4] = {weights[0], weights[1], weights[2], weights[3]};
    for (int part = 0; part < WORDS; part++) {
        uint32_t word = 0;
        for (int i = 0; i < 4; i++) {
            const int32_t digit = (int32_t)((uint32_t)(rest[i] + 128) & 255) - 128;
            word |= (uint32_t)(digit & 255) << (8 * i);
            rest[i] = (rest[i] - digit) / 256;
        }
        words[part] = (int32_t)word;
    }
}

typedef struct {
    __m512i low, mid, high;
} sums;

#include "convolve.h"
#include "x86_shuffles.h"

INLINE void start(sums *all) {
    all->low = _mm512_set1_epi32(QVP_HALF);
    all->mid = _mm512_setzero_si512();
    all->high = _mm512_setzero_si512();
}

INLINE void add(sums *all, const uint8_t *fours, const int32_t *words) {
    const __m512i samples = _mm512_load_si512(fours);
    all->low = _mm512_dpbusd_epi32(all->low, samples, _mm512_set1_epi32(words[0]));
    all->mid = _mm512_dpbusd_epi32(all->mid, samples, _mm512_set1_epi32(words[1]));
    all->high = _mm512_dpbusd_epi32(all->high, samples, _mm512_set1_epi32(words[2]));
}

INLINE void finish(const sums *all, uint8_t *bytes) {
    const __m512i upper =
        _mm512_add_epi32(_mm512_slli_epi32(all->high, 8), all->mid);
    const __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(upper, 8), all->low);
    const __m512i value = _mm512_max_epi32(_mm512_srai_epi32(sum, QVP_PRECISION_BITS),
                                           _mm512_setzero_si512());
    _mm_storeu_si128((__m128i *)bytes, _mm512_cvtusepi32_epi8(value));
}

/* Sixteen words of a row; word 4 k + c of three or four channels is four k of c. */
INLINE __m512i words_of_row(const uint8_t *row, const int channels, __mmask64 mask) {
    const __m512i bytes = _mm512_maskz_loadu_epi8(mask, row);
    if (channels == 1) {
        return bytes;
    }
    if (channels == 4) {
        return _mm512_shuffle_epi8(
            bytes, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6,
                                                        10, 14, 3, 7, 11, 15)));
    }
    const __m512i spread = _mm512_permutexvar_epi32(
        _mm512_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11), bytes);
    return _mm512_shuffle_epi8(
        spread, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8,
                                                     11, -1, -1, -1, -1)));
}

/* Vectors of 64 bytes are 64, 16 and 16 pixels; a mask keeps the last in its row. */
INLINE int64_t weave(const uint8_t *const *rows, const int channels, int64_t n_pixels,
                     uint8_t *lines) {
    const int64_t step = channels == 1 ? 64 : 16;
    const int n_words = channels == 3 ? 3 : 4;
    for (int64_t x = 0; x < n_pixels; x += step) {
        const int64_t pixels = n_pixels - x < step ? n_pixels - x : step;
        const __mmask64 mask = _cvtu64_mask64(~0ULL >> (64 - pixels * channels));
        __m512i turned[4][4];
        qvp_prefetch(rows, LANES, x * channels, n_pixels * channels);
        for (int g = 0; g < 4; g++) {
            const int64_t at = x * channels;
            const __m512i a = words_of_row(rows[4 * g] + at, channels, mask);
            const __m512i b = words_of_row(rows[4 * g + 1] + at, channels, mask);
            const __m512i c = words_of_row(rows[4 * g + 2] + at, channels, mask);
            const __m512i d = words_of_row(rows[4 * g + 3] + at, channels, mask);
            const __m512i ab_low = _mm512_unpacklo_epi32(a, b);
            const __m512i ab_high = _mm512_unpackhi_epi32(a, b);
            const __m512i cd_low = _mm512_unpacklo_epi32(c, d);
            const __m512i cd_high = _mm512_unpackhi_epi32(c, d);
            turned[0][g] = _mm512_unpacklo_epi64(ab_low, cd_low);
            turned[1][g] = _mm512_unpackhi_epi64(ab_low, cd_low);
            turned[2][g] = _mm512_unpacklo_epi64(ab_high, cd_high);
            turned[3][g] = _mm512_unpackhi_epi64(ab_high, cd_high);
        }
        /* turned[j][g] holds, in part k, word 4 k + j of rows 4 g to 4 g + 3. */
        for (int j = 0; j < n_words; j++) {
            const __m512i *t = turned[j];
            const __m512i low_01 = _mm512_shuffle_i32x4(t[0], t[1], 0x44);
            const __m512i high_01 = _mm512_shuffle_i32x4(t[0], t[1], 0xee);
            const __m512i low_23 = _mm512_shuffle_i32x4(t[2], t[3], 0x44);
            const __m512i high_23 = _mm512_shuffle_i32x4(t[2], t[3], 0xee);
            const __m512i words[4] = {
                _mm512_shuffle_i32x4(low_01, low_23, 0x88),
                _mm512_shuffle_i32x4(low_01, low_23, 0xdd),
                _mm512_shuffle_i32x4(high_01, high_23, 0x88),
                _mm512_shuffle_i32x4(high_01, high_23, 0xdd),
            };
            for (int k = 0; k < 4; k++) {
                const int64_t line = x / 4 * channels +
                                     (channels == 1 ? 4 * k + j : k * channels + j);
                _mm512_store_si512(lines + line * LANES * 4, words[k]);
            }
        }
    }
    return n_pixels;
}

/* Columns of sixteen rows: four at a time to the four quarters of a block. */
INLINE void turn(const uint8_t *columns, int64_t n, uint8_t *quarter, int64_t pitch) {
    for (int64_t x = 0; x < n; x += 4) {
        const __m128i *column = (const __m128i *)(columns + x * LANES);
        __m128i a = _mm_load_si128(column);
        __m128i b = _mm_load_si128(column + 1);
        __m128i c = _mm_load_si128(column + 2);
        __m128i d = _mm_load_si128(column + 3);
        QVP_TRANSPOSE_WORDS(a, b, c, d);
        _mm_storeu_si128((__m128i *)(quarter + x * 4), a);
        _mm_storeu_si128((__m128i *)(quarter + (pitch + x) * 4), b);
        _mm_storeu_si128((__m128i *)(quarter + (2 * pitch + x) * 4), c);
        _mm_storeu_si128((__m128i *)(quarter + (3 * pitch + x) * 4), d);
    }
}

QVP_DEFINE_BRAIDS

#include "convolve_fours.h"

const struct qvp_kernels qvp_avx512vnni = {
    .name = "avx512vnni",
    .prepare = prepare,
    .scratch_bytes = scratch_bytes,
    .across = across,
    .gather = gather,
    .scatter = scatter,
    .down = down,
};
#endif
