"""
The size rule in C doubles, for one size and for arrays.

The operations stand in exactly the published order (RULES: round each side, then
shrink by ``sqrt(h * w / max)`` or enlarge by ``sqrt(min / (h * w))``), because a
different order gives other sizes for some images.  ``rint`` rounds ties to even,
as Python's ``round`` does.  :mod:`qwenvl_prep.geometry` checks the arguments.
"""

from libc.math cimport ceil, floor, rint, sqrt
from libc.stdint cimport int64_t

cdef extern from "exact_division.h" nogil:
    double qvp_exact_division(int64_t numerator, int64_t denominator)

# Longest side over shortest side; above it no size is legal.
MAX_RATIO = 200
# Half of 2^53, the last area that doubles count one by one: a product of sides that
# rounds to less than min_pixels then still converts to double without loss.
MAX_PIXELS = 2**52
MAX_FACTOR = 2**16

cdef int64_t _MAX_RATIO = 200
cdef int64_t _INT64_MAX = 9223372036854775807

cdef struct Size:
    int64_t height
    int64_t width

cdef struct Rule:
    int64_t factor
    int64_t min_pixels
    int64_t max_pixels
    bint strict


# 1 where both sides are positive and their padded product stays inside int64.
cdef inline bint _is_countable(
    int64_t height, int64_t width, int64_t factor
) noexcept nogil:
    if height < 1 or width < 1:
        return False
    if height > _INT64_MAX - factor or width > _INT64_MAX - factor:
        return False
    return height + factor <= _INT64_MAX // (width + factor)


# Compares by division: 200 times a side could leave int64, a quotient cannot.
cdef inline bint _is_too_long(int64_t height, int64_t width) noexcept nogil:
    cdef int64_t longest = max(height, width)
    cdef int64_t shortest = min(height, width)
    cdef int64_t whole = longest // shortest
    return whole > _MAX_RATIO or (
        whole == _MAX_RATIO and longest % shortest != 0
    )


# Preconditions: _is_countable and not _is_too_long.
cdef Size _server_size(int64_t height, int64_t width, const Rule *rule) noexcept nogil:
    cdef int64_t factor = rule.factor
    cdef Size size
    cdef double beta
    size.height = <int64_t>rint(qvp_exact_division(height, factor)) * factor
    size.width = <int64_t>rint(qvp_exact_division(width, factor)) * factor
    if size.height * size.width > rule.max_pixels:
        beta = sqrt(qvp_exact_division(height * width, rule.max_pixels))
        size.height = <int64_t>floor(<double>height / beta / <double>factor) * factor
        size.width = <int64_t>floor(<double>width / beta / <double>factor) * factor
    elif size.height * size.width < rule.min_pixels:
        # Exact: the product is below 2^53 here.  Under 200:1, sides whose rounded
        # area is below 2^52 lost far less than half of it by rounding down.
        beta = sqrt(<double>rule.min_pixels / <double>(height * width))
        size.height = <int64_t>ceil(<double>height * beta / <double>factor) * factor
        size.width = <int64_t>ceil(<double>width * beta / <double>factor) * factor
    return size


# The largest area that fits inside the server's own box (each side lifted to one
# factor) and the cap.  Largest area inside a box is the same as giving up least of
# it, so this is the legal size closest to the server's; and because a larger cap
# only adds candidates, the area never falls as the cap rises.
#
# Precondition: max_pixels holds at least one factor x factor square.
cdef Size _strict_size(int64_t height, int64_t width, const Rule *rule) noexcept nogil:
    cdef Size size = _server_size(height, width, rule)
    cdef int64_t factor = rule.factor
    cdef int64_t cap = rule.max_pixels // (factor * factor)
    cdef bint upright = height >= width
    cdef int64_t long_box, short_box, long_side, short_side
    cdef int64_t best_long = 0, best_short = 0
    long_box = max((size.height if upright else size.width) // factor, 1)
    short_box = max((size.width if upright else size.height) // factor, 1)
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
    size.height = (best_long if upright else best_short) * factor
    size.width = (best_short if upright else best_long) * factor
    return size


cdef inline Size _size(int64_t height, int64_t width, const Rule *rule) noexcept nogil:
    if rule.strict:
        return _strict_size(height, width, rule)
    return _server_size(height, width, rule)


cdef Rule _rule(
    int64_t factor, int64_t min_pixels, int64_t max_pixels, bint strict
) except *:
    cdef Rule rule
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
    rule.strict = strict
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
    cdef Rule rule = _rule(factor, min_pixels, max_pixels, strict)
    if not _is_countable(height, width, factor):
        raise ValueError(
            f"Expected sides of at least 1 whose product stays below 2^63 "
            f"but received {height} x {width}"
        )
    if _is_too_long(height, width):
        return None
    cdef Size size = _size(height, width, &rule)
    return size.height, size.width


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
    cdef Rule rule = _rule(factor, min_pixels, max_pixels, strict)
    cdef Py_ssize_t n = heights.shape[0]
    cdef Py_ssize_t i
    cdef Py_ssize_t refused = -1
    cdef Size size
    if widths.shape[0] != n or sizes.shape[0] != n or sizes.shape[1] != 2:
        raise ValueError("Expected heights, widths and sizes of the same length")
    with nogil:  # not interacting with Python objects from here, release the GIL
        for i in range(n):
            if not _is_countable(heights[i], widths[i], factor):
                refused = i
                break
            if _is_too_long(heights[i], widths[i]):
                sizes[i, 0] = 0
                sizes[i, 1] = 0
                continue
            size = _size(heights[i], widths[i], &rule)
            sizes[i, 0] = size.height
            sizes[i, 1] = size.width
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
    cdef Rule rule = _rule(factor, min_pixels, max_pixels, False)
    cdef Py_ssize_t n = heights.shape[0]
    cdef Py_ssize_t i
    cdef Py_ssize_t refused = -1
    cdef Size size
    if widths.shape[0] != n or counts.shape[0] != n:
        raise ValueError("Expected heights, widths and counts of the same length")
    with nogil:  # not interacting with Python objects from here, release the GIL
        for i in range(n):
            if not _is_countable(heights[i], widths[i], factor):
                refused = i
                break
            if _is_too_long(heights[i], widths[i]):
                counts[i] = 0
                continue
            size = _size(heights[i], widths[i], &rule)
            counts[i] = (size.height // factor) * (size.width // factor)
            counts[i] += marker_tokens
    return refused
