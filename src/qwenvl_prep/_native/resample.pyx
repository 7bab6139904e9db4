"""
Pillow's bicubic resize, byte for byte; here memory safety is owned.

Lengths are compared beside the pointers, products are checked for overflow, and the
C code below takes and frees what it needs between the passes.
:mod:`qwenvl_prep.resize` owns what sizes mean and allocates the output.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uintptr_t

cdef extern from "convolve.h" nogil:
    cdef struct qvp_kernels:
        const char *name
    cdef struct qvp_shape:
        int64_t height
        int64_t width
        int64_t out_height
        int64_t out_width
        double extent_down
        double extent_across
        int channels
        int height_first
        int mirrored_across
        int mirrored_down
    cdef struct qvp_stream:
        int64_t in_height
        int64_t in_row_bytes
        int64_t out_row_bytes
        int64_t fed
    int QVP_OK
    const qvp_kernels *qvp_kernels_at(int i)
    int qvp_stream_open(
        qvp_stream *stream, const qvp_kernels *kernels, const qvp_shape *shape
    )
    int64_t qvp_stream_ready(const qvp_stream *stream, int64_t n_rows)
    void qvp_stream_feed(
        qvp_stream *stream, const uint8_t *rows, int64_t n_rows, uint8_t *target
    )
    void qvp_stream_close(qvp_stream *stream)

# One thread at a time, also where there is no GIL.
cdef extern from * nogil:
    bint __atomic_test_and_set(char *flag, int order)
    void __atomic_clear(char *flag, int order)
    int __ATOMIC_ACQUIRE
    int __ATOMIC_RELEASE

# Sample positions are kept in int32.
MAX_SIDE = 2**31 - 1
cdef int64_t _INT64_MAX = 9223372036854775807

# The kernels that new resizers take; changed by use_backend alone.
cdef const qvp_kernels *_kernels = qvp_kernels_at(0)


def backends():
    """Names of the kernels that this CPU can run, fastest first."""
    cdef const qvp_kernels *kernels
    names = []
    while True:
        kernels = qvp_kernels_at(<int>len(names))
        if kernels == NULL:
            return names
        names.append(kernels.name.decode("ascii"))


def backend():
    """Name of the kernels in use."""
    return _kernels.name.decode("ascii")


def use_backend(str name):
    """
    Take other kernels from now on; for tests and for reports of faults.

    Raises
    ------
    ValueError
        If this CPU cannot run kernels of that name.
    """
    global _kernels
    names = backends()
    if name not in names:
        raise ValueError(f"Expected one of {', '.join(names)} but received {name}")
    _kernels = qvp_kernels_at(<int>names.index(name))


def is_height_first(
    int64_t height, int64_t width, int64_t out_height, int64_t out_width
):
    """
    Tell which pass runs first, by Pillow 13's rule.

    The image between the passes is rounded to 8 bits, so the order shows in the
    bytes.  Pillow runs the downward pass first where it sheds more than twice as
    many rows as the other pass sheds columns.  Sides are at most ``MAX_SIDE``.
    """
    cdef int64_t rows_shed
    _check_sides(height, width, out_height, out_width, 1)
    rows_shed = height - out_height
    return rows_shed > 0 and rows_shed > 2 * (width - out_width)


cdef int64_t _product(int64_t first, int64_t second, int64_t third) except -1:
    if first > _INT64_MAX // second or first * second > _INT64_MAX // third:
        raise MemoryError("the image is larger than memory can address")
    return first * second * third


cdef int _check_sides(
    int64_t height, int64_t width, int64_t out_height, int64_t out_width, int channels
) except -1:
    if channels != 1 and channels != 3 and channels != 4:
        raise ValueError(f"Expected 1, 3 or 4 channels but received {channels}")
    for side in (height, width, out_height, out_width):
        if not 1 <= side <= MAX_SIDE:
            raise ValueError(f"Expected sides in 1..{MAX_SIDE} but received {side}")
    return 0


@cython.final
cdef class RowStream:
    """
    A resize that is fed rows from the top and gives out finished rows.

    Parameters
    ----------
    height, width, out_height, out_width : int
        Pixels, 1 to ``MAX_SIDE``.
    channels : int
        1, 3 or 4.  Four are resized alike, without premultiplying.
    height_first : bool
        Which pass runs first; Pillow's choice is :func:`is_height_first`.
    mirrored_across, mirrored_down : bool
        Whether the bytes are those of the picture turned over, resized and turned
        back; they differ from the plain ones where Pillow's weights are not
        symmetric to the last bit.
    extent_down, extent_across : float
        Rows and pixels that the picture stands for: its size and less than 1 more,
        where its last row or pixel was cut off; 0 for the size itself.

    Raises
    ------
    ValueError
        If a size does not fit.
    MemoryError
        If there is no memory for the weights or the rows between the passes.
    """

    cdef qvp_stream _stream
    cdef char _is_busy

    def __cinit__(
        self,
        int64_t height,
        int64_t width,
        int64_t out_height,
        int64_t out_width,
        int channels,
        bint height_first,
        bint mirrored_across=False,
        bint mirrored_down=False,
        double extent_down=0,
        double extent_across=0,
    ):
        cdef qvp_shape shape
        cdef const qvp_kernels *kernels = _kernels
        cdef int status
        _check_sides(height, width, out_height, out_width, channels)
        # Whole pictures need not fit memory, but their rows are counted in int64.
        _product(height, width, channels)
        _product(out_height, out_width, channels)
        shape.height = height
        shape.width = width
        shape.out_height = out_height
        shape.out_width = out_width
        shape.extent_down = extent_down or <double>height
        shape.extent_across = extent_across or <double>width
        if not (
            height <= shape.extent_down < height + 1
            and width <= shape.extent_across < width + 1
        ):
            raise ValueError(
                f"Expected extents of {height} and {width}, or less than 1 more, but "
                f"received {extent_down} and {extent_across}"
            )
        shape.channels = channels
        shape.height_first = height_first
        shape.mirrored_across = mirrored_across
        shape.mirrored_down = mirrored_down
        with nogil:  # not interacting with Python objects from here, release the GIL
            status = qvp_stream_open(&self._stream, kernels, &shape)
        if status != QVP_OK:
            raise MemoryError(
                f"no memory to resize {height} x {width} to {out_height} x {out_width}"
            )

    def __dealloc__(self):
        qvp_stream_close(&self._stream)

    cdef int _enter(self) except -1:
        if __atomic_test_and_set(&self._is_busy, __ATOMIC_ACQUIRE):
            raise RuntimeError("Expected one thread at a time to feed a resizer")
        return 0

    cdef void _leave(self) noexcept:
        __atomic_clear(&self._is_busy, __ATOMIC_RELEASE)

    cdef int64_t _n_ready(self, int64_t n_rows) except -1:
        cdef int64_t n_missing = self._stream.in_height - self._stream.fed
        if not 0 <= n_rows <= n_missing:
            raise ValueError(
                f"Expected at most {n_missing} more rows but received {n_rows}"
            )
        return qvp_stream_ready(&self._stream, n_rows)

    @property
    def n_missing(self):
        """Rows still to be fed."""
        return self._stream.in_height - self._stream.fed

    def n_ready(self, int64_t n_rows):
        """Rows that come out if *n_rows* more are fed."""
        self._enter()
        try:
            return self._n_ready(n_rows)
        finally:
            self._leave()

    def feed(self, const uint8_t[::1] rows, uint8_t[::1] target):
        """
        Take the next rows and write those that are finished.

        Parameters
        ----------
        rows : uint8 (n * width * channels,), contiguous
            May be read-only.
        target : uint8 (n_ready(n) * out_width * channels,), contiguous, written
            Must not overlap *rows*.

        Raises
        ------
        ValueError
            If a length does not fit, or the buffers overlap.
        RuntimeError
            If another thread is feeding this stream.
        """
        self._enter()
        try:
            self._feed(rows, target)
        finally:
            self._leave()

    cdef int _feed(self, const uint8_t[::1] rows, uint8_t[::1] target) except -1:
        cdef uintptr_t source_start, source_end, target_start, target_end
        cdef uint8_t nothing = 0
        cdef uint8_t *into = &nothing
        cdef int64_t n_rows, n_bytes
        n_rows = rows.shape[0] // self._stream.in_row_bytes
        if rows.shape[0] != n_rows * self._stream.in_row_bytes:
            raise ValueError(
                f"Expected rows of {self._stream.in_row_bytes} bytes but received "
                f"{rows.shape[0]} bytes"
            )
        n_bytes = self._n_ready(n_rows) * self._stream.out_row_bytes
        if target.shape[0] != n_bytes:
            raise ValueError(
                f"Expected a target of {n_bytes} bytes but received {target.shape[0]}"
            )
        if n_rows == 0:
            return 0
        if n_bytes:
            into = &target[0]
        source_start = <uintptr_t>&rows[0]
        source_end = source_start + <uintptr_t>rows.shape[0]
        target_start = <uintptr_t>into
        target_end = target_start + <uintptr_t>n_bytes
        if source_start < target_end and target_start < source_end:
            raise ValueError("Expected source and target that do not overlap")
        with nogil:  # not interacting with Python objects from here, release the GIL
            qvp_stream_feed(&self._stream, &rows[0], n_rows, into)
        return 0


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
    Resize a whole picture of interleaved 8-bit samples into a buffer of the caller.

    Parameters
    ----------
    source : uint8 (height * width * channels,), contiguous
        Rows from the top, samples interleaved; may be read-only.
    target : uint8 (out_height * out_width * channels,), contiguous, written
        Must not overlap *source*.
    height, width, out_height, out_width, channels, height_first
        As for :class:`RowStream`.

    Raises
    ------
    ValueError
        If a size or a length does not fit, or the buffers overlap.
    MemoryError
        If there is no memory for the weights or the rows between the passes.
    """
    # The source's length comes first: the weights of a size that nobody holds
    # may be larger than memory.
    _check_sides(height, width, out_height, out_width, channels)
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
    RowStream(
        height, width, out_height, out_width, channels, height_first
    ).feed(source, target)
