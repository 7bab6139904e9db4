/* Rows in, finished rows out: both passes in either order, a block at a time. */
#include "convolve.h"

#include <stdlib.h>
#include <string.h>

/* The kernels' loads and stores are fastest on the lines of the cache. */
#define CACHE_LINE 64

static int64_t round_up(int64_t value, int64_t step) {
    return (value + step - 1) / step * step;
}

/* Zeroed, as kernels read, and weigh with 0, rows and samples that never came. */
static uint8_t *take(int64_t rows, int64_t row_bytes, int *status) {
    int64_t size;
    if (__builtin_mul_overflow(rows, row_bytes, &size) ||
        size > INT64_MAX - CACHE_LINE) {
        *status = QVP_NO_MEMORY;
        return NULL;
    }
    if (size == 0) {
        return NULL;
    }
    size = round_up(size, CACHE_LINE);
    uint8_t *memory = aligned_alloc(CACHE_LINE, (size_t)size);
    if (memory == NULL) {
        *status = QVP_NO_MEMORY;
        return NULL;
    }
    return memset(memory, 0, (size_t)size);
}

static int64_t at_most_a_block(int64_t rows) {
    return rows < QVP_BLOCK ? rows : QVP_BLOCK;
}

static int open_axis(struct qvp_axis *axis, const struct qvp_kernels *kernels,
                     int64_t in_size, double extent, int64_t out_size,
                     int mirrored) {
    const int status = qvp_axis_make(axis, in_size, extent, out_size, mirrored);
    return status == QVP_OK ? kernels->prepare(axis) : status;
}

/* Down first, or alone. */
static int is_down_first(const struct qvp_stream *stream) {
    return stream->needs_down && (stream->height_first || !stream->needs_across);
}

/* Across behind the downward pass, or alone. */
static int is_across_last(const struct qvp_stream *stream) {
    return stream->needs_across && (stream->height_first || !stream->needs_down);
}

static int64_t block_pitch(const struct qvp_stream *stream) {
    return round_up(stream->out_row_bytes, QVP_PITCH);
}

int qvp_stream_open(struct qvp_stream *stream, const struct qvp_kernels *kernels,
                    const struct qvp_shape *shape) {
    const int channels = shape->channels;
    int status = QVP_OK;
    memset(stream, 0, sizeof *stream);
    stream->kernels = kernels;
    stream->channels = channels;
    stream->in_height = shape->height;
    stream->in_row_bytes = shape->width * channels;
    stream->out_height = shape->out_height;
    stream->out_row_bytes = shape->out_width * channels;
    /* A mirrored picture of the same size is its own mirrored resize. */
    stream->needs_across = shape->width != shape->out_width;
    stream->needs_down = shape->height != shape->out_height;
    stream->height_first = shape->height_first;
    if (stream->needs_across) {
        status = open_axis(&stream->across, kernels, shape->width, shape->extent_across,
                           shape->out_width, shape->mirrored_across);
        if (status == QVP_OK) {
            stream->scratch =
                take(1, kernels->scratch_bytes(shape->width, channels), &status);
        }
    }
    if (status == QVP_OK && stream->needs_down) {
        status = open_axis(&stream->down, kernels, shape->height, shape->extent_down,
                           shape->out_height, shape->mirrored_down);
    }
    if (status == QVP_OK && (stream->needs_across || stream->needs_down)) {
        stream->waiting =
            take(at_most_a_block(shape->height), stream->in_row_bytes, &status);
    }
    if (status == QVP_OK && stream->needs_across && is_down_first(stream)) {
        stream->staged =
            take(at_most_a_block(shape->out_height), stream->in_row_bytes, &status);
    }
    if (status == QVP_OK && stream->needs_down) {
        /* A window may begin and end within a four, and one block comes on top. */
        stream->ring_rows = round_up(stream->down.taps + 3 + QVP_BLOCK, QVP_BLOCK);
        stream->pitch = round_up(
            is_down_first(stream) ? stream->in_row_bytes : stream->out_row_bytes,
            QVP_PITCH);
        stream->ring = take(stream->ring_rows, stream->pitch, &status);
    }
    if (status == QVP_OK && is_across_last(stream)) {
        stream->block = take(QVP_BLOCK, block_pitch(stream), &status);
    }
    return status;
}

void qvp_stream_close(struct qvp_stream *stream) {
    qvp_axis_free(&stream->across);
    qvp_axis_free(&stream->down);
    free(stream->waiting);
    free(stream->staged);
    free(stream->ring);
    free(stream->block);
    free(stream->scratch);
    memset(stream, 0, sizeof *stream);
}

