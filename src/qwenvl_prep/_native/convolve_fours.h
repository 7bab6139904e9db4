/*
 * Both passes for kernels that take four samples at a time.
 *
 * Four neighbours along the axis lie in one 32-bit lane, so that one instruction
 * multiplies them with their weights and adds up. Lanes are independent sums: rows in
 * the pass across, samples of a row in the pass down. Integers wrap without loss, so
 * parts of a weight may be summed apart and put together at the end: the result is
 * that of convolve_scalar.c, to the bit.
 *
 *   fours  n samples of four rows:        [sample][row % 4]           (a quarter block)
 *   lines  LANES rows, by fours of pixels: [x / 4][channel][row][x % 4]
 *
 * Included by one file for each instruction set, which defines before:
 *
 *   TARGET     the attribute that lets the compiler use the instructions
 *   INLINE     what begins a function that is part of its caller, with TARGET
 *   LANES      32-bit lanes in a vector; QVP_BLOCK is a multiple
 *   WORDS      words that split makes of four weights
 *   split      see qvp_split
 *   sums       the sums of LANES lanes
 *   start      (sums *) begins at one half
 *   add        (sums *, const uint8_t *fours, const int32_t *words): fours are LANES
 *              times 4 bytes, aligned to that
 *   finish     (const sums *, uint8_t *bytes): the LANES results, clipped to 8 bits
 *   weave      (rows[LANES], channels, n_pixels, lines): fills the lines for as many
 *              pixels from the left as it can without reading beyond n_pixels, and
 *              tells how many; a multiple of 4, or all
 *   turn       (columns, n, quarter, pitch): n columns of LANES rows to LANES/4 quarters
 *              of a block; may read and write up to 3 more
 *   braid      (rows[4], n, fours): n samples of four rows to fours; tells how many
 *   unbraid    (fours, n, rows[4]): the way back; tells how many
 */
#include "convolve.h"

#include <string.h>

/* Outputs that are kept as columns until they are turned; they stay in cache. */
#define CHUNK 64

/* Vectors that the downward pass sums side by side, to hide the latency of adding. */
#define SIDE_BY_SIDE 4
#define GROUP (SIDE_BY_SIDE * LANES)

_Static_assert(QVP_BLOCK % LANES == 0, "a block is whole vectors of rows");
_Static_assert(QVP_PITCH % GROUP == 0, "rows of the ring are whole groups");

static int prepare(struct qvp_axis *axis) { return qvp_axis_pack(axis, split, WORDS); }

/* Whole vectors are woven, so there is room for one step of them too many. */
static int64_t scratch_bytes(int64_t in_width, int channels) {
    return (in_width + 63) / 64 * 64 * channels * LANES; /* sides are below 2^31 */
}

/* Fills the lines; rows beyond n_rows are the last row once more, and not used. */
INLINE void fill_lines(const uint8_t *rows, int64_t n_rows, int64_t n_pixels,
                       const int channels, uint8_t *lines) {
    const uint8_t *row[LANES];
    for (int64_t lane = 0; lane < LANES; lane++) {
        row[lane] = rows + (lane < n_rows ? lane : n_rows - 1) * n_pixels * channels;
    }
    for (int64_t x = weave(row, channels, n_pixels, lines); x < n_pixels; x++) {
        for (int c = 0; c < channels; c++) {
            uint8_t *line = lines + (x / 4 * channels + c) * LANES * 4 + x % 4;
            for (int64_t lane = 0; lane < LANES; lane++) {
                line[lane * 4] = row[lane][x * channels + c];
            }
        }
    }
}

INLINE void sum_lines(const struct qvp_axis *axis, const int channels,
                      const uint8_t *lines, uint8_t *quarter, int64_t pitch) {
    /* Zeroed, as turn takes up to three columns more than there are. */
    __attribute__((aligned(64))) uint8_t columns[CHUNK * 4 * LANES] = {0};
    for (int64_t left = 0; left < axis->out_size; left += CHUNK) {
        const int64_t left_over = axis->out_size - left;
        const int64_t n = left_over < CHUNK ? left_over : CHUNK;
        for (int64_t i = 0; i < n; i++) {
            const int64_t x = left + i;
            const uint8_t *line =
                lines + (int64_t)axis->first_fours[x] * channels * LANES * 4;
            const int32_t *words = axis->packed + x * axis->most_fours * WORDS;
            sums all[4];
            for (int c = 0; c < channels; c++) {
                start(&all[c]);
            }
            for (int32_t four = 0; four < axis->n_fours[x]; four++) {
                for (int c = 0; c < channels; c++) {
                    add(&all[c], line + c * LANES * 4, words);
                }
                line += channels * LANES * 4;
                words += WORDS;
            }
            for (int c = 0; c < channels; c++) {
                finish(&all[c], columns + (i * channels + c) * LANES);
            }
        }
        turn(columns, n * channels, quarter + left * channels * 4, pitch);
    }
}

