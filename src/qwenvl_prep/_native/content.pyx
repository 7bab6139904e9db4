"""
What a picture is like: its colours, and what JPEG would cost it, from a sample.

The sample is squares of 16 × 16 pixels all over the picture.  For each of them the
loss of a JPEG is predicted from the DCT, without coding anything: how far each set of
quantisation tables moves the samples, against how lively they are, which is what SSIM
is about.  Plain C floats, in a fixed order: the same numbers on every machine.
:mod:`qwenvl_prep.content` hands the pixels over and draws the conclusions.
"""

from libc.math cimport fabsf
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

cdef enum:
    SIDE = 16
    AREA = 256
    BLOCK = 64
    SLOTS = 1024
    # Bytes looked at together, in a loop that compilers vectorise; whole pixels.
    RUN = 48
    # Tables that are tried on each square, and squares that are looked at.
    MOST_SETS = 32
    MOST_SQUARES = 4096

# SSIM's second constant for 8 bits, (0.03 × 255)², and the error of rounding twice.
cdef float CONTRAST = 58.5225
cdef float ROUNDING = 0.1666667
# Added and taken away, this rounds a float below 2**22 to a whole number.
cdef float MAGIC = 12582912.0
# The share of an error in half-size colour that is left when it was blown up again.
cdef float BLOWN_UP = 0.45
# Where leaving out colour costs a square this much of its SSIM, one can see it.
cdef float SEEN = 0.08

# cos(kπ / 16) / 2; written out, because no two libraries' cosines need agree.
cdef float[9] HALF_COSINES = [
    0.5, 0.49039264, 0.46193977, 0.41573481, 0.35355339, 0.27778512, 0.19134172,
    0.09754516, 0,
]
# What SSIM's window (Gaussian, 1.5 pixels) takes for brightness and not for structure,
# of a wave with so many half-periods in 8 pixels, and in 16; exp(-(1.5πk / 8)²).
cdef float[8] SMOOTH = [
    1, 0.70668, 0.24940, 0.043955, 0.0038689, 0.00017, 3.73e-6, 4.08e-8,
]
cdef float[8] SMOOTH_HALF = [
    1, 0.91687, 0.70668, 0.45789, 0.24940, 0.11420, 0.043955, 0.014223,
]
# Steps between blocks are structure, though within a block they are brightness.
cdef float EDGES = 0.1

cdef uint8_t[RUN] NOT_BLUE
cdef float[BLOCK] SHARE
cdef float[BLOCK] SHARE_HALF
cdef float[8][8] COSINES  # by frequency and place
cdef float[8][8] TURNED  # by place and frequency


cdef void _fill_cosines() noexcept:
    cdef int frequency, place, turn
    cdef float value
    for frequency in range(8):
        for place in range(8):
            turn = (2 * place + 1) * frequency % 32
            if turn > 16:
                turn = 32 - turn
            value = HALF_COSINES[turn] if turn <= 8 else -HALF_COSINES[16 - turn]
            if frequency == 0:
                value = HALF_COSINES[4]
            COSINES[frequency][place] = value
            TURNED[place][frequency] = value


cdef void _fill_shares() noexcept:
    cdef int down, across
    for down in range(8):
        for across in range(8):
            SHARE[down * 8 + across] = 1 - SMOOTH[down] * SMOOTH[across]
            SHARE_HALF[down * 8 + across] = 1 - SMOOTH_HALF[down] * SMOOTH_HALF[across]
    SHARE[0] = SHARE_HALF[0] = EDGES


cdef void _fill_not_blue() noexcept:
    cdef int i
    for i in range(RUN):
        NOT_BLUE[i] = 0 if i % 3 == 2 else 0xFF


# Once, at import; from then on they are only read, by as many threads as there are.
_fill_cosines()
_fill_shares()
_fill_not_blue()


