/* Quotient of two integers as the nearest double, as Python's int / int gives it. */
#ifndef QVP_EXACT_DIVISION_H
#define QVP_EXACT_DIVISION_H

#include <math.h>
#include <stdint.h>

/*
 * Preconditions: 0 < numerator, 0 < denominator <= 2^53.
 *
 * Up to 2^53 both convert to double without loss and one division rounds once.
 * Above, converting first would round twice; so the quotient is taken in integers
 * with at least 55 bits, and the lowest bit remembers whether anything was cut off.
 */
static inline double qvp_exact_division(int64_t numerator, int64_t denominator) {
    if (numerator <= ((int64_t)1 << 53)) {
        return (double)numerator / (double)denominator;
    }
    uint64_t quotient = (uint64_t)numerator / (uint64_t)denominator;
    uint64_t rest = (uint64_t)numerator % (uint64_t)denominator;
    int shift = 0;
    while (((quotient << shift) >> 54) == 0) { /* ends: quotient is at least 1 */
        shift++;
    }
    /* rest < 2^53 and shift <= 54, so 107 bits are enough. */
    unsigned __int128 tail = (unsigned __int128)rest << shift;
    uint64_t bits = (quotient << shift) | (uint64_t)(tail / (uint64_t)denominator);
    bits |= (tail % (uint64_t)denominator) != 0;
    return ldexp((double)bits, -shift);
}

#endif
