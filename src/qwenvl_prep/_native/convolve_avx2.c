/* Two halves of each weight, 11 bits and the rest, summed by vpmaddwd (AVX2). */
#if defined(__x86_64__)
#define TARGET __attribute__((target("avx2")))
#define INLINE TARGET static inline __attribute__((always_inline))

#include <immintrin.h>
#include <stdint.h>

#define LANES 8
#define WORDS 4

/* weight = low + 2048 high: low in -1024..1023, high far inside 16 bits. */
static void split(const int32_t *weights, int32_t *words) {
    int32_t low[4], high[4];
    for (int i = 0; i < 4; i++) {
        low[i] = (int32_t)((uint32_t)(weights[i] + 1024) & 2047) - 1024;
        high[i] = (weights[i] - low[i]) / 2048;
    }
    for (int odd = 0; odd < 2; odd++) {
        words[2 * odd] = (int32_t)((uint32_t)(low[odd] & 0xffff) |
                                   (uint32_t)low[odd + 2] << 16);
        words[2 * odd + 1] = (int32_t)((uint32_t)(high[odd] & 0xffff) |
                                       (uint32_t)high[odd + 2] << 16);
    }
}

typedef struct {
    __m256i low, high;
} sums;

#include "convolve.h"
#include "x86_shuffles.h"

INLINE void start(sums *all) {
    all->low = _mm256_set1_epi32(QVP_HALF);
    all->high = _mm256_setzero_si256();
}

INLINE void add(sums *all, const uint8_t *fours, const int32_t *words) {
    const __m256i samples = _mm256_load_si256((const __m256i *)fours);
    const __m256i even = _mm256_and_si256(samples, _mm256_set1_epi32(0x00ff00ff));
    const __m256i odd = _mm256_srli_epi16(samples, 8);
    const __m256i low =
        _mm256_add_epi32(_mm256_madd_epi16(even, _mm256_set1_epi32(words[0])),
                         _mm256_madd_epi16(odd, _mm256_set1_epi32(words[2])));
    const __m256i high =
        _mm256_add_epi32(_mm256_madd_epi16(even, _mm256_set1_epi32(words[1])),
                         _mm256_madd_epi16(odd, _mm256_set1_epi32(words[3])));
    all->low = _mm256_add_epi32(all->low, low);
    all->high = _mm256_add_epi32(all->high, high);
}

INLINE void finish(const sums *all, uint8_t *bytes) {
    const __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(all->high, 11), all->low);
    const __m256i value = _mm256_srai_epi32(sum, QVP_PRECISION_BITS);
    /* Packing saturates, which is the clipping. */
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(value),
                                          _mm256_extracti128_si256(value, 1));
    _mm_storel_epi64((__m128i *)bytes, _mm_packus_epi16(words, words));
}

/* Eight words of a row; word 4 k + c of three or four channels is four k of c. */
INLINE __m256i words_of_row(const uint8_t *row, const int channels) {
    if (channels == 1) {
        return _mm256_loadu_si256((const __m256i *)row);
    }
    const int64_t step = 4 * channels;
    const __m256i bytes = _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)row)),
        _mm_loadu_si128((const __m128i *)(row + step)), 1);
    const __m128i order =
        channels == 3
            ? _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1)
            : _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm256_shuffle_epi8(bytes, _mm256_broadcastsi128_si256(order));
}

/* Vectors of 32 bytes are 32, 8 and 8 pixels; of three channels, 28 bytes are read. */
INLINE int64_t weave(const uint8_t *const *rows, const int channels, int64_t n_pixels,
                     uint8_t *lines) {
    const int64_t step = channels == 1 ? 32 : 8;
    const int64_t n_read = channels == 3 ? 28 : 32;
    const int n_words = channels == 3 ? 3 : 4;
    int64_t x = 0;
    for (; x * channels + n_read <= n_pixels * channels; x += step) {
        __m256i turned[4][2];
        qvp_prefetch(rows, LANES, x * channels, n_pixels * channels);
        for (int g = 0; g < 2; g++) {
            const int64_t at = x * channels;
            const __m256i a = words_of_row(rows[4 * g] + at, channels);
            const __m256i b = words_of_row(rows[4 * g + 1] + at, channels);
            const __m256i c = words_of_row(rows[4 * g + 2] + at, channels);
            const __m256i d = words_of_row(rows[4 * g + 3] + at, channels);
            const __m256i ab_low = _mm256_unpacklo_epi32(a, b);
            const __m256i ab_high = _mm256_unpackhi_epi32(a, b);
            const __m256i cd_low = _mm256_unpacklo_epi32(c, d);
            const __m256i cd_high = _mm256_unpackhi_epi32(c, d);
            turned[0][g] = _mm256_unpacklo_epi64(ab_low, cd_low);
            turned[1][g] = _mm256_unpackhi_epi64(ab_low, cd_low);
            turned[2][g] = _mm256_unpacklo_epi64(ab_high, cd_high);
            turned[3][g] = _mm256_unpackhi_epi64(ab_high, cd_high);
        }
        /* turned[j][g] holds, in part k, word 4 k + j of rows 4 g to 4 g + 3. */
        for (int j = 0; j < n_words; j++) {
            const __m256i words[2] = {
                _mm256_permute2x128_si256(turned[j][0], turned[j][1], 0x20),
                _mm256_permute2x128_si256(turned[j][0], turned[j][1], 0x31),
            };
            for (int k = 0; k < 2; k++) {
                const int64_t line = x / 4 * channels +
                                     (channels == 1 ? 4 * k + j : k * channels + j);
                _mm256_store_si256((__m256i *)(lines + line * LANES * 4), words[k]);
            }
        }
    }
    return x;
}

/* Columns of eight rows: four at a time to two quarters of a block. */
INLINE void turn(const uint8_t *columns, int64_t n, uint8_t *quarter, int64_t pitch) {
    for (int64_t x = 0; x < n; x += 4) {
        const __m128i *column = (const __m128i *)(columns + x * LANES);
        const __m128i first = _mm_shuffle_epi32(_mm_load_si128(column), 0xd8);
        const __m128i second = _mm_shuffle_epi32(_mm_load_si128(column + 1), 0xd8);
        _mm_storeu_si128((__m128i *)(quarter + x * 4),
                         _mm_unpacklo_epi64(first, second));
        _mm_storeu_si128((__m128i *)(quarter + (pitch + x) * 4),
                         _mm_unpackhi_epi64(first, second));
    }
}

QVP_DEFINE_BRAIDS

#include "convolve_fours.h"

const struct qvp_kernels qvp_avx2 = {
    .name = "avx2",
    .prepare = prepare,
    .scratch_bytes = scratch_bytes,
    .across = across,
    .gather = gather,
    .scatter = scatter,
    .down = down,
};
#endif
