/*
 * Preloaded: makes chosen allocations of watched code fail, and counts what it holds.
 *
 * Only a call that returns into a watched range of addresses counts, so no allocation
 * of the interpreter or of another library ever fails.  For a process in which one
 * thread allocates.  test_allocation_failures.py builds and drives it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

enum { RANGES = 32, HELD = 1024 };

static struct {
    uintptr_t begin, end;
} ranges[RANGES];
static int range_count;
static void *held[HELD];
static long held_count, most_held;
static long made, first_to_fail, last_to_fail;

/* Returns 0 where there is no more room. */
int watch(uintptr_t begin, uintptr_t end) {
    if (range_count == RANGES) {
        return 0;
    }
    ranges[range_count].begin = begin;
    ranges[range_count].end = end;
    range_count++;
    return 1;
}

/* Counts anew from 1 and fails the allocations from first to last; 0, 0 fails none. */
void fail_allocations(long first, long last) {
    made = 0;
    most_held = held_count;
    first_to_fail = first;
    last_to_fail = last;
}

long allocations_made(void) {
    return made;
}

/* Taken and not given back, ever; and the most at one time since counting anew. */
long allocations_held(void) {
    return held_count;
}

long allocations_held_at_most(void) {
    return most_held;
}

static int is_watched(const void *caller) {
    for (int i = 0; i < range_count; i++) {
        if ((uintptr_t)caller >= ranges[i].begin && (uintptr_t)caller < ranges[i].end) {
            return 1;
        }
    }
    return 0;
}

static int is_to_fail(int watched) {
    if (!watched) {
        return 0;
    }
    made++;
    return first_to_fail <= made && made <= last_to_fail;
}

static void *hold(void *memory, int watched) {
    if (watched && memory) {
        if (held_count == HELD) {
            abort();
        }
        held[held_count++] = memory;
        most_held = held_count > most_held ? held_count : most_held;
    }
    return memory;
}

static void release(const void *memory) {
    for (long i = 0; i < held_count; i++) {
        if (held[i] == memory) {
            held[i] = held[--held_count];
            return;
        }
    }
}

/* The function itself; NULL while dlsym looks for it and allocates, which it may. */
#define FIND(name)                                                                    \
    static __typeof__(name) *real;                                                    \
    static int is_searching;                                                          \
    if (!real && !is_searching) {                                                     \
        is_searching = 1;                                                             \
        real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);                           \
    }

#define CALLER __builtin_extract_return_addr(__builtin_return_address(0))

void *malloc(size_t size) {
    FIND(malloc)
    const int watched = is_watched(CALLER);
    if (!real || is_to_fail(watched)) {
        errno = ENOMEM;
        return NULL;
    }
    return hold(real(size), watched);
}

void *calloc(size_t count, size_t size) {
    FIND(calloc)
    const int watched = is_watched(CALLER);
    if (!real || is_to_fail(watched)) {
        errno = ENOMEM;
        return NULL;
    }
    return hold(real(count, size), watched);
}

void *realloc(void *memory, size_t size) {
    FIND(realloc)
    const int watched = is_watched(CALLER);
    if (!real || is_to_fail(watched)) {
        errno = ENOMEM;
        return NULL;
    }
    void *moved = real(memory, size);
    if (moved) {
        release(memory);
    }
    return hold(moved, watched);
}

void *aligned_alloc(size_t alignment, size_t size) {
    FIND(aligned_alloc)
    const int watched = is_watched(CALLER);
    if (!real || is_to_fail(watched)) {
        errno = ENOMEM;
        return NULL;
    }
    return hold(real(alignment, size), watched);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    FIND(posix_memalign)
    const int watched = is_watched(CALLER);
    if (!real || is_to_fail(watched)) {
        return ENOMEM;
    }
    const int status = real(memory, alignment, size);
    if (status == 0) {
        hold(*memory, watched);
    }
    return status;
}

void free(void *memory) {
    FIND(free)
    release(memory);
    if (real) {
        real(memory);
    }
}