/* Rows that the downward pass can make once so many have been taken. */
static int64_t rows_made(const struct qvp_stream *stream, int64_t taken) {
    const struct qvp_axis *down = &stream->down;
    int64_t made = stream->made;
    while (made < down->out_size &&
           (int64_t)down->starts[made] + down->counts[made] <= taken) {
        made++;
    }
    return made;
}

/* Only whole blocks go on, until the last. */
static int64_t in_blocks(int64_t rows, int64_t all) {
    return rows == all ? all : rows - rows % QVP_BLOCK;
}

int64_t qvp_stream_ready(const struct qvp_stream *stream, int64_t n_rows) {
    int64_t rows = stream->fed + n_rows;
    if (stream->needs_across || stream->needs_down) {
        rows = in_blocks(rows, stream->in_height);
    }
    if (stream->needs_down) {
        rows = rows_made(stream, rows);
    }
    if (is_across_last(stream)) {
        rows = in_blocks(rows, stream->out_height);
    }
    return rows - stream->given;
}

static uint8_t *give_across(struct qvp_stream *stream, const uint8_t *rows,
                            int64_t n_rows, uint8_t *target) {
    const int64_t pitch = block_pitch(stream);
    stream->kernels->across(&stream->across, stream->channels, rows, n_rows,
                            stream->scratch, stream->block, pitch);
    stream->kernels->scatter(stream->block, pitch, n_rows, stream->out_row_bytes,
                             target);
    stream->given += n_rows;
    return target + n_rows * stream->out_row_bytes;
}

static uint8_t *give_down(struct qvp_stream *stream, uint8_t *target) {
    const int is_first = is_across_last(stream);
    const int64_t row_bytes = is_first ? stream->in_row_bytes : stream->out_row_bytes;
    const int64_t until = rows_made(stream, stream->taken);
    while (stream->made < until) {
        const int64_t staged = stream->made % QVP_BLOCK;
        uint8_t *row = is_first ? stream->staged + staged * row_bytes : target;
        stream->kernels->down(&stream->down, stream->made, stream->ring,
                              stream->ring_rows, stream->pitch, row_bytes, row);
        stream->made++;
        if (!is_first) {
            stream->given++;
            target += row_bytes;
        } else if (staged + 1 == QVP_BLOCK || stream->made == stream->out_height) {
            target = give_across(stream, stream->staged, staged + 1, target);
        }
    }
    return target;
}

static uint8_t *take_block(struct qvp_stream *stream, const uint8_t *rows,
                           int64_t n_rows, uint8_t *target) {
    if (!stream->needs_down) {
        stream->taken += n_rows;
        return give_across(stream, rows, n_rows, target);
    }
    /* Only the last block is short, so each begins where a block of the ring does. */
    uint8_t *block =
        stream->ring + stream->taken % stream->ring_rows * stream->pitch;
    if (is_down_first(stream)) {
        stream->kernels->gather(rows, n_rows, stream->in_row_bytes, block,
                                stream->pitch);
    } else {
        stream->kernels->across(&stream->across, stream->channels, rows, n_rows,
                                stream->scratch, block, stream->pitch);
    }
    stream->taken += n_rows;
    return give_down(stream, target);
}

void qvp_stream_feed(struct qvp_stream *stream, const uint8_t *rows, int64_t n_rows,
                     uint8_t *target) {
    const int64_t row_bytes = stream->in_row_bytes;
    if (!stream->needs_across && !stream->needs_down) {
        memcpy(target, rows, (size_t)(n_rows * row_bytes));
        stream->fed += n_rows;
        stream->given += n_rows;
        return;
    }
    while (n_rows > 0) {
        const int64_t waiting = stream->fed - stream->taken;
        const int64_t room = QVP_BLOCK - waiting;
        const int64_t rows_now = n_rows < room ? n_rows : room;
        const int is_last = stream->fed + rows_now == stream->in_height;
        if (waiting == 0 && (rows_now == QVP_BLOCK || is_last)) {
            /* The common case: a whole block goes in from where it lies. */
            stream->fed += rows_now;
            target = take_block(stream, rows, rows_now, target);
        } else {
            memcpy(stream->waiting + waiting * row_bytes, rows,
                   (size_t)(rows_now * row_bytes));
            stream->fed += rows_now;
            if (rows_now == room || is_last) {
                target = take_block(stream, stream->waiting, waiting + rows_now,
                                    target);
            }
        }
        rows += rows_now * row_bytes;
        n_rows -= rows_now;
    }
}