INLINE void across_channels(const struct qvp_axis *axis, const int channels,
                            const uint8_t *rows, int64_t n_rows, uint8_t *lines,
                            uint8_t *block, int64_t pitch) {
    for (int64_t top = 0; top < n_rows; top += LANES) {
        fill_lines(rows + top * axis->in_size * channels, n_rows - top, axis->in_size,
                   channels, lines);
        sum_lines(axis, channels, lines, block + top * pitch, pitch);
    }
}

TARGET static void across(const struct qvp_axis *axis, int channels,
                          const uint8_t *rows, int64_t n_rows, uint8_t *scratch,
                          uint8_t *block, int64_t pitch) {
    switch (channels) {
    case 1:
        across_channels(axis, 1, rows, n_rows, scratch, block, pitch);
        break;
    case 3:
        across_channels(axis, 3, rows, n_rows, scratch, block, pitch);
        break;
    default:
        across_channels(axis, 4, rows, n_rows, scratch, block, pitch);
    }
}

TARGET static void gather(const uint8_t *rows, int64_t n_rows, int64_t row_bytes,
                          uint8_t *block, int64_t pitch) {
    for (int64_t top = 0; top < n_rows; top += 4) {
        const uint8_t *row[4];
        uint8_t *fours = block + top * pitch;
        for (int64_t y = 0; y < 4; y++) {
            row[y] = rows + (top + y < n_rows ? top + y : n_rows - 1) * row_bytes;
        }
        for (int64_t x = braid(row, row_bytes, fours); x < row_bytes; x++) {
            for (int64_t y = 0; y < 4; y++) {
                fours[x * 4 + y] = row[y][x];
            }
        }
    }
}

TARGET static void scatter(const uint8_t *block, int64_t pitch, int64_t n_rows,
                           int64_t row_bytes, uint8_t *rows) {
    for (int64_t top = 0; top < n_rows; top += 4) {
        const uint8_t *fours = block + top * pitch;
        const int64_t height = n_rows - top < 4 ? n_rows - top : 4;
        int64_t x = 0;
        if (height == 4) {
            uint8_t *row[4];
            for (int64_t y = 0; y < 4; y++) {
                row[y] = rows + (top + y) * row_bytes;
            }
            x = unbraid(fours, row_bytes, row);
        }
        for (; x < row_bytes; x++) {
            for (int64_t y = 0; y < height; y++) {
                rows[(top + y) * row_bytes + x] = fours[x * 4 + y];
            }
        }
    }
}

TARGET static void down(const struct qvp_axis *axis, int64_t y, const uint8_t *ring,
                        int64_t ring_rows, int64_t pitch, int64_t row_bytes,
                        uint8_t *target) {
    const int64_t n_ring = ring_rows / 4;
    const int64_t first = axis->first_fours[y] % n_ring;
    const int32_t *packed = axis->packed + y * axis->most_fours * WORDS;
    for (int64_t left = 0; left < row_bytes; left += GROUP) {
        const int32_t *words = packed;
        int64_t four = first;
        sums all[SIDE_BY_SIDE];
        for (int i = 0; i < SIDE_BY_SIDE; i++) {
            start(&all[i]);
        }
        for (int32_t k = 0; k < axis->n_fours[y]; k++) {
            const uint8_t *samples = ring + (four * pitch + left) * 4;
            for (int i = 0; i < SIDE_BY_SIDE; i++) {
                add(&all[i], samples + i * LANES * 4, words);
            }
            words += WORDS;
            four = four + 1 == n_ring ? 0 : four + 1;
        }
        if (row_bytes - left >= GROUP) {
            for (int i = 0; i < SIDE_BY_SIDE; i++) {
                finish(&all[i], target + left + i * LANES);
            }
        } else {
            uint8_t last[GROUP];
            for (int i = 0; i < SIDE_BY_SIDE; i++) {
                finish(&all[i], last + i * LANES);
            }
            memcpy(target + left, last, (size_t)(row_bytes - left));
        }
    }
}
