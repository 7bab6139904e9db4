"""
Colours of three curves and a matrix to sRGB, as LittleCMS does 8-bit samples.

Numbers have 14 bits behind the point.  :mod:`qwenvl_prep.icc_shaper` makes the tables,
and with them the promise that the bytes are those of LittleCMS.
"""

from libc.stdint cimport int32_t, uint8_t

cdef extern from "shape.h":
    enum:
        QVP_SHAPE_CODES
        QVP_SHAPE_LANES
        QVP_SHAPE_TOP
    void qvp_shape_rgb(
        const uint8_t *source,
        uint8_t *target,
        size_t pixels,
        const int32_t *parts,
        const uint8_t *levels,
    ) nogil


def shape_rgb(
    const uint8_t[::1] source,
    uint8_t[::1] target,
    const int32_t[:, :, ::1] parts,
    const uint8_t[::1] levels,
):
    """
    Convert RGB samples.

    Parameters
    ----------
    source : uint8 (n * 3,), contiguous
        Red, green, blue.
    target : uint8 (n * 3,), contiguous, written
        Red, green, blue.  Must not overlap *source*.
    parts : int32 (3, 256, 4), contiguous
        What each code of each sample adds to red, green and blue of linear light,
        times 2 ** 28; the fourth number is not used.  Half of 2 ** 14 is added once,
        so that cutting off rounds to nearest.
    levels : uint8 (16385,), contiguous
        The code of each level of linear light, from 0 to 1.

    Raises
    ------
    ValueError
        If the lengths do not belong together.
    """
    cdef Py_ssize_t pixels = source.shape[0] // 3
    if source.shape[0] != pixels * 3 or target.shape[0] != source.shape[0]:
        raise ValueError(
            f"Expected 3 bytes in and out for each pixel "
            f"but received {source.shape[0]} and {target.shape[0]}"
        )
    if (
        parts.shape[0] != 3
        or parts.shape[1] != QVP_SHAPE_CODES
        or parts.shape[2] != QVP_SHAPE_LANES
    ):
        raise ValueError(
            f"Expected parts of shape (3, {QVP_SHAPE_CODES}, {QVP_SHAPE_LANES}) "
            f"but received ({parts.shape[0]}, {parts.shape[1]}, {parts.shape[2]})"
        )
    if levels.shape[0] != QVP_SHAPE_TOP + 1:
        raise ValueError(
            f"Expected {QVP_SHAPE_TOP + 1} levels but received {levels.shape[0]}"
        )
    if pixels == 0:
        return
    with nogil:  # not interacting with Python objects from here, release the GIL
        qvp_shape_rgb(&source[0], &target[0], pixels, &parts[0, 0, 0], &levels[0])
