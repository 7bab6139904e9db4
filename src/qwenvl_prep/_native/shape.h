/* Colours of three curves and a matrix to sRGB: what shape.c gives to shaper.pyx. */
#ifndef QVP_SHAPE_H
#define QVP_SHAPE_H

#include <stddef.h>
#include <stdint.h>

enum {
    QVP_SHAPE_CODES = 256,
    QVP_SHAPE_LANES = 4, /* three samples and one unused: a pixel is one vector */
    QVP_SHAPE_BITS = 14, /* behind the point, as LittleCMS has it for 8-bit samples */
    QVP_SHAPE_TOP = 1 << QVP_SHAPE_BITS
};

/*
 * Preconditions: 3 * pixels bytes in source and in target, which do not overlap;
 * 3 * CODES * LANES numbers in parts, any; TOP + 1 bytes in levels.
 */
void qvp_shape_rgb(const uint8_t *source, uint8_t *target, size_t pixels,
                   const int32_t *parts, const uint8_t *levels);

#endif
