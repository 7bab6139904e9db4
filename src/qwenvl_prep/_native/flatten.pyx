"""
Transparent pixels laid on a plain background, as Pillow's ``paste`` with a mask does.

``result = (colour * alpha + background * (255 - alpha)) / 255``, rounded to nearest.
:mod:`qwenvl_prep.decode` hands the rows over.
"""

from libc.stdint cimport uint8_t, uint32_t


def flatten_rgba(
    const uint8_t[::1] source,
    uint8_t[::1] target,
    uint8_t red,
    uint8_t green,
    uint8_t blue,
):
    """
    Flatten RGBA samples onto one colour.

    Parameters
    ----------
    source : uint8 (n * 4,), contiguous
        Red, green, blue, alpha; colour not multiplied by alpha.
    target : uint8 (n * 3,), contiguous, written
        Red, green, blue.  Must not overlap *source*.
    red, green, blue : int
        The background, each 0 to 255.

    Raises
    ------
    ValueError
        If the lengths do not belong together.
    """
    cdef Py_ssize_t pixels = source.shape[0] // 4
    cdef Py_ssize_t i, channel
    cdef uint32_t alpha, clear, sum
    cdef uint8_t[3] ground = [red, green, blue]
    if source.shape[0] != pixels * 4 or target.shape[0] != pixels * 3:
        raise ValueError(
            f"Expected 4 bytes in and 3 out for each pixel "
            f"but received {source.shape[0]} and {target.shape[0]}"
        )
    with nogil:  # not interacting with Python objects from here, release the GIL
        for i in range(pixels):
            alpha = source[i * 4 + 3]
            clear = 255 - alpha
            for channel in range(3):
                sum = (
                    source[i * 4 + channel] * alpha + ground[channel] * clear + 128
                )
                # Exact division by 255 with rounding, for sums up to 65,153.
                target[i * 3 + channel] = <uint8_t>(((sum >> 8) + sum) >> 8)
