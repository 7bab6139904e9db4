"""
What images are billed under caps of their own, and the largest scale of all caps.

Here memory safety is owned: every length is compared before the GIL is released.

Under a cap of ``c`` squares an image that is shrunk becomes ``floor(height / beta)``
by ``floor(width / beta)`` squares, in the published order of operations; a side of 0
is lifted to 1, and a ratio beyond the model's is cut.  Division, root and rounding
never fall as their argument rises, so neither does the area: :func:`_area`.

The server enlarges what is below its least area.  It then rounds both sides up, to at
least one square more on each, and that is above every cap under which the smaller
area came out.  So a cap is kept exactly where the area reaches the least; from there
on the area is what is billed.  :mod:`qwenvl_prep.shrink` checks the arguments.
"""

from libc.math cimport INFINITY, ceil, nextafter, rint, sqrt
from libc.stdint cimport int64_t

cdef extern from "exact_division.h" nogil:
    double qvp_exact_division(int64_t numerator, int64_t denominator)

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

# Rows of integers and of floats that the search works in, for each image.
WORK_ROWS = 9
# Squares of one image and number of images at most: all sums stay inside int64.
MAX_SQUARES = 2**31
MAX_IMAGES = 2**31

cdef int64_t _MAX_SQUARES = 2147483648
cdef int64_t _MAX_PIXELS = 4503599627370496
cdef int64_t _MAX_FACTOR = 65536

cdef struct Rule:
    qvp_rule server
    int64_t factor  # the server's
    int64_t max_ratio

cdef struct Size:
    int64_t height
    int64_t width

cdef struct Squares:
    int64_t height
    int64_t width
    bint is_plain  # neither lifted nor cut

# The images of one search, and what is found out about them on the way.
cdef struct Images:
    Rule rule
    Py_ssize_t count
    const int64_t *heights
    const int64_t *widths
    const int64_t *natural
    const double *shares
    int64_t *least  # squares that an image keeps; its natural ones where it is fixed
    int64_t *floor_cap  # 0: not looked for yet
    int64_t *floor_area


# What an image that has to be shrunk becomes under a cap in pixels: the strict rule's
# size, in squares, within the model's ratio.
#
# Preconditions: countable, not above the ratio, its rounded area above the cap, and
# factor * factor <= cap <= 2^52.
cdef inline Squares _squares(
    int64_t height, int64_t width, int64_t cap, const Rule *rule
) noexcept nogil:
    cdef double factor = <double>rule.factor
    cdef double beta = sqrt(qvp_exact_division(height * width, cap))
    cdef int64_t room
    cdef Squares made
    # Both are positive, where a cast rounds down.
    made.height = <int64_t>(<double>height / beta / factor)
    made.width = <int64_t>(<double>width / beta / factor)
    made.is_plain = True
    if made.height < 1 or made.width < 1:
        made.is_plain = False
        made.height = max(made.height, 1)
        made.width = max(made.width, 1)
        # Only a lifted side takes the product above the cap.
        room = cap // (rule.factor * rule.factor)
        if made.height * made.width > room:
            made.height = min(made.height, room)
            made.width = min(made.width, room)
    if made.height > rule.max_ratio * made.width:
        made.is_plain = False
        made.height = rule.max_ratio * made.width
    elif made.width > rule.max_ratio * made.height:
        made.is_plain = False
        made.width = rule.max_ratio * made.height
    return made


cdef inline int64_t _area(
    int64_t height, int64_t width, int64_t cap, const Rule *rule
) noexcept nogil:
    cdef Squares made = _squares(height, width, cap * rule.factor * rule.factor, rule)
    return made.height * made.width


cdef inline int64_t _rounded_squares(
    int64_t height, int64_t width, int64_t factor
) noexcept nogil:
    cdef int64_t first = <int64_t>rint(qvp_exact_division(height, factor))
    return first * <int64_t>rint(qvp_exact_division(width, factor))


cdef inline Size _server_size(
    int64_t height, int64_t width, const Rule *rule
) noexcept nogil:
    cdef qvp_grid grid = qvp_server_grid(height, width, &rule.server)
    cdef Size size
    size.height = grid.rows * rule.factor
    size.width = grid.columns * rule.factor
    return size


# As sizes.py asks before it sends another size: no side grows, no ratio breaks.
cdef inline bint _is_sendable(
    const Size *size, int64_t height, int64_t width
) noexcept nogil:
    return (
        1 <= size.height <= height
        and 1 <= size.width <= width
        and not qvp_is_too_long(size.height, size.width)
    )


