"""
The size rule in C doubles, for one size and for arrays; here memory safety is owned.

The server's rule stands in ``size_rule.h``, the strict one below.
:mod:`qwenvl_prep.geometry` checks the arguments.
"""

from libc.math cimport sqrt
from libc.stdint cimport int64_t

cdef extern from "size_rule.h" nogil:
    int QVP_MAX_RATIO
    cdef struct qvp_rule:
        int64_t factor
        int64_t min_pixels
        int64_t max_pixels
    cdef struct qvp_grid:
        int64_t rows
        int64_t columns
    bint qvp_is_countable(int64_t height, int64_t width, int64_t factor)
    bint qvp_is_too_long(int64_t height, int64_t width)
    qvp_grid qvp_server_grid(int64_t height, int64_t width, const qvp_rule *rule)

cdef extern from "many_sizes.h" nogil:
    cdef struct qvp_counters:
        const char *name
        int64_t (*count)(
            const qvp_rule *rule,
            const int64_t *heights,
            const int64_t *widths,
            int64_t n,
            int64_t markers,
            int64_t *counts,
        ) noexcept nogil
        int64_t (*resize)(
            const qvp_rule *rule,
            const int64_t *heights,
            const int64_t *widths,
            int64_t n,
            int64_t *sizes,
        ) noexcept nogil
    const qvp_counters *qvp_counters_at(int i)

# Longest side over shortest side; above it no size is legal.
MAX_RATIO = QVP_MAX_RATIO
# Half of 2^53, the last area that doubles count one by one: a product of sides that
# rounds to less than min_pixels then still converts to double without loss.
MAX_PIXELS = 2**52
MAX_FACTOR = 2**16

# How arrays are counted; changed by use_backend alone.
cdef const qvp_counters *_counters = qvp_counters_at(0)


def backends():
    """Names of the ways to count arrays that this CPU can run, fastest first."""
    cdef const qvp_counters *counters
    names = []
    while True:
        counters = qvp_counters_at(<int>len(names))
        if counters == NULL:
            return names
        names.append(counters.name.decode("ascii"))


def backend():
    """Name of the way in use."""
    return _counters.name.decode("ascii")


def use_backend(str name):
    """
    Count arrays another way from now on; for tests and for reports of faults.

    Raises
    ------
    ValueError
        If this CPU cannot run what has that name.
    """
    global _counters
    names = backends()
    if name not in names:
        raise ValueError(f"Expected one of {', '.join(names)} but received {name}")
    _counters = qvp_counters_at(<int>names.index(name))


