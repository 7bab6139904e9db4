/*
 * One plain version: compilers make vectors of its first two loops on every machine,
 * and the third is loads, one by one.
 */
#include "shape.h"

enum { BLOCK = 16 }; /* pixels; up to 64 are as fast, and one alone takes twice as long */

static void shape_block(const uint8_t *source, uint8_t *target, size_t pixels,
                        const int32_t *parts, const uint8_t *levels) {
    enum { LANES = QVP_SHAPE_LANES, CODES = QVP_SHAPE_CODES };
    int32_t sums[BLOCK * LANES];

    for (size_t i = 0; i < pixels; i++) {
        const int32_t *red = parts + source[3 * i] * LANES;
        const int32_t *green = parts + (CODES + source[3 * i + 1]) * LANES;
        const int32_t *blue = parts + (2 * CODES + source[3 * i + 2]) * LANES;
        for (size_t lane = 0; lane < LANES; lane++) {
            /* Unsigned, so that no table whatever makes the sum undefined. */
            sums[LANES * i + lane] =
                (int32_t)((uint32_t)red[lane] + (uint32_t)green[lane] +
                          (uint32_t)blue[lane]);
        }
    }
    for (size_t i = 0; i < LANES * pixels; i++) {
        int32_t level = sums[i] >> QVP_SHAPE_BITS;
        level = level < 0 ? 0 : level;
        sums[i] = level > QVP_SHAPE_TOP ? QVP_SHAPE_TOP : level;
    }
    for (size_t i = 0; i < pixels; i++) {
        for (size_t lane = 0; lane < 3; lane++) {
            target[3 * i + lane] = levels[sums[LANES * i + lane]];
        }
    }
}

void qvp_shape_rgb(const uint8_t *source, uint8_t *target, size_t pixels,
                   const int32_t *parts, const uint8_t *levels) {
    for (; pixels >= BLOCK; pixels -= BLOCK) {
        shape_block(source, target, BLOCK, parts, levels);
        source += 3 * BLOCK;
        target += 3 * BLOCK;
    }
    shape_block(source, target, pixels, parts, levels);
}