# The squares that are billed, by the same steps as sizes.py takes.
#
# Preconditions: countable, not above the ratio, factor * factor <= cap <= max_pixels.
cdef int64_t _billed(
    int64_t height, int64_t width, int64_t cap, const Rule *rule
) noexcept nogil:
    cdef int64_t square = rule.factor * rule.factor
    cdef Squares made
    cdef Size sent, lifted
    cdef qvp_grid grid
    sent.height = height
    sent.width = width
    if _rounded_squares(height, width, rule.factor) * square > cap:
        if cap == rule.server.max_pixels:
            lifted = _server_size(height, width, rule)
            if _is_sendable(&lifted, height, width):
                sent = lifted
        else:
            made = _squares(height, width, cap, rule)
            sent.height = made.height * rule.factor
            sent.width = made.width * rule.factor
            if rule.server.min_pixels <= sent.height * sent.width:
                return made.height * made.width  # on the grid already
            lifted = _server_size(sent.height, sent.width, rule)
            if lifted.height * lifted.width <= cap and _is_sendable(
                &lifted, height, width
            ):
                sent = lifted
    grid = qvp_server_grid(sent.height, sent.width, &rule.server)
    return grid.rows * grid.columns


cdef Rule _rule(
    int64_t factor, int64_t min_pixels, int64_t max_pixels, int64_t max_ratio
) except *:
    cdef Rule rule
    # Beside the arithmetic that relies on them, whatever the caller checked before.
    if not 1 <= factor <= _MAX_FACTOR:
        raise ValueError(f"Expected factor in 1..{_MAX_FACTOR} but received {factor}")
    if not 1 <= min_pixels <= max_pixels <= _MAX_PIXELS:
        raise ValueError(
            f"Expected 1 <= min_pixels <= max_pixels <= {_MAX_PIXELS} "
            f"but received {min_pixels} and {max_pixels}"
        )
    if max_pixels < factor * factor:
        raise ValueError(
            f"Expected max_pixels of at least {factor * factor} but received "
            f"{max_pixels}"
        )
    if not 1 <= max_ratio <= QVP_MAX_RATIO:
        raise ValueError(
            f"Expected max_ratio in 1..{QVP_MAX_RATIO} but received {max_ratio}"
        )
    rule.server.factor = factor
    rule.server.min_pixels = min_pixels
    rule.server.max_pixels = max_pixels
    rule.factor = factor
    rule.max_ratio = max_ratio
    return rule