# The largest area that fits inside the server's own box (each side lifted to one
# factor) and the cap.  Largest area inside a box is the same as giving up least of
# it, so this is the legal size closest to the server's; and because a larger cap
# only adds candidates, the area never falls as the cap rises.
#
# Preconditions: those of qvp_server_grid, and max_pixels holds at least one
# factor x factor square.
cdef qvp_grid _strict_grid(
    int64_t height, int64_t width, const qvp_rule *rule
) noexcept nogil:
    cdef qvp_grid grid = qvp_server_grid(height, width, rule)
    cdef int64_t cap = rule.max_pixels // (rule.factor * rule.factor)
    cdef bint upright = height >= width
    cdef int64_t long_box, short_box, long_side, short_side
    cdef int64_t best_long = 0, best_short = 0
    long_box = max(grid.rows if upright else grid.columns, 1)
    short_box = max(grid.columns if upright else grid.rows, 1)
    if long_box * short_box <= cap:
        best_long = long_box
        best_short = short_box
    elif height == width:
        # A square stays square, so that turning the image never changes its size.
        best_long = <int64_t>sqrt(<double>cap)  # exact: cap is below 2^53
        best_short = best_long
    else:
        short_side = min(short_box, cap)
        while short_side >= 1 and short_side * long_box > best_long * best_short:
            long_side = min(long_box, cap // short_side)
            if long_side * short_side > best_long * best_short:
                best_long = long_side
                best_short = short_side
            short_side -= 1
    grid.rows = best_long if upright else best_short
    grid.columns = best_short if upright else best_long
    return grid


# Parameters and result are those of qvp_counters.resize.
cdef int64_t _strict_sizes(
    const qvp_rule *rule,
    const int64_t *heights,
    const int64_t *widths,
    int64_t n,
    int64_t *sizes,
) noexcept nogil:
    cdef qvp_grid grid
    cdef int64_t i
    for i in range(n):
        if not qvp_is_countable(heights[i], widths[i], rule.factor):
            return i
        grid.rows = 0
        grid.columns = 0
        if not qvp_is_too_long(heights[i], widths[i]):
            grid = _strict_grid(heights[i], widths[i], rule)
        sizes[2 * i] = grid.rows * rule.factor
        sizes[2 * i + 1] = grid.columns * rule.factor
    return -1


cdef qvp_rule _rule(
    int64_t factor, int64_t min_pixels, int64_t max_pixels, bint strict
) except *:
    cdef qvp_rule rule
    # Beside the arithmetic that relies on them, whatever the caller checked before.
    if not 1 <= factor <= MAX_FACTOR:
        raise ValueError(f"Expected factor in 1..{MAX_FACTOR} but received {factor}")
    if not 1 <= min_pixels <= max_pixels <= MAX_PIXELS:
        raise ValueError(
            f"Expected 1 <= min_pixels <= max_pixels <= {MAX_PIXELS} "
            f"but received {min_pixels} and {max_pixels}"
        )
    if strict and max_pixels < factor * factor:
        raise ValueError(
            f"Expected max_pixels of at least {factor * factor} (one patch of "
            f"{factor}x{factor}) for the strict rule but received {max_pixels}"
        )
    rule.factor = factor
    rule.min_pixels = min_pixels
    rule.max_pixels = max_pixels
    return rule


def smart_resize(
    int64_t height,
    int64_t width,
    int64_t factor,
    int64_t min_pixels,
    int64_t max_pixels,
    bint strict,
):
    """
    Apply the size rule to one size.

    Returns
    -------
    tuple of (int, int) or None
        ``(height, width)``; None where the ratio is above ``MAX_RATIO``.

    Raises
    ------
    ValueError
        If a side is not positive, or the sides' product leaves int64.
    """
    cdef qvp_rule rule = _rule(factor, min_pixels, max_pixels, strict)
    if not qvp_is_countable(height, width, factor):
        raise ValueError(
            f"Expected sides of at least 1 whose product stays below 2^63 "
            f"but received {height} x {width}"
        )
    if qvp_is_too_long(height, width):
        return None
    cdef qvp_grid grid
    if strict:
        grid = _strict_grid(height, width, &rule)
    else:
        grid = qvp_server_grid(height, width, &rule)
    return grid.rows * factor, grid.columns * factor


def smart_resize_many(
    const int64_t[::1] heights,
    const int64_t[::1] widths,
    int64_t[:, ::1] sizes,
    int64_t factor,
    int64_t min_pixels,
    int64_t max_pixels,
    bint strict,
):
    """
    Apply the size rule to arrays of sizes, without the GIL.

    Parameters
    ----------
    heights, widths : int64 (n,)
        Pixels.
    sizes : int64 (n, 2), written
        ``(height, width)`` rows; ``(0, 0)`` where the ratio is above ``MAX_RATIO``.

    Returns
    -------
    int
        Index of the first size that cannot be counted (then *sizes* holds nothing
        useful), or -1.
    """
    cdef qvp_rule rule = _rule(factor, min_pixels, max_pixels, strict)
    cdef int64_t n = heights.shape[0]
    cdef int64_t refused
    if widths.shape[0] != n or sizes.shape[0] != n or sizes.shape[1] != 2:
        raise ValueError("Expected heights, widths and sizes of the same length")
    if n == 0:  # there is no first element to point to
        return -1
    with nogil:  # not interacting with Python objects from here, release the GIL
        if strict:
            refused = _strict_sizes(
                &rule, &heights[0], &widths[0], n, &sizes[0, 0]
            )
        else:
            refused = _counters.resize(
                &rule, &heights[0], &widths[0], n, &sizes[0, 0]
            )
    return refused


def billed_tokens_many(
    const int64_t[::1] heights,
    const int64_t[::1] widths,
    int64_t[::1] counts,
    int64_t factor,
    int64_t min_pixels,
    int64_t max_pixels,
    int64_t marker_tokens,
):
    """
    Count what each size is billed by the server rule, without the GIL.

    Parameters and result are those of :func:`smart_resize_many`, with one count
    for each size in *counts*: its squares of factor x factor and *marker_tokens*,
    or 0 where the ratio is above ``MAX_RATIO``.
    """
    cdef qvp_rule rule = _rule(factor, min_pixels, max_pixels, False)
    cdef int64_t n = heights.shape[0]
    cdef int64_t refused
    if widths.shape[0] != n or counts.shape[0] != n:
        raise ValueError("Expected heights, widths and counts of the same length")
    # No count is above twice that many, so that the sum stays inside int64.
    if not -MAX_PIXELS <= marker_tokens <= MAX_PIXELS:
        raise ValueError(
            f"Expected at most {MAX_PIXELS} marker_tokens but received {marker_tokens}"
        )
    if n == 0:  # there is no first element to point to
        return -1
    with nogil:  # not interacting with Python objects from here, release the GIL
        refused = _counters.count(
            &rule, &heights[0], &widths[0], n, marker_tokens, &counts[0]
        )
    return refused
