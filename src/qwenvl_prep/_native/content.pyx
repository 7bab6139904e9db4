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
    BLOCK = 64
    SLOTS = 1024
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


_fill_cosines()
_fill_shares()


def is_neutral(const uint8_t[::1] pixels):
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
    cdef Py_ssize_t n = pixels.shape[0] // 3
    cdef Py_ssize_t i
    cdef uint8_t green
    cdef bint found = False
    if pixels.shape[0] != n * 3:
        raise ValueError(f"Expected 3 bytes a pixel but received {pixels.shape[0]}")
    with nogil:  # not interacting with Python objects from here, release the GIL
        for i in range(n):
            green = pixels[i * 3 + 1]
            if pixels[i * 3] != green or pixels[i * 3 + 2] != green:
                found = True
                break
    return not found


def index_colours(
    const uint8_t[::1] pixels, int channels, uint8_t[::1] indices, uint8_t[::1] colours
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
    most = <int>(colours.shape[0] // channels)
    if (
        pixels.shape[0] != n * channels
        or colours.shape[0] > 256 * channels
        or colours.shape[0] != most * channels
    ):
        raise ValueError(
            f"Expected {channels} bytes a pixel and 256 colours at most but received "
            f"{pixels.shape[0]} for {n} and {colours.shape[0]}"
        )
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


cdef void _transform(const float *samples, float *out) noexcept nogil:
    """
    DCT of 8 × 8 samples, scaled as JPEG's.

    Preconditions: 64 floats behind each pointer, not overlapping.
    """
    cdef float[BLOCK] rows
    cdef float[8] lanes
    cdef int u, i, lane
    cdef float weight
    # Lanes are independent sums, so the compiler may keep them in vectors.
    for u in range(8):
        for lane in range(8):
            lanes[lane] = COSINES[u][0] * samples[lane]
        for i in range(1, 8):
            weight = COSINES[u][i]
            for lane in range(8):
                lanes[lane] += weight * samples[i * 8 + lane]
        for lane in range(8):
            rows[u * 8 + lane] = lanes[lane]
    for u in range(8):
        for lane in range(8):
            lanes[lane] = rows[u * 8] * TURNED[0][lane]
        for i in range(1, 8):
            weight = rows[u * 8 + i]
            for lane in range(8):
                lanes[lane] += weight * TURNED[i][lane]
        for lane in range(8):
            out[u * 8 + lane] = lanes[lane]


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
    cdef float[8] sums
    cdef float[8] lengths
    cdef float error, level, size
    cdef int i, lane
    for lane in range(8):
        sums[lane] = 0
        lengths[lane] = 0
    for i in range(8):
        for lane in range(8):
            level = coefficients[i * 8 + lane] * inverse[i * 8 + lane]
            level = (level + MAGIC) - MAGIC
            error = coefficients[i * 8 + lane] - level * steps[i * 8 + lane]
            sums[lane] += share[i * 8 + lane] * error * error
            size = fabsf(level)
            lengths[lane] += size * (
                <float>3.5 / (size + <float>0.3) + <float>9 / (size + <float>12)
            )
    bits[0] += (
        (lengths[0] + lengths[1]) + (lengths[2] + lengths[3])
        + (lengths[4] + lengths[5]) + (lengths[6] + lengths[7])
    )
    return (
        (sums[0] + sums[1]) + (sums[2] + sums[3])
        + (sums[4] + sums[5]) + (sums[6] + sums[7])
    ) * <float>(1.0 / BLOCK)


cdef float _liveliness(const float *samples) noexcept nogil:
    """
    Variance of 8 × 8 samples.

    Precondition: 64 floats behind the pointer.
    """
    cdef float[8] sums
    cdef float[8] squares
    cdef float total = 0, square = 0
    cdef int i, lane
    for lane in range(8):
        sums[lane] = 0
        squares[lane] = 0
    for i in range(8):
        for lane in range(8):
            sums[lane] += samples[i * 8 + lane]
            squares[lane] += samples[i * 8 + lane] * samples[i * 8 + lane]
    for lane in range(8):
        total += sums[lane]
        square += squares[lane]
    total *= <float>(1.0 / BLOCK)
    square = square * <float>(1.0 / BLOCK) - total * total
    return square if square > 0 else 0


cdef inline float _unlike(float moved, float liveliness) noexcept nogil:
    """1 - SSIM of samples that were moved by independent errors."""
    # What stays as it is is not rounded either.
    moved += moved if moved < ROUNDING else ROUNDING
    return moved / (2 * liveliness + moved + CONTRAST)


cdef void _blow_up(const float *half, float *out) noexcept nogil:
    """
    Blow 8 × 8 samples up to 16 × 16 as libjpeg does: three parts near, one part far.

    Preconditions: 64 floats behind *half*, 256 behind *out*.
    """
    cdef float[SIDE * 8] tall
    cdef int y, x, far
    for y in range(SIDE):
        far = (y >> 1) + (1 if y & 1 else -1)
        far = 0 if far < 0 else 7 if far > 7 else far
        for x in range(8):
            tall[y * 8 + x] = 0.75 * half[(y >> 1) * 8 + x] + 0.25 * half[far * 8 + x]
    for y in range(SIDE):
        for x in range(SIDE):
            far = (x >> 1) + (1 if x & 1 else -1)
            far = 0 if far < 0 else 7 if far > 7 else far
            out[y * SIDE + x] = (
                0.75 * tall[y * 8 + (x >> 1)] + 0.25 * tall[y * 8 + far]
            )


cdef void _cut(const float *square, int number, float *block) noexcept nogil:
    """
    Copy one of the four blocks of a square.

    Preconditions: 256 floats behind *square*, 64 behind *block*, number 0 to 3.
    """
    cdef int y, x
    cdef const float *corner = square + (number >> 1) * 8 * SIDE + (number & 1) * 8
    for y in range(8):
        for x in range(8):
            block[y * 8 + x] = corner[y * SIDE + x]


def sample(
    const uint8_t[::1] pixels,
    Py_ssize_t height,
    Py_ssize_t width,
    int channels,
    const float[::1] tables,
    Py_ssize_t squares,
    double[::1] losses,
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
        Steps for luma and steps for colour, 64 each, at least 1.
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
        If the lengths do not belong together.
    """
    cdef Py_ssize_t sets = tables.shape[0] // (2 * BLOCK)
    cdef Py_ssize_t down, across, total, number, index, top, left, row, column
    cdef Py_ssize_t y, x, i, k, block, flat = 0, compared = 0, seen = 0
    cdef double left_alone = 0
    cdef double[2 * MOST_SETS] sums
    cdef double[MOST_SETS] bits
    cdef float[2 * MOST_SETS * BLOCK] inverse
    cdef float[3][SIDE * SIDE] rgb
    cdef float[SIDE * SIDE] luma
    cdef float[2][SIDE * SIDE] colour
    cdef float[SIDE * SIDE] blown
    cdef float[BLOCK] half
    cdef float[BLOCK] piece
    cdef float[4][BLOCK] luma_parts
    cdef float[2][BLOCK] half_parts
    cdef float[4][3] lively
    cdef float[2][4] left_out
    cdef float moved, blue, red, worst, r, g, b, difference
    cdef const float *steps
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
    with nogil:  # not interacting with Python objects from here, release the GIL
        for i in range(2 * sets):
            sums[i] = 0
        for i in range(sets):
            bits[i] = 0
        for i in range(2 * sets * BLOCK):
            inverse[i] = 1 / tables[i]
        down = (height + SIDE - 1) // SIDE
        across = (width + SIDE - 1) // SIDE
        total = down * across
        number = total if total < squares else squares
        for index in range(number):
            # Steps of the golden section spread evenly whatever the picture's width.
            i = index
            if total > squares:
                i = <Py_ssize_t>(
                    (index * 0.6180339887498949
                     - <Py_ssize_t>(index * 0.6180339887498949)) * total
                )
            top = i // across * SIDE
            left = i % across * SIDE
            for y in range(SIDE):
                row = top + y if top + y < height else height - 1
                for x in range(SIDE):
                    column = left + x if left + x < width else width - 1
                    i = (row * width + column) * channels
                    rgb[0][y * SIDE + x] = pixels[i]
                    if channels == 3:
                        rgb[1][y * SIDE + x] = pixels[i + 1]
                        rgb[2][y * SIDE + x] = pixels[i + 2]
            for y in range(1, SIDE):
                for x in range(1, SIDE):
                    i = y * SIDE + x
                    if (
                        rgb[0][i] == rgb[0][i - 1]
                        and (channels == 1 or (
                            rgb[1][i] == rgb[1][i - 1] and rgb[2][i] == rgb[2][i - 1]
                        ))
                    ) or (
                        rgb[0][i] == rgb[0][i - SIDE]
                        and (channels == 1 or (
                            rgb[1][i] == rgb[1][i - SIDE]
                            and rgb[2][i] == rgb[2][i - SIDE]
                        ))
                    ):
                        flat += 1
                    compared += 1
            if channels == 1:
                for i in range(SIDE * SIDE):
                    luma[i] = rgb[0][i] - 128
            else:
                for i in range(SIDE * SIDE):
                    r = rgb[0][i]
                    g = rgb[1][i]
                    b = rgb[2][i]
                    moved = 0.299 * r + 0.587 * g + 0.114 * b
                    luma[i] = moved - 128
                    colour[0][i] = (b - moved) * <float>(1 / 1.772)
                    colour[1][i] = (r - moved) * <float>(1 / 1.402)
                for k in range(2):
                    for y in range(8):
                        for x in range(8):
                            i = y * 2 * SIDE + x * 2
                            half[y * 8 + x] = 0.25 * (
                                (colour[k][i] + colour[k][i + 1])
                                + (colour[k][i + SIDE] + colour[k][i + SIDE + 1])
                            )
                    _transform(half, half_parts[k])
                    _blow_up(half, blown)
                    for block in range(4):
                        moved = 0
                        for y in range(8):
                            for x in range(8):
                                i = ((block >> 1) * 8 + y) * SIDE + (block & 1) * 8 + x
                                difference = colour[k][i] - blown[i]
                                moved += difference * difference
                        left_out[k][block] = moved * <float>(1.0 / BLOCK)
            worst = 0
            for block in range(4):
                _cut(luma, block, piece)
                _transform(piece, luma_parts[block])
                for k in range(channels):
                    _cut(rgb[k], block, piece)
                    lively[block][k] = _liveliness(piece)
                if channels == 3:
                    blue = left_out[0][block]
                    red = left_out[1][block]
                    worst += _in_colour(0, blue, red, lively[block])
            worst *= 0.25
            left_alone += worst
            if worst > SEEN:
                seen += 1
            for i in range(sets):
                steps = &tables[i * 2 * BLOCK]
                blue = red = 0
                if channels == 3:
                    blue = _moved(
                        half_parts[0],
                        steps + BLOCK,
                        inverse + i * 2 * BLOCK + BLOCK,
                        SHARE_HALF,
                        &bits[i],
                    )
                    red = _moved(
                        half_parts[1],
                        steps + BLOCK,
                        inverse + i * 2 * BLOCK + BLOCK,
                        SHARE_HALF,
                        &bits[i],
                    )
                for block in range(4):
                    moved = _moved(
                        luma_parts[block],
                        steps,
                        inverse + i * 2 * BLOCK,
                        SHARE,
                        &bits[i],
                    )
                    if channels == 1:
                        r = _unlike(moved, lively[block][0])
                        sums[2 * i] += r
                        sums[2 * i + 1] += r
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
    return <double>flat / compared, left_alone, <double>seen / number


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