def vision_tokens_under(
    const int64_t[::1] heights,
    const int64_t[::1] widths,
    const int64_t[::1] caps,
    int64_t[::1] counts,
    int64_t factor,
    int64_t min_pixels,
    int64_t max_pixels,
    int64_t max_ratio,
):
    """
    Count the squares that each size is billed under its own cap, without the GIL.

    Parameters
    ----------
    heights, widths : int64 (n,)
        Pixels.
    caps : int64 (n,)
        Squares; never less than *min_pixels* hold.
    counts : int64 (n,), written
        Squares of factor x factor; 0 where the ratio is above 200, and more than the
        cap where the server enlarges above it.

    Returns
    -------
    int
        Index of the first size or cap out of range (then *counts* holds nothing
        useful), or -1.
    """
    cdef Rule rule = _rule(factor, min_pixels, max_pixels, max_ratio)
    cdef Py_ssize_t n = heights.shape[0]
    cdef Py_ssize_t i
    cdef Py_ssize_t refused = -1
    cdef int64_t square = factor * factor
    cdef int64_t cap
    if widths.shape[0] != n or caps.shape[0] != n or counts.shape[0] != n:
        raise ValueError("Expected heights, widths, caps and counts of the same length")
    with nogil:  # not interacting with Python objects from here, release the GIL
        for i in range(n):
            # Above, a product with the square would leave int64.
            cap = min(max(caps[i], 0), max_pixels // square + 1) * square
            if not qvp_is_countable(heights[i], widths[i], factor) or cap < max(
                min_pixels, square
            ):
                refused = i
                break
            if qvp_is_too_long(heights[i], widths[i]):
                counts[i] = 0
                continue
            counts[i] = _billed(heights[i], widths[i], min(cap, max_pixels), &rule)
    return refused


# ------------------------------------------------------------------- one image's steps


# Gives the least cap above this one that yields more squares; the natural squares
# where no smaller cap does.  `area` is what this cap yields, in and out.
cdef int64_t _next_cap(
    const Images *images, Py_ssize_t i, int64_t cap, int64_t *area
) noexcept nogil:
    cdef const Rule *rule = &images.rule
    cdef int64_t height = images.heights[i]
    cdef int64_t width = images.widths[i]
    cdef int64_t natural = images.natural[i]
    cdef int64_t least = area[0]
    cdef int64_t below = cap  # yields no more
    cdef int64_t above, stride
    cdef double ratio, first, second
    cdef Squares made
    if cap + 1 >= natural:
        area[0] = natural
        return natural
    # Where one side gains a square; by doubles, so it may be one off either way.
    made = _squares(height, width, cap * rule.factor * rule.factor, rule)
    ratio = <double>width / <double>height
    first = <double>(made.height + 1) * <double>(made.height + 1) * ratio
    second = <double>(made.width + 1) * <double>(made.width + 1) / ratio
    above = cap + 1
    if made.is_plain:
        above = <int64_t>min(ceil(min(first, second)), <double>natural)
        above = max(above, cap + 1)
    stride = 1
    while above < natural and _area(height, width, above, rule) <= least:
        below = above
        above += stride
        stride *= 2
    above = min(above, natural)
    stride = 1
    while above - stride > below:
        if _area(height, width, above - stride, rule) <= least:
            below = above - stride
            break
        above -= stride
        stride *= 2
    while above - below > 1:
        cap = below + (above - below) // 2
        if _area(height, width, cap, rule) <= least:
            below = cap
        else:
            above = cap
    area[0] = natural if above == natural else _area(height, width, above, rule)
    return above


# Finds the least cap that keeps the floor.
cdef void _find_floor(const Images *images, Py_ssize_t i) noexcept nogil:
    cdef int64_t least = images.least[i]
    cdef int64_t natural = images.natural[i]
    cdef int64_t cap = least
    cdef int64_t area = natural
    if cap < natural:
        area = _area(images.heights[i], images.widths[i], cap, &images.rule)
    else:
        cap = natural
    while area < least:
        cap = _next_cap(images, i, cap, &area)
    images.floor_cap[i] = cap
    images.floor_area[i] = area


# The squares under a share's whole part; the floor's where that is below it.
cdef inline int64_t _kept(
    const Images *images, Py_ssize_t i, int64_t cap
) noexcept nogil:
    cdef int64_t least = images.least[i]
    cdef int64_t area
    if cap >= images.natural[i]:
        return images.natural[i]
    if cap >= least:
        area = _area(images.heights[i], images.widths[i], cap, &images.rule)
        if area >= least:
            return area
    if images.floor_cap[i] == 0:
        _find_floor(images, i)
    return images.floor_area[i]


cdef inline int64_t _share(
    const Images *images, Py_ssize_t i, double scale
) noexcept nogil:
    cdef double share = scale * images.shares[i]
    if share >= <double>images.natural[i]:
        return images.natural[i]
    return <int64_t>share


# ------------------------------------------------------------------- the largest scale


# Everything about the images between the two ends of a bracket, one row each.
cdef struct Bracket:
    Py_ssize_t count
    int64_t *index
    int64_t *low_cap
    int64_t *low_area
    int64_t *high_cap
    int64_t *high_area
    int64_t *cap
    int64_t *area


# Counts the squares at a scale of those images that are not settled yet.
cdef int64_t _count(
    const Images *images, Bracket *open, double scale
) noexcept nogil:
    cdef int64_t total = 0
    cdef int64_t cap, area
    cdef Py_ssize_t k
    for k in range(open.count):
        cap = _share(images, open.index[k], scale)
        # Between two caps that were counted, counting again can be saved.
        if cap == open.high_cap[k]:
            area = open.high_area[k]
        elif cap == open.low_cap[k]:
            area = open.low_area[k]
        else:
            area = _kept(images, open.index[k], cap)
        open.cap[k] = cap
        open.area[k] = area
        total += area
    return total


# Takes what was counted as the low or the high end, and lays aside the images that
# have the same squares at both: between the ends, they have them everywhere.
cdef int64_t _narrow(
    Bracket *open, bint is_low, int64_t *areas
) noexcept nogil:
    cdef int64_t settled = 0
    cdef int64_t low_cap, low_area, high_cap, high_area
    cdef Py_ssize_t k
    cdef Py_ssize_t left = 0
    for k in range(open.count):
        low_cap, low_area = open.low_cap[k], open.low_area[k]
        high_cap, high_area = open.high_cap[k], open.high_area[k]
        if is_low:
            low_cap, low_area = open.cap[k], open.area[k]
        else:
            high_cap, high_area = open.cap[k], open.area[k]
        if low_area == high_area:
            areas[open.index[k]] = low_area
            settled += low_area
            continue
        open.index[left] = open.index[k]
        open.low_cap[left], open.low_area[left] = low_cap, low_area
        open.high_cap[left], open.high_area[left] = high_cap, high_area
        left += 1
    open.count = left
    return settled


# The largest double at which the squares are at most `budget`; -1 where not even the
# floors are.  `areas` then holds what each image has there.
#
# Each image's squares never fall as the scale rises, so the total does not either and
# a bracket around the largest scale stays one.  It is narrowed by false position
# (Illinois), with a halving now and then that bounds the number of rounds.
cdef double _largest_scale(
    const Images *images,
    Bracket *open,
    double low,
    double high,
    int64_t high_total,
    int64_t budget,
    int64_t *areas,
) noexcept nogil:
    cdef double guess, low_gap, high_gap
    cdef double shares = 0.0
    cdef int64_t settled = 0
    cdef int64_t total
    cdef int rounds = 0
    cdef int last_side = 0
    cdef bint is_low_known = False
    cdef Py_ssize_t i
    for i in range(images.count):
        shares += images.shares[i]
    low_gap = -<double>budget
    high_gap = <double>(high_total - budget)
    while True:
        if not is_low_known and rounds >= 2:
            guess = low  # all at their floors, if they fit at all
        elif rounds == 0:
            guess = <double>budget / shares
        elif rounds % 4 == 3:
            guess = low + (high - low) / 2
        else:
            guess = low + (high - low) * (low_gap / (low_gap - high_gap))
        if not low < guess < high and is_low_known:
            guess = low + (high - low) / 2
            if not low < guess < high:
                break  # neighbours
        guess = min(max(guess, low), high)
        rounds += 1
        total = settled + _count(images, open, guess)
        if total <= budget:
            low = guess
            is_low_known = True
            settled += _narrow(open, True, areas)
            low_gap = <double>(total - budget)
            if last_side == -1:
                high_gap /= 2
            last_side = -1
        elif guess == low:
            for i in range(images.count):
                areas[i] = _kept(images, i, _share(images, i, low))
            return -1.0
        else:
            high = guess
            high_gap = <double>(total - budget)
            if is_low_known:
                settled += _narrow(open, False, areas)
            else:
                for i in range(open.count):
                    open.high_cap[i] = open.cap[i]
                    open.high_area[i] = open.area[i]
            if last_side == 1:
                low_gap /= 2
            last_side = 1
        # Nothing short of an exact hit has a gap of 0; keep the quotient sound.
        low_gap = min(low_gap, -0.5)
        high_gap = max(high_gap, 0.5)
        if open.count == 0:
            break
    for i in range(open.count):
        areas[open.index[i]] = open.low_area[i]
    return low


# ------------------------------------------------------------------- what is left over


cdef struct Heap:
    Py_ssize_t count
    int64_t *index
    double *key


# Whether the first is served before the second: farthest below its share, and by
# what does not depend on the order, before what does.
cdef inline bint _is_before(
    const Images *images, int64_t i, double first, int64_t j, double second
) noexcept nogil:
    if first != second:
        return first < second
    if images.heights[i] != images.heights[j]:
        return images.heights[i] < images.heights[j]
    if images.widths[i] != images.widths[j]:
        return images.widths[i] < images.widths[j]
    if images.shares[i] != images.shares[j]:
        return images.shares[i] > images.shares[j]
    return i < j


cdef void _sink(const Images *images, Heap *heap, Py_ssize_t at) noexcept nogil:
    cdef int64_t index = heap.index[at]
    cdef double key = heap.key[at]
    cdef Py_ssize_t child
    while True:
        child = 2 * at + 1
        if child >= heap.count:
            break
        if child + 1 < heap.count and _is_before(
            images,
            heap.index[child + 1],
            heap.key[child + 1],
            heap.index[child],
            heap.key[child],
        ):
            child += 1
        if not _is_before(images, heap.index[child], heap.key[child], index, key):
            break
        heap.index[at] = heap.index[child]
        heap.key[at] = heap.key[child]
        at = child
    heap.index[at] = index
    heap.key[at] = key


cdef void _order(const Images *images, Heap *heap) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(heap.count // 2 - 1, -1, -1):
        _sink(images, heap, k)


# Drops what gains more than is left; 1 where something was dropped.
cdef bint _drop(
    Heap *heap, const int64_t *areas, const int64_t *next_area, int64_t left
) noexcept nogil:
    cdef Py_ssize_t k
    cdef Py_ssize_t kept = 0
    cdef int64_t i
    for k in range(heap.count):
        i = heap.index[k]
        if next_area[i] - areas[i] <= left:
            heap.index[kept] = i
            heap.key[kept] = heap.key[k]
            kept += 1
    if kept == heap.count:
        return False
    heap.count = kept
    return True


# Gives steps away until no image can take its next one.  An image's next step is
# looked for when its turn comes; until then next_cap is 0 and next_area a bound.
cdef void _give(
    const Images *images,
    Heap *heap,
    int64_t *caps,
    int64_t *areas,
    int64_t *next_cap,
    int64_t *next_area,
    int64_t left,
) noexcept nogil:
    cdef int64_t i
    cdef int64_t gain
    cdef int64_t square = images.rule.factor * images.rule.factor
    cdef int64_t dropped_at = left
    cdef Squares made
    if left < 1:
        return
    heap.count = 0
    for i in range(images.count):
        if areas[i] >= images.natural[i]:
            continue
        # A step gains at least one row or column, or all that is missing.
        made = _squares(
            images.heights[i], images.widths[i], caps[i] * square, &images.rule
        )
        gain = min(made.height, made.width) if made.is_plain else 1
        gain = min(gain, images.natural[i] - areas[i])
        if gain > left:
            continue
        next_cap[i] = 0
        next_area[i] = areas[i] + gain
        heap.index[heap.count] = i
        heap.key[heap.count] = <double>areas[i] / images.shares[i]
        heap.count += 1
    _order(images, heap)
    while heap.count > 0:
        i = heap.index[0]
        if next_cap[i] == 0:
            next_area[i] = areas[i]
            next_cap[i] = _next_cap(images, i, caps[i], &next_area[i])
        if next_area[i] - areas[i] <= left:
            left -= next_area[i] - areas[i]
            caps[i] = next_cap[i]
            areas[i] = next_area[i]
            if areas[i] < images.natural[i]:
                next_cap[i] = 0
                next_area[i] = areas[i] + 1
                heap.key[0] = <double>areas[i] / images.shares[i]
                _sink(images, heap, 0)
                continue
        # What does not fit now never will, for what is left only falls: so when it
        # has fallen, all of those go at once.
        elif left < dropped_at:
            dropped_at = left
            if _drop(heap, areas, next_area, left):
                _order(images, heap)
            continue
        heap.count -= 1
        if heap.count:
            heap.index[0] = heap.index[heap.count]
            heap.key[0] = heap.key[heap.count]
            _sink(images, heap, 0)


# ------------------------------------------------------------------------- the search


# Looks at every image once; -1, or the index of the first that cannot be searched.
cdef Py_ssize_t _ready(
    Images *images, Bracket *open, const int64_t[::1] floors
) noexcept nogil:
    cdef Rule *rule = &images.rule
    cdef int64_t square = rule.factor * rule.factor
    cdef int64_t least = max((rule.server.min_pixels + square - 1) // square, 1)
    # The server enlarges sqrt(least * ratio) by sqrt(least / ratio) squares, each
    # rounded up, and no ratio is above 200: what has more squares was not enlarged.
    cdef double most = <double>least + 15.0 * sqrt(<double>least) + 2.0
    cdef int64_t natural
    cdef Py_ssize_t i
    for i in range(images.count):
        natural = images.natural[i]
        if (
            not qvp_is_countable(images.heights[i], images.widths[i], rule.factor)
            or qvp_is_too_long(images.heights[i], images.widths[i])
            or not 1 <= natural <= _MAX_PIXELS // square
            or natural > _MAX_SQUARES
            or not 0.0 < images.shares[i] < INFINITY
        ):
            return i
        images.least[i] = min(max(least, floors[i]), natural)
        # What the server enlarges cannot be sent for less.
        if <double>natural <= most and natural > _rounded_squares(
            images.heights[i], images.widths[i], rule.factor
        ):
            images.least[i] = natural
        images.floor_cap[i] = 0
        open.index[i] = i
        open.low_cap[i] = -1
        open.low_area[i] = -1
        open.high_cap[i] = natural
        open.high_area[i] = natural
    return -1


def fit_scale(
    const int64_t[::1] heights,
    const int64_t[::1] widths,
    const int64_t[::1] natural,
    const double[::1] shares,
    const int64_t[::1] floors,
    int64_t[::1] caps,
    int64_t[::1] areas,
    int64_t[:, ::1] work,
    double[::1] keys,
    int64_t factor,
    int64_t min_pixels,
    int64_t max_ratio,
    int64_t budget,
):
    """
    Find the largest common scale, and give away what it leaves, without the GIL.

    Parameters
    ----------
    heights, widths : int64 (n,)
        Pixels.
    natural : int64 (n,)
        Squares of each image where nothing is shrunk.
    shares : float64 (n,)
        Squares that each image is given at a scale of 1.
    floors : int64 (n,)
        Squares that each image keeps, if it has them.
    caps : int64 (n,), written
        Squares that cap each image; 0 where it stays as it is.
    areas : int64 (n,), written
        Squares that each image has under its cap.
    work : int64 (WORK_ROWS, n), written
        Room to work in.
    keys : float64 (n,), written
        Room to work in.
    factor, min_pixels, max_ratio : int
        The model's.
    budget : int
        Squares of all images at most.

    Returns
    -------
    tuple of (int, float)
        Index of the first image that cannot be searched (then nothing useful is
        written) or -1; and the scale, -1.0 where not even the floors fit: then
        *areas* holds those.
    """
    cdef Images images
    cdef Bracket open
    cdef Heap heap
    cdef Py_ssize_t n = heights.shape[0]
    cdef Py_ssize_t i
    cdef Py_ssize_t refused
    cdef int64_t total = 0
    cdef double most_share = 0.0
    cdef double high = 0.0
    cdef double scale = 0.0
    cdef double enough
    if not (
        widths.shape[0] == natural.shape[0] == shares.shape[0] == floors.shape[0] == n
        and caps.shape[0] == areas.shape[0] == keys.shape[0] == work.shape[1] == n
        and work.shape[0] == WORK_ROWS
        and n <= MAX_IMAGES
    ):
        raise ValueError("Expected arrays of the same length")
    images.rule = _rule(factor, min_pixels, _MAX_PIXELS, max_ratio)
    budget = max(budget, -1)  # as good as any below it, and no difference overflows
    if n == 0:
        return -1, 1.0 if budget >= 0 else -1.0
    images.count = n
    images.heights = &heights[0]
    images.widths = &widths[0]
    images.natural = &natural[0]
    images.shares = &shares[0]
    images.least = &work[0, 0]
    images.floor_cap = &work[1, 0]
    images.floor_area = &work[2, 0]
    open.count = n
    open.index = &work[3, 0]
    open.low_cap = &work[4, 0]
    open.low_area = &work[5, 0]
    open.high_cap = &work[6, 0]
    open.high_area = &work[7, 0]
    open.cap = &work[8, 0]
    open.area = &caps[0]
    heap.index = open.index
    heap.key = &keys[0]
    with nogil:  # not interacting with Python objects from here, release the GIL
        refused = _ready(&images, &open, floors)
        if refused < 0:
            for i in range(n):
                total += natural[i]
                most_share = max(most_share, shares[i])
                enough = <double>natural[i] / shares[i]
                while enough * shares[i] < <double>natural[i]:
                    enough = nextafter(enough, INFINITY)
                high = max(high, enough)
            scale = high
            if total <= budget:
                for i in range(n):
                    areas[i] = natural[i]
            else:
                # Where the largest share is half a square, all are at their floors.
                scale = _largest_scale(
                    &images, &open, 0.5 / most_share, high, total, budget, &areas[0]
                )
            if scale >= 0.0:
                total = 0
                for i in range(n):
                    # Where the floor holds, its cap was looked for and is higher.
                    caps[i] = max(_share(&images, i, scale), images.floor_cap[i])
                    total += areas[i]
                _give(
                    &images,
                    &heap,
                    &caps[0],
                    &areas[0],
                    open.low_cap,
                    open.low_area,
                    budget - total,
                )
                for i in range(n):
                    if areas[i] >= natural[i]:
                        caps[i] = 0
    return refused, scale
