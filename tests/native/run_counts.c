/*
 * The size rule over arrays without Python: reads cases from stdin and counts each in
 * all ways that this CPU has, in buffers that end where no memory is.
 *
 * A case is int64 in this machine's order: factor min_pixels max_pixels markers n
 * refused, then n heights, n widths, and where refused is -1 the expected n counts and
 * n pairs of height and width.
 *
 * Prints for each way name, cases and how many came out otherwise.  "run_counts over"
 * reads one size too many, and has to die of it.
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "many_sizes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void die(const char *what) {
    perror(what);
    exit(2);
}

/* Room for n numbers right before a page that must not be touched; never given back. */
static int64_t *before_a_guard(int64_t n) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t size = (size_t)n * sizeof(int64_t);
    const size_t inner = (size + page - 1) / page * page;
    uint8_t *map = mmap(NULL, inner + page, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + inner, page, PROT_NONE) != 0) {
        die("mmap");
    }
    return (int64_t *)(map + inner - size);
}

static int64_t *read_numbers(int64_t n) {
    int64_t *numbers = before_a_guard(n);
    if (fread(numbers, sizeof *numbers, (size_t)n, stdin) != (size_t)n) {
        die("a case ends too early");
    }
    return numbers;
}

int main(int argc, char **argv) {
    int64_t head[6];
    long n_cases = 0, n_wrong[8] = {0};
    if (argc > 1 && strcmp(argv[1], "over") == 0) {
        const struct qvp_rule rule = {28, 1, 1000};
        int64_t *sides = before_a_guard(9);
        for (int i = 0; i < 9; i++) {
            sides[i] = 100;
        }
        int64_t *counts = before_a_guard(10);
        return (int)qvp_counters_at(0)->count(&rule, sides, sides, 10, 2, counts);
    }
    while (fread(head, sizeof head, 1, stdin) == 1) {
        const struct qvp_rule rule = {head[0], head[1], head[2]};
        const int64_t n = head[4], refused = head[5];
        const int64_t *heights = read_numbers(n), *widths = read_numbers(n);
        const int64_t *counts = refused < 0 ? read_numbers(n) : NULL;
        const int64_t *sizes = refused < 0 ? read_numbers(2 * n) : NULL;
        const struct qvp_counters *way;
        n_cases++;
        for (int i = 0; (way = qvp_counters_at(i)) != NULL; i++) {
            int64_t *counted = before_a_guard(n), *resized = before_a_guard(2 * n);
            int is_right =
                way->count(&rule, heights, widths, n, head[3], counted) == refused &&
                way->resize(&rule, heights, widths, n, resized) == refused;
            if (is_right && refused < 0) {
                is_right = memcmp(counted, counts, 8 * (size_t)n) == 0 &&
                           memcmp(resized, sizes, 16 * (size_t)n) == 0;
            }
            n_wrong[i] += !is_right;
        }
    }
    for (int i = 0; qvp_counters_at(i) != NULL; i++) {
        printf("%s %ld %ld\n", qvp_counters_at(i)->name, n_cases, n_wrong[i]);
    }
    return 0;
}
