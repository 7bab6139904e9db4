/*
 * The C core without Python: reads cases from stdin and runs each by all kernels that
 * this CPU has, first in malloc's memory, which sanitizers watch, then in buffers that
 * end where no memory is, then in buffers that begin there.  The core is built with
 * -Dmalloc=test_malloc, and so on for calloc, aligned_alloc and free: that is true of
 * its own buffers too.
 *
 * A case is nine int64 in this machine's order, then the bytes of the picture and of
 * the expected one:
 *
 *   height width out_height out_width channels height_first mirrored_across
 *   mirrored_down strip
 *
 * Prints for each kernels name, cases and how many came out otherwise; where the first
 * of those did goes to stderr.  "run_kernels behind" and "run_kernels before" touch one
 * byte beside a buffer, and have to die of it.
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#undef malloc
#undef calloc
#undef aligned_alloc
#undef free
#include "convolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *test_malloc(size_t size);
void *test_calloc(size_t n, size_t size);
void *test_aligned_alloc(size_t alignment, size_t size);
void test_free(void *memory);

static enum place { ON_HEAP, BEFORE_A_GUARD, BEHIND_A_GUARD, N_PLACES } place;

/* Maps in use: what free is given, and what munmap wants. */
static struct {
    uint8_t *bytes;
    uint8_t *map;
    size_t size;
} maps[32];

static void die(const char *what) {
    perror(what);
    exit(2);
}

void *test_aligned_alloc(size_t alignment, size_t size) {
    if (place == ON_HEAP) {
        return aligned_alloc(alignment, size);
    }
    /* A size that the alignment divides keeps it, also flush against a page. */
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t inner = (size + page - 1) / page * page;
    size_t i = 0;
    while (maps[i].map != NULL && i + 1 < sizeof maps / sizeof maps[0]) {
        i++;
    }
    uint8_t *map = mmap(NULL, inner + 2 * page, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (maps[i].map != NULL || map == MAP_FAILED ||
        (inner > 0 && mprotect(map + page, inner, PROT_READ | PROT_WRITE) != 0)) {
        die("mmap");
    }
    maps[i].map = map;
    maps[i].size = inner + 2 * page;
    maps[i].bytes = map + page + (place == BEFORE_A_GUARD ? inner - size : 0);
    return maps[i].bytes;
}

void *test_malloc(size_t size) {
    return place == ON_HEAP ? malloc(size) : test_aligned_alloc(1, size);
}

void *test_calloc(size_t n, size_t size) {
    /* Fresh maps are zeros. */
    return place == ON_HEAP ? calloc(n, size) : test_malloc(n * size);
}

void test_free(void *memory) {
    if (place == ON_HEAP || memory == NULL) {
        free(memory);
        return;
    }
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++) {
        if (maps[i].bytes == memory) {
            munmap(maps[i].map, maps[i].size);
            memset(&maps[i], 0, sizeof maps[i]);
            return;
        }
    }
    die("free of what was never taken");
}

/* The first byte that comes out otherwise, or -1. */
static int64_t first_difference(const struct qvp_kernels *kernels,
                                const struct qvp_shape *shape, int64_t strip,
                                const uint8_t *source, const uint8_t *expected) {
    const int64_t row_bytes = shape->width * shape->channels;
    const int64_t out_row_bytes = shape->out_width * shape->channels;
    struct qvp_stream stream;
    int64_t given = 0, found = -1;
    if (qvp_stream_open(&stream, kernels, shape) != QVP_OK) {
        die("qvp_stream_open");
    }
    for (int64_t top = 0; top < shape->height; top += strip) {
        const int64_t left_over = shape->height - top;
        const int64_t n_rows = left_over < strip ? left_over : strip;
        const int64_t n_ready = qvp_stream_ready(&stream, n_rows);
        uint8_t *rows = test_malloc((size_t)(n_rows * row_bytes));
        uint8_t *target = test_malloc((size_t)(n_ready * out_row_bytes));
        memcpy(rows, source + top * row_bytes, (size_t)(n_rows * row_bytes));
        qvp_stream_feed(&stream, rows, n_rows, target);
        for (int64_t i = 0; found < 0 && i < n_ready * out_row_bytes; i++) {
            const int64_t at = given * out_row_bytes + i;
            found = target[i] == expected[at] ? -1 : at;
        }
        given += n_ready;
        test_free(rows);
        test_free(target);
    }
    if (found < 0 && given != shape->out_height) {
        found = given * out_row_bytes;
    }
    qvp_stream_close(&stream);
    return found;
}

static uint8_t *read_bytes(int64_t size) {
    uint8_t *bytes = test_malloc((size_t)size);
    if (bytes == NULL || fread(bytes, 1, (size_t)size, stdin) != (size_t)size) {
        die("stdin");
    }
    return bytes;
}

int main(int argc, char **argv) {
    int64_t n_cases = 0, wrong[8] = {0}, head[9];
    const struct qvp_kernels *kernels;
    if (argc > 1) {
        const int is_behind = strcmp(argv[1], "behind") == 0;
        place = is_behind ? BEFORE_A_GUARD : BEHIND_A_GUARD;
        /* Volatile, as compilers see what is wrong here. */
        volatile int64_t beside = is_behind ? 100 : -1;
        ((volatile uint8_t *)test_malloc(100))[beside] = 1;
        return 0;
    }
    while (fread(head, sizeof head, 1, stdin) == 1) {
        const struct qvp_shape shape = {
            .height = head[0],
            .width = head[1],
            .out_height = head[2],
            .out_width = head[3],
            .extent_down = (double)head[0],
            .extent_across = (double)head[1],
            .channels = (int)head[4],
            .height_first = (int)head[5],
            .mirrored_across = (int)head[6],
            .mirrored_down = (int)head[7],
        };
        uint8_t *source = read_bytes(head[0] * head[1] * head[4]);
        uint8_t *expected = read_bytes(head[2] * head[3] * head[4]);
        for (int i = 0; (kernels = qvp_kernels_at(i)) != NULL; i++) {
            int64_t at = -1;
            for (place = ON_HEAP; at < 0 && place < N_PLACES; place++) {
                at = first_difference(kernels, &shape, head[8], source, expected);
            }
            if (at >= 0 && wrong[i]++ == 0) {
                fprintf(stderr, "%s: case %lld, first at byte %lld\n", kernels->name,
                        (long long)n_cases, (long long)at);
            }
        }
        place = ON_HEAP;
        test_free(source);
        test_free(expected);
        n_cases++;
    }
    for (int i = 0; (kernels = qvp_kernels_at(i)) != NULL; i++) {
        printf("%s %lld %lld\n", kernels->name, (long long)n_cases,
               (long long)wrong[i]);
    }
    return 0;
}
