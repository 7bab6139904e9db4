"""
Pillow's bicubic resize, byte for byte; here memory safety is owned.

Lengths are compared beside the pointers, products are checked for overflow, the
buffer between the passes is taken and freed in the same call.
:mod:`qwenvl_prep.resize` owns what sizes mean and allocates the output.
"""

from libc.stdint cimport int64_t, uint8_t, uintptr_t
from libc.stdlib cimport free, malloc

cdef extern from "convolve.h" nogil:
    cdef struct qvp_axis:
        pass
    int QVP_OK
    int QVP_NO_MEMORY
    int QVP_TOO_LARGE
    int qvp_axis_make(qvp_axis *axis, int64_t in_size, int64_t out_size)
    void qvp_axis_free(qvp_axis *axis)
    void qvp_across_scalar(
        const qvp_axis *axis, const uint8_t *source, uint8_t *target,
        int64_t rows, int channels
    )
    void qvp_down_scalar(
        const qvp_axis *axis, const uint8_t *source, uint8_t *target,
        int64_t row_bytes
    )

# Sample positions are kept in int32.
MAX_SIDE = 2**31 - 1
cdef int64_t _INT64_MAX = 9223372036854775807


def is_height_first(
    int64_t height, int64_t width, int64_t out_height, int64_t out_width
):
    """
    Tell which pass runs first, by Pillow 13's rule.

    The image between the passes is rounded to 8 bits, so the order shows in the
    bytes.  Pillow runs the downward pass first where it sheds more than twice as
    many rows as the other pass sheds columns.
    """
    cdef int64_t rows_shed = height - out_height
    return rows_shed > 0 and rows_shed > 2 * (width - out_width)


cdef int64_t _product(int64_t first, int64_t second, int64_t third) except -1:
    if first > _INT64_MAX // second or first * second > _INT64_MAX // third:
        raise MemoryError("the image is larger than memory can address")
    return first * second * third


# Both passes in the order asked for, with axes that exist; 0 bytes between the
# passes mean that one pass alone is needed and writes to target directly.
cdef int _resample(
    const uint8_t *source, uint8_t *target, int64_t height, int64_t width,
    int channels, int64_t out_height, int64_t out_width, bint height_first,
    int64_t between_bytes,
) noexcept nogil:
    cdef qvp_axis across, down
    cdef uint8_t *between = NULL
    cdef bint need_across = width != out_width
    cdef bint need_down = height != out_height
    cdef int status = QVP_OK
    cdef int down_status = QVP_OK
    if need_across:
        status = qvp_axis_make(&across, width, out_width)
    if need_down:
        down_status = qvp_axis_make(&down, height, out_height)
    if status == QVP_OK:
        status = down_status
    if status == QVP_OK and need_across and need_down:
        between = <uint8_t *>malloc(<size_t>between_bytes)
        if between == NULL:
            status = QVP_NO_MEMORY
    if status == QVP_OK:
        if need_across and need_down and height_first:
            qvp_down_scalar(&down, source, between, width * channels)
            qvp_across_scalar(&across, between, target, out_height, channels)
        elif need_across and need_down:
            qvp_across_scalar(&across, source, between, height, channels)
            qvp_down_scalar(&down, between, target, out_width * channels)
        elif need_across:
            qvp_across_scalar(&across, source, target, height, channels)
        else:
            qvp_down_scalar(&down, source, target, width * channels)
    free(between)
    if need_across:
        qvp_axis_free(&across)
    if need_down:
        qvp_axis_free(&down)
    return status


def resample(
    const uint8_t[::1] source,
    uint8_t[::1] target,
    int64_t height,
    int64_t width,
    int channels,
    int64_t out_height,
    int64_t out_width,
    bint height_first,
):
    """
    Resize interleaved 8-bit samples into a buffer of the caller.

    Parameters
    ----------
    source : uint8 (height * width * channels,), contiguous
        Rows from the top, samples interleaved; may be read-only.
    target : uint8 (out_height * out_width * channels,), contiguous, written
        Must not overlap *source*.
    height, width, out_height, out_width : int
        Pixels, 1 to ``MAX_SIDE``; the two sizes must differ.
    channels : int
        1, 3 or 4.  Four are resized alike, without premultiplying.
    height_first : bool
        Which pass runs first; Pillow's choice is :func:`is_height_first`.

    Raises
    ------
    ValueError
        If a size or a length does not fit, or the buffers overlap.
    MemoryError
        If there is no memory for the weights or the rows between the passes.
    """
    cdef uintptr_t source_start, source_end, target_start, target_end
    cdef int64_t between_bytes
    cdef int status
    if channels != 1 and channels != 3 and channels != 4:
        raise ValueError(f"Expected 1, 3 or 4 channels but received {channels}")
    for side in (height, width, out_height, out_width):
        if not 1 <= side <= MAX_SIDE:
            raise ValueError(f"Expected sides in 1..{MAX_SIDE} but received {side}")
    if height == out_height and width == out_width:
        raise ValueError("Expected two sizes that differ: there is nothing to resize")
    if source.shape[0] != _product(height, width, channels):
        raise ValueError(
            f"Expected a source of {height} x {width} x {channels} bytes "
            f"but received {source.shape[0]}"
        )
    if target.shape[0] != _product(out_height, out_width, channels):
        raise ValueError(
            f"Expected a target of {out_height} x {out_width} x {channels} bytes "
            f"but received {target.shape[0]}"
        )
    # Both are at least 1 long, so their first elements exist.
    source_start = <uintptr_t>&source[0]
    source_end = source_start + <uintptr_t>source.shape[0]
    target_start = <uintptr_t>&target[0]
    target_end = target_start + <uintptr_t>target.shape[0]
    if source_start < target_end and target_start < source_end:
        raise ValueError("Expected source and target that do not overlap")
    between_bytes = (
        _product(out_height, width, channels)
        if height_first
        else _product(height, out_width, channels)
    )
    with nogil:  # not interacting with Python objects from here, release the GIL
        status = _resample(
            &source[0], &target[0], height, width, channels, out_height, out_width,
            height_first, between_bytes,
        )
    if status == QVP_NO_MEMORY:
        raise MemoryError(
            f"no memory to resize {height} x {width} to {out_height} x {out_width}"
        )
    if status != QVP_OK:
        raise ValueError(
            f"Expected sizes whose weights fit memory but received "
            f"{height} x {width} to {out_height} x {out_width}"
        )
