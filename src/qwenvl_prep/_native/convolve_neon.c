/* Whole weights, multiplied in 32 bits (NEON, part of every 64-bit ARM). */
#if defined(__aarch64__)
#define TARGET
#define INLINE TARGET static inline __attribute__((always_inline))

#include <arm_neon.h>
#include <stdint.h>

/* Two vectors: one is multiplied while the other waits for its last product. */
#define LANES 8
#define WORDS 4

/*
 * A lane v holds t0 + 2^8 t1 + 2^16 t2 + 2^24 t3.  Shifted down it is v1 = v >> 8,
 * v2, v3, and t0 = v - 256 v1, t1 = v1 - 256 v2, and so on.  So the sum of w0 t0 to
 * w3 t3 is w0 v + (w1 - 256 w0) v1 + (w2 - 256 w1) v2 + (w3 - 256 w2) v3, where what
 * exceeds 32 bits wraps away again: no sample has to be masked out of its lane.
 */
static void split(const int32_t *weights, int32_t *words) {
    uint32_t before = 0;
    for (int i = 0; i < 4; i++) {
        words[i] = (int32_t)((uint32_t)weights[i] - 256 * before);
        before = (uint32_t)weights[i];
    }
}

typedef struct {
    uint32x4_t half[2];
} sums;

#include "convolve.h"

/* Two narrowing shifts, of 16 bits and of the rest, saturate: that is the clipping. */
INLINE uint16x4_t upper_bits(uint32x4_t sum) {
    return vqshrun_n_s32(vreinterpretq_s32_u32(sum), 16);
}

INLINE uint8x8_t clip(uint16x4_t first, uint16x4_t second) {
    return vqshrn_n_u16(vcombine_u16(first, second), QVP_PRECISION_BITS - 16);
}

INLINE void start(sums *all) {
    all->half[0] = all->half[1] = vdupq_n_u32(QVP_HALF);
}

INLINE void add(sums *all, const uint8_t *fours, const int32_t *words) {
    const uint32x4_t weights = vreinterpretq_u32_s32(vld1q_s32(words));
    for (int i = 0; i < 2; i++) {
        const uint32x4_t v = vreinterpretq_u32_u8(vld1q_u8(fours + 16 * i));
        uint32x4_t sum = all->half[i];
        sum = vmlaq_laneq_u32(sum, v, weights, 0);
        sum = vmlaq_laneq_u32(sum, vshrq_n_u32(v, 8), weights, 1);
        sum = vmlaq_laneq_u32(sum, vshrq_n_u32(v, 16), weights, 2);
        sum = vmlaq_laneq_u32(sum, vshrq_n_u32(v, 24), weights, 3);
        all->half[i] = sum;
    }
}

INLINE void finish(const sums *all, uint8_t *bytes) {
    vst1_u8(bytes, clip(upper_bits(all->half[0]), upper_bits(all->half[1])));
}

/* Sixteen pixels of a row: four words of each channel. */
INLINE void words_of_row(const uint8_t *row, const int channels, uint32x4_t *words) {
    if (channels == 1) {
        words[0] = vreinterpretq_u32_u8(vld1q_u8(row));
    } else if (channels == 3) {
        const uint8x16x3_t pixels = vld3q_u8(row);
        for (int c = 0; c < 3; c++) {
            words[c] = vreinterpretq_u32_u8(pixels.val[c]);
        }
    } else {
        const uint8x16x4_t pixels = vld4q_u8(row);
        for (int c = 0; c < 4; c++) {
            words[c] = vreinterpretq_u32_u8(pixels.val[c]);
        }
    }
}

/* Four words of four rows: the k-th words go to the k-th next line. */
INLINE void turn_words(uint32x4_t a, uint32x4_t b, uint32x4_t c, uint32x4_t d,
                       uint8_t *line, int64_t next) {
    const uint64x2_t ab[2] = {vreinterpretq_u64_u32(vtrn1q_u32(a, b)),
                              vreinterpretq_u64_u32(vtrn2q_u32(a, b))};
    const uint64x2_t cd[2] = {vreinterpretq_u64_u32(vtrn1q_u32(c, d)),
                              vreinterpretq_u64_u32(vtrn2q_u32(c, d))};
    for (int k = 0; k < 2; k++) {
        const uint64x2_t first = vtrn1q_u64(ab[k], cd[k]);
        const uint64x2_t second = vtrn2q_u64(ab[k], cd[k]);
        vst1q_u8(line + k * next, vreinterpretq_u8_u64(first));
        vst1q_u8(line + (k + 2) * next, vreinterpretq_u8_u64(second));
    }
}

/* Sixteen pixels at a time; what is less is left over. */
INLINE int64_t weave(const uint8_t *const *rows, const int channels, int64_t n_pixels,
                     uint8_t *lines) {
    const int64_t next = (int64_t)channels * LANES * 4;
    int64_t x = 0;
    for (; x + 16 <= n_pixels; x += 16) {
        const int64_t at = x * channels;
        for (int g = 0; g < LANES; g += 4) {
            uint8_t *line = lines + x / 4 * next + g * 4;
            uint32x4_t a[4], b[4], c[4], d[4];
            words_of_row(rows[g] + at, channels, a);
            words_of_row(rows[g + 1] + at, channels, b);
            words_of_row(rows[g + 2] + at, channels, c);
            words_of_row(rows[g + 3] + at, channels, d);
            for (int i = 0; i < channels; i++) {
                turn_words(a[i], b[i], c[i], d[i], line + i * LANES * 4, next);
            }
        }
    }
    return x;
}

/* Columns of eight rows: two quarters that alternate. */
INLINE void turn(const uint8_t *columns, int64_t n, uint8_t *quarter, int64_t pitch) {
    for (int64_t x = 0; x < n; x += 4) {
        const uint8_t *column = columns + x * 8;
        const uint32x4_t first = vreinterpretq_u32_u8(vld1q_u8(column));
        const uint32x4_t second = vreinterpretq_u32_u8(vld1q_u8(column + 16));
        vst1q_u8(quarter + x * 4, vreinterpretq_u8_u32(vuzp1q_u32(first, second)));
        vst1q_u8(quarter + (pitch + x) * 4,
                 vreinterpretq_u8_u32(vuzp2q_u32(first, second)));
    }
}

INLINE int64_t braid(const uint8_t *const *rows, int64_t n, uint8_t *fours) {
    int64_t x = 0;
    for (; x + 16 <= n; x += 16) {
        uint8x16x4_t samples;
        for (int y = 0; y < 4; y++) {
            samples.val[y] = vld1q_u8(rows[y] + x);
        }
        vst4q_u8(fours + x * 4, samples);
    }
    return x;
}

INLINE int64_t unbraid(const uint8_t *fours, int64_t n, uint8_t *const *rows) {
    int64_t x = 0;
    for (; x + 16 <= n; x += 16) {
        const uint8x16x4_t samples = vld4q_u8(fours + x * 4);
        for (int y = 0; y < 4; y++) {
            vst1q_u8(rows[y] + x, samples.val[y]);
        }
    }
    return x;
}

#include "convolve_fours.h"

const struct qvp_kernels qvp_neon = {
    .name = "neon",
    .prepare = prepare,
    .scratch_bytes = scratch_bytes,
    .across = across,
    .gather = gather,
    .scatter = scatter,
    .down = down,
};
#endif