def is_neutral(const uint8_t[::1] pixels not None):
    """
    Tell whether red, green and blue are equal everywhere; stops where they are not.

    Parameters
    ----------
    pixels : uint8 (n * 3,), contiguous

    Raises
    ------
    ValueError
        If the length is no multiple of 3.
    """
    cdef Py_ssize_t length = pixels.shape[0]
    cdef Py_ssize_t at = 0
    cdef int i
    cdef const uint8_t *bytes_
    cdef uint8_t found = 0
    if length % 3:
        raise ValueError(f"Expected 3 bytes a pixel but received {length}")
    if not length:
        return True
    bytes_ = &pixels[0]
    with nogil:  # not interacting with Python objects from here, release the GIL
        # Each byte beside its successor: all but the blue ones have to be equal.
        while at + RUN < length and not found:
            for i in range(RUN):
                found |= (bytes_[at + i] ^ bytes_[at + i + 1]) & NOT_BLUE[i]
            at += RUN
        while at < length and not found:
            found = (bytes_[at] ^ bytes_[at + 1]) | (bytes_[at] ^ bytes_[at + 2])
            at += 3
    return not found


def index_colours(
    const uint8_t[::1] pixels not None,
    int channels,
    uint8_t[::1] indices not None,
    uint8_t[::1] colours not None,
):
    """
    Number the colours in the order they come; stops at the first that is too many.

    Parameters
    ----------
    pixels : uint8 (n * channels,), contiguous
    channels : int
        1 or 3.
    indices : uint8 (n,), contiguous, written
        The number of each pixel's colour.
    colours : uint8 (most * channels,), contiguous, written
        The colours; its length says how many are allowed, 256 at most.

    Returns
    -------
    int
        How many colours there are; 0 where there are too many.

    Raises
    ------
    ValueError
        If the lengths do not belong together.
    """
    cdef Py_ssize_t n = indices.shape[0]
    cdef Py_ssize_t i
    cdef int most, found = 0, slot, channel
    cdef uint32_t colour, none = 0xFFFFFFFFU, last = 0xFFFFFFFFU
    cdef uint8_t number = 0
    cdef uint32_t[SLOTS] keys
    cdef uint8_t[SLOTS] numbers
    if channels != 1 and channels != 3:
        raise ValueError(f"Expected 1 or 3 channels but received {channels}")
    if (
        pixels.shape[0] // channels != n
        or pixels.shape[0] % channels
        or colours.shape[0] > 256 * channels
        or colours.shape[0] % channels
    ):
        raise ValueError(
            f"Expected {channels} bytes a pixel and 256 colours at most but received "
            f"{pixels.shape[0]} for {n} and {colours.shape[0]}"
        )
    most = <int>(colours.shape[0] // channels)
    with nogil:  # not interacting with Python objects from here, release the GIL
        memset(keys, 0xFF, sizeof(keys))  # no colour has four bytes
        for i in range(n):
            colour = pixels[i * channels]
            if channels == 3:
                colour |= pixels[i * 3 + 1] << 8 | <uint32_t>pixels[i * 3 + 2] << 16
            if colour != last:
                # At most 256 of 1024 slots are taken, so a free one is near.
                slot = (colour * <uint32_t>2654435761U) >> 22
                while keys[slot] != colour and keys[slot] != none:
                    slot = (slot + 1) & (SLOTS - 1)
                if keys[slot] != colour:
                    if found == most:
                        found = 0
                        break
                    keys[slot] = colour
                    numbers[slot] = <uint8_t>found
                    for channel in range(channels):
                        colours[found * channels + channel] = pixels[
                            i * channels + channel
                        ]
                    found += 1
                number = numbers[slot]
                last = colour
            indices[i] = number
    return found


cdef void _transform(const float *samples, int stride, float *out) noexcept nogil:
    """
    DCT of 8 × 8 samples, scaled as JPEG's.

    Preconditions: 8 rows of 8 floats behind *samples*, *stride* apart; 64 behind
    *out*, not overlapping.
    """
    cdef float[BLOCK] rows
    cdef const float *w
    cdef const float *s = samples
    cdef int u, x
    for u in range(8):
        w = COSINES[u]
        for x in range(8):
            rows[u * 8 + x] = (
                w[0] * s[x]
                + w[1] * s[stride + x]
                + w[2] * s[2 * stride + x]
                + w[3] * s[3 * stride + x]
                + w[4] * s[4 * stride + x]
                + w[5] * s[5 * stride + x]
                + w[6] * s[6 * stride + x]
                + w[7] * s[7 * stride + x]
            )
    for u in range(8):
        w = rows + u * 8
        for x in range(8):
            out[u * 8 + x] = (
                w[0] * TURNED[0][x]
                + w[1] * TURNED[1][x]
                + w[2] * TURNED[2][x]
                + w[3] * TURNED[3][x]
                + w[4] * TURNED[4][x]
                + w[5] * TURNED[5][x]
                + w[6] * TURNED[6][x]
                + w[7] * TURNED[7][x]
            )


cdef inline float _sum_of_8(const float *values) noexcept nogil:
    """Two and two.  Precondition: 8 floats behind the pointer."""
    return (
        (values[0] + values[1]) + (values[2] + values[3])
        + (values[4] + values[5]) + (values[6] + values[7])
    )


cdef inline float _sum(const float *values) noexcept nogil:
    """
    Sum 64 floats: first each of 8 columns, then these.

    Precondition: 64 floats behind the pointer.
    """
    cdef float[8] sums
    cdef int x
    for x in range(8):
        sums[x] = (
            values[x] + values[8 + x] + values[16 + x] + values[24 + x]
            + values[32 + x] + values[40 + x] + values[48 + x] + values[56 + x]
        )
    return _sum_of_8(sums)


cdef float _moved(
    const float *coefficients,
    const float *steps,
    const float *inverse,
    const float *share,
    double *bits,
) noexcept nogil:
    """
    Mean square that quantising moves a block's samples by, as far as SSIM sees it.

    Adds to *bits* about what Huffman coding takes: a nonzero level some 3 bits, large
    ones more.

    Preconditions: 64 floats behind each pointer but *bits*, steps of at least 1.
    """
    cdef float[BLOCK] errors
    cdef float[BLOCK] lengths
    cdef float error, level, size
    cdef int i
    # No sum in here, so that compilers take several at once.
    for i in range(BLOCK):
        level = coefficients[i] * inverse[i]
        level = (level + MAGIC) - MAGIC
        error = coefficients[i] - level * steps[i]
        errors[i] = share[i] * error * error
        size = fabsf(level)
        lengths[i] = size * (
            <float>3.5 / (size + <float>0.3) + <float>9 / (size + <float>12)
        )
    bits[0] += _sum(lengths)
    return _sum(errors) * <float>(1.0 / BLOCK)


cdef float _liveliness(const float *samples) noexcept nogil:
    """
    Variance of one block of a square.

    Precondition: 8 rows of 8 whole numbers to 255 behind the pointer, SIDE apart; so
    the sums are exact, whatever their order.
    """
    cdef float[8] sums
    cdef float[8] squares
    cdef const float *s = samples
    cdef float total, square
    cdef int x
    for x in range(8):
        sums[x] = (
            s[x] + s[SIDE + x] + s[2 * SIDE + x] + s[3 * SIDE + x]
            + s[4 * SIDE + x] + s[5 * SIDE + x] + s[6 * SIDE + x] + s[7 * SIDE + x]
        )
        squares[x] = (
            s[x] * s[x]
            + s[SIDE + x] * s[SIDE + x]
            + s[2 * SIDE + x] * s[2 * SIDE + x]
            + s[3 * SIDE + x] * s[3 * SIDE + x]
            + s[4 * SIDE + x] * s[4 * SIDE + x]
            + s[5 * SIDE + x] * s[5 * SIDE + x]
            + s[6 * SIDE + x] * s[6 * SIDE + x]
            + s[7 * SIDE + x] * s[7 * SIDE + x]
        )
    total = _sum_of_8(sums) * <float>(1.0 / BLOCK)
    square = _sum_of_8(squares) * <float>(1.0 / BLOCK) - total * total
    return square if square > 0 else 0


cdef inline float _unlike(float moved, float liveliness) noexcept nogil:
    """1 - SSIM of samples that were moved by independent errors."""
    # What stays as it is is not rounded either.
    moved += moved if moved < ROUNDING else ROUNDING
    return moved / (2 * liveliness + moved + CONTRAST)


cdef void _read(
    const uint8_t *pixels,
    Py_ssize_t height,
    Py_ssize_t width,
    int channels,
    Py_ssize_t top,
    Py_ssize_t left,
    uint8_t *planes,
) noexcept nogil:
    """
    Copy a square, channel by channel; beyond the picture its last pixels go on.

    Preconditions: the picture behind *pixels*, *top* and *left* inside of it, and 256
    bytes for each of 1 or 3 channels behind *planes*.
    """
    cdef Py_ssize_t row, column
    cdef int y, x, channel
    cdef bint is_inside = width - left >= SIDE
    cdef const uint8_t *line
    for y in range(SIDE):
        row = top + y if height - top > y else height - 1
        line = pixels + row * width * channels
        if is_inside and channels == 3:
            line += left * 3
            for x in range(SIDE):
                planes[y * SIDE + x] = line[x * 3]
                planes[AREA + y * SIDE + x] = line[x * 3 + 1]
                planes[2 * AREA + y * SIDE + x] = line[x * 3 + 2]
            continue
        for x in range(SIDE):
            column = left + x if width - left > x else width - 1
            for channel in range(channels):
                planes[channel * AREA + y * SIDE + x] = line[
                    column * channels + channel
                ]


cdef int _count_even(const uint8_t *planes, int channels) noexcept nogil:
    """
    Count the pixels of a square, but its first row and column, that equal the left
    or the upper one.

    Precondition: 256 bytes for each of 1 or 3 channels behind the pointer.
    """
    cdef uint8_t[AREA] unlike_left
    cdef uint8_t[AREA] unlike_upper
    cdef uint8_t even = 0  # 225 at most
    cdef int i, _channel
    memset(unlike_left, 0, AREA)
    memset(unlike_upper, 0, AREA)
    for _channel in range(channels):
        for i in range(SIDE, AREA):
            unlike_left[i] |= planes[i] ^ planes[i - 1]
            unlike_upper[i] |= planes[i] ^ planes[i - SIDE]
        planes += AREA
    for i in range(1, SIDE):
        unlike_left[i * SIDE] = unlike_upper[i * SIDE] = 1
    for i in range(SIDE, AREA):
        even += (unlike_left[i] == 0) | (unlike_upper[i] == 0)
    return even


cdef void _separate(
    const float *rgb, float *luma, float *blue, float *red
) noexcept nogil:
    """
    Give the luma of a square, around 0, and its colour: Y, Cb, Cr.

    Preconditions: 3 × 256 floats behind *rgb*, 256 behind the others, none overlapping.
    """
    cdef float bright, r, b
    cdef int i
    for i in range(AREA):
        r = rgb[i]
        b = rgb[2 * AREA + i]
        bright = 0.299 * r + 0.587 * rgb[AREA + i] + 0.114 * b
        luma[i] = bright - 128
        blue[i] = (b - bright) * <float>(1 / 1.772)
        red[i] = (r - bright) * <float>(1 / 1.402)


cdef void _halve(const float *colour, float *half) noexcept nogil:
    """
    Mean of each 2 × 2 samples.

    Preconditions: 256 floats behind *colour*, 64 behind *half*, not overlapping.
    """
    cdef const float *upper
    cdef const float *lower
    cdef int y, x
    for y in range(8):
        upper = colour + y * 2 * SIDE
        lower = upper + SIDE
        for x in range(8):
            half[y * 8 + x] = <float>0.25 * (
                (upper[2 * x] + upper[2 * x + 1]) + (lower[2 * x] + lower[2 * x + 1])
            )


cdef void _blow_up(const float *half, float *out) noexcept nogil:
    """
    Blow 8 × 8 samples up to 16 × 16 as libjpeg does: three parts near, one part far.

    Preconditions: 64 floats behind *half*, 256 behind *out*, not overlapping.
    """
    cdef double[BLOCK] most
    cdef double[BLOCK] rest
    cdef float[8] row
    cdef double[8] row_most
    cdef double[10] row_rest  # with its ends once more
    cdef int y, x, near, far
    for x in range(BLOCK):
        most[x] = 0.75 * half[x]
        rest[x] = 0.25 * half[x]
    for y in range(SIDE):
        near = (y >> 1) * 8
        far = near + 8 if y & 1 else near - 8
        if y == 0 or y == SIDE - 1:
            far = near
        for x in range(8):
            row[x] = most[near + x] + rest[far + x]
        for x in range(8):
            row_most[x] = 0.75 * row[x]
            row_rest[x + 1] = 0.25 * row[x]
        row_rest[0] = row_rest[1]
        row_rest[9] = row_rest[8]
        for x in range(8):
            out[y * SIDE + 2 * x] = row_most[x] + row_rest[x]
            out[y * SIDE + 2 * x + 1] = row_most[x] + row_rest[x + 2]


cdef void _leave_out(
    const float *colour, const float *half, float *lost
) noexcept nogil:
    """
    Mean square that half-size colour moves the samples by, block by block.

    Preconditions: 256 floats behind *colour*, 64 behind *half*, 4 behind *lost*, none
    overlapping.
    """
    cdef float[AREA] moved
    cdef int i, y, x, block, corner
    _blow_up(half, moved)
    for i in range(AREA):
        moved[i] = (colour[i] - moved[i]) * (colour[i] - moved[i])
    for block in range(4):
        lost[block] = 0
    # Four sums at once, because each of them has to wait for itself.
    for y in range(8):
        for x in range(8):
            for block in range(4):
                corner = (block >> 1) * 8 * SIDE + (block & 1) * 8
                lost[block] += moved[corner + y * SIDE + x]
    for block in range(4):
        lost[block] *= <float>(1.0 / BLOCK)


def sample(
    const uint8_t[::1] pixels not None,
    Py_ssize_t height,
    Py_ssize_t width,
    int channels,
    const float[::1] tables not None,
    Py_ssize_t squares,
    double[::1] losses not None,
):
    """
    Predict what JPEG would cost a picture, by some of its squares.

    Parameters
    ----------
    pixels : uint8 (height * width * channels,), contiguous
    height, width : int
        At least 1.
    channels : int
        1 (grey) or 3 (RGB).
    tables : float32 (sets * 128,), contiguous
        Steps for luma and steps for colour, 64 each, 1 to 65,535.
    squares : int
        How many squares to look at, at most; 1 to 4096.
    losses : float64 (sets * 3,), contiguous, written
        For each set of tables 1 - SSIM (mean over red, green and blue) where only
        luma is quantised, and where colour is too, at half the size; and about the
        bits a square takes then.

    Returns
    -------
    (float, float, float)
        The share of pixels that equal their left or upper neighbour; what half-size
        colour alone costs, as 1 - SSIM; the share of squares where it costs so much
        that one can see it.

    Raises
    ------
    ValueError
        If the lengths do not belong together, or a step is out of range.
    """
    cdef Py_ssize_t sets = tables.shape[0] // (2 * BLOCK)
    cdef Py_ssize_t across, total, number, index, place, i
    cdef Py_ssize_t even = 0, seen = 0
    cdef int k, block, corner
    cdef double left_alone = 0
    cdef double[2 * MOST_SETS] sums
    cdef double[MOST_SETS] bits
    cdef float[2 * MOST_SETS * BLOCK] inverse
    cdef uint8_t[3 * AREA] planes
    cdef float[3 * AREA] rgb
    cdef float[AREA] luma
    cdef float[2][AREA] colour
    cdef float[BLOCK] half
    cdef float[4][BLOCK] luma_parts
    cdef float[2][BLOCK] half_parts
    cdef float[4][3] lively
    cdef float[2][4] left_out
    cdef float moved, blue, red, worst
    cdef const float *steps
    cdef const float *inverses
    if (
        not 1 <= sets <= MOST_SETS
        or tables.shape[0] != sets * 2 * BLOCK
        or losses.shape[0] != sets * 3
        or not 1 <= squares <= MOST_SQUARES
        or (channels != 1 and channels != 3)
        or height < 1
        or width < 1
        or height > pixels.shape[0] // width
        or height * width > pixels.shape[0] // channels
        or height * width * channels != pixels.shape[0]
    ):
        raise ValueError(
            f"Expected a picture, 1 to {MOST_SETS} sets of tables and their losses but "
            f"received {pixels.shape[0]} bytes for {height} × {width} × {channels}, "
            f"{tables.shape[0]} steps, {losses.shape[0]} losses, {squares} squares"
        )
    for i in range(2 * sets * BLOCK):
        # Beyond, a level would be too large for how it is rounded; NaN is neither.
        if not 1 <= tables[i] <= 65535:
            raise ValueError(f"Expected steps of 1 to 65,535 but received {tables[i]}")
    with nogil:  # not interacting with Python objects from here, release the GIL
        for i in range(2 * sets):
            sums[i] = 0
        for i in range(sets):
            bits[i] = 0
        for i in range(2 * sets * BLOCK):
            inverse[i] = 1 / tables[i]
        across = (width - 1) // SIDE + 1
        total = ((height - 1) // SIDE + 1) * across
        number = total if total < squares else squares
        for index in range(number):
            # Steps of the golden section spread evenly whatever the picture's width.
            place = index
            if total > squares:
                place = <Py_ssize_t>(
                    (index * 0.6180339887498949
                     - <Py_ssize_t>(index * 0.6180339887498949)) * total
                )
            _read(
                &pixels[0],
                height,
                width,
                channels,
                place // across * SIDE,
                place % across * SIDE,
                planes,
            )
            even += _count_even(planes, channels)
            for i in range(channels * AREA):
                rgb[i] = planes[i]
            if channels == 1:
                for i in range(AREA):
                    luma[i] = rgb[i] - 128
            else:
                _separate(rgb, luma, colour[0], colour[1])
                for k in range(2):
                    _halve(colour[k], half)
                    _transform(half, 8, half_parts[k])
                    _leave_out(colour[k], half, left_out[k])
            worst = 0
            for block in range(4):
                corner = (block >> 1) * 8 * SIDE + (block & 1) * 8
                _transform(luma + corner, SIDE, luma_parts[block])
                for k in range(channels):
                    lively[block][k] = _liveliness(rgb + k * AREA + corner)
                if channels == 3:
                    worst += _in_colour(
                        0, left_out[0][block], left_out[1][block], lively[block]
                    )
            worst *= <float>0.25
            left_alone += worst
            if worst > SEEN:
                seen += 1
            for i in range(sets):
                steps = &tables[i * 2 * BLOCK]
                inverses = inverse + i * 2 * BLOCK
                blue = red = 0
                if channels == 3:
                    blue = _moved(
                        half_parts[0],
                        steps + BLOCK,
                        inverses + BLOCK,
                        SHARE_HALF,
                        &bits[i],
                    )
                    red = _moved(
                        half_parts[1],
                        steps + BLOCK,
                        inverses + BLOCK,
                        SHARE_HALF,
                        &bits[i],
                    )
                for block in range(4):
                    moved = _moved(
                        luma_parts[block], steps, inverses, SHARE, &bits[i]
                    )
                    if channels == 1:
                        moved = _unlike(moved, lively[block][0])
                        sums[2 * i] += moved
                        sums[2 * i + 1] += moved
                        continue
                    sums[2 * i] += _in_colour(moved, 0, 0, lively[block])
                    sums[2 * i + 1] += _in_colour(
                        moved,
                        BLOWN_UP * blue + left_out[0][block],
                        BLOWN_UP * red + left_out[1][block],
                        lively[block],
                    )
        left_alone /= number
        for i in range(sets):
            losses[3 * i] = sums[2 * i] / (4 * number)
            losses[3 * i + 1] = sums[2 * i + 1] / (4 * number)
            losses[3 * i + 2] = bits[i] / number
    return <double>even / (225 * number), left_alone, <double>seen / number


cdef inline float _in_colour(
    float luma, float blue, float red, const float *liveliness
) noexcept nogil:
    """
    Mean of 1 - SSIM over red, green and blue; weights of YCbCr, squared.

    Precondition: 3 floats behind the pointer.
    """
    return (
        _unlike(luma + <float>1.966 * red, liveliness[0])
        + _unlike(luma + <float>0.118 * blue + <float>0.51 * red, liveliness[1])
        + _unlike(luma + <float>3.14 * blue, liveliness[2])
    ) * <float>(1.0 / 3)
