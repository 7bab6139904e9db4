/*
 * Pillow's bicubic resampling: the weights, the kernels, and a stream of rows.
 *
 * Nothing here knows of Python. Sizes are arguments, results are status codes, and
 * memory taken in a call is freed in that call unless a comment says who frees it.
 */
#ifndef QVP_CONVOLVE_H
#define QVP_CONVOLVE_H

#include <stddef.h>
#include <stdint.h>

/* Products are checked as int64_t, and then allocated. */
_Static_assert(sizeof(size_t) == sizeof(int64_t), "a 64-bit machine");

/*
 * Weights are fixed point with 22 bits behind the point: 32 bits less 8 for the
 * pixel and 2 for sums that overshoot, because bicubic weights may be negative.
 */
#define QVP_PRECISION_BITS 22

/* Sums start at one half, so that cutting the fraction off rounds. */
#define QVP_HALF (1 << (QVP_PRECISION_BITS - 1))

/* Rows that the kernels take together; a multiple of every kernel's lanes. */
#define QVP_BLOCK 16

/* Buffers between the passes hold rows of a multiple of this many samples. */
#define QVP_PITCH 64

enum qvp_status {
    QVP_OK = 0,
    QVP_NO_MEMORY = 1, /* or more of it than an int64_t counts */
};

/*
 * Which input samples make one output sample, and with what weights.
 * Output i is the sum of weights[i * taps + k] * input[starts[i] + k] for
 * k < counts[i], where 0 <= starts[i] and starts[i] + counts[i] <= in_size.
 *
 * Kernels that take four samples at a time keep the weights as packed instead (and
 * weights is NULL): output i reads the fours first_fours[i] to first_fours[i] +
 * n_fours[i] - 1, four f being samples 4 f to 4 f + 3; what lies beside the samples
 * above weighs 0. most_fours is the largest of n_fours.
 */
struct qvp_axis {
    int64_t in_size;
    int64_t out_size;
    int64_t taps;
    int32_t *starts;
    int32_t *counts;
    int32_t *weights;
    int64_t most_fours;
    int32_t *first_fours;
    int32_t *n_fours;
    int32_t *packed;
};

/*
 * Fills axis; the caller frees it with qvp_axis_free, also after a failure.  A
 * mirrored axis is that of the picture turned over, read from its other end.
 * extent: samples that the line stands for, in_size <= extent < in_size + 1; more
 * than in_size where its last sample was cut off.
 */
int qvp_axis_make(struct qvp_axis *axis, int64_t in_size, double extent,
                  int64_t out_size, int mirrored);
void qvp_axis_free(struct qvp_axis *axis);

/*
 * Splits four weights into as many 32-bit words as a kernel multiplies with;
 * qvp_axis_pack puts the words of each four side by side and drops axis->weights.
 */
typedef void qvp_split(const int32_t *weights, int32_t *words);
int qvp_axis_pack(struct qvp_axis *axis, qvp_split *split, int64_t words_per_four);

/*
 * One way to compute, chosen in dispatch.c.  A block holds QVP_BLOCK rows of pitch
 * samples in an order that only the kernels know; a ring is blocks side by side, and
 * row r of the picture lies in it as row r % ring_rows.
 *
 * Preconditions of all: buffers are distinct; rows holds n_rows * row length bytes,
 * a block QVP_BLOCK * pitch; 1 <= n_rows <= QVP_BLOCK; pitch is a multiple of
 * QVP_PITCH and at least the row's length; ring_rows is a multiple of QVP_BLOCK.
 */
struct qvp_kernels {
    const char *name;
    /* Brings weights into the shape these kernels want. */
    int (*prepare)(struct qvp_axis *axis);
    /* Memory that across needs beside its arguments, in bytes. */
    int64_t (*scratch_bytes)(int64_t in_width, int channels);
    /* Rows of axis->in_size pixels to a block of rows of axis->out_size pixels. */
    void (*across)(const struct qvp_axis *axis, int channels, const uint8_t *rows,
                   int64_t n_rows, uint8_t *scratch, uint8_t *block, int64_t pitch);
    /* Rows to a block, and back. */
    void (*gather)(const uint8_t *rows, int64_t n_rows, int64_t row_bytes,
                   uint8_t *block, int64_t pitch);
    void (*scatter)(const uint8_t *block, int64_t pitch, int64_t n_rows,
                    int64_t row_bytes, uint8_t *rows);
    /* Output row y out of the ring, which holds all rows that it reads. */
    void (*down)(const struct qvp_axis *axis, int64_t y, const uint8_t *ring,
                 int64_t ring_rows, int64_t pitch, int64_t row_bytes,
                 uint8_t *target);
};

/* The i-th kernels that this CPU can run, fastest first; NULL behind the last. */
const struct qvp_kernels *qvp_kernels_at(int i);

/*
 * A picture on its way: rows are fed from the top, finished rows come out.
 * Memory is that of the rows one output row needs, 4 * height / out_height of them.
 */
struct qvp_stream {
    const struct qvp_kernels *kernels;
    int channels;
    int needs_across;
    int needs_down;
    int height_first;
    struct qvp_axis across;
    struct qvp_axis down;
    int64_t in_height;
    int64_t in_row_bytes;
    int64_t out_height;
    int64_t out_row_bytes;
    /* Rows fed, taken into the ring, made by the downward pass, and given out. */
    int64_t fed;
    int64_t taken;
    int64_t made;
    int64_t given;
    /* Rows that wait until a block is full: fed ones, and height first, made ones. */
    uint8_t *waiting;
    uint8_t *staged;
    uint8_t *ring;
    int64_t ring_rows;
    int64_t pitch;
    uint8_t *block;
    uint8_t *scratch;
};

struct qvp_shape {
    int64_t height;
    int64_t width;
    int64_t out_height;
    int64_t out_width;
    double extent_down;   /* rows and samples that the picture stands for */
    double extent_across;
    int channels;
    int height_first;
    int mirrored_across;
    int mirrored_down;
};

/*
 * Preconditions: sides are in 1..2^31-1, an extent is at least its side and less than
 * one more, channels is 1, 3 or 4, and a row of either picture fits int64.  The caller closes the stream, also after a failure.
 */
int qvp_stream_open(struct qvp_stream *stream, const struct qvp_kernels *kernels,
                    const struct qvp_shape *shape);
/* Rows that come out if n_rows more are fed: n_rows <= in_height - fed. */
int64_t qvp_stream_ready(const struct qvp_stream *stream, int64_t n_rows);
/* target holds qvp_stream_ready(stream, n_rows) rows of out_row_bytes. */
void qvp_stream_feed(struct qvp_stream *stream, const uint8_t *rows, int64_t n_rows,
                     uint8_t *target);
void qvp_stream_close(struct qvp_stream *stream);

#endif
