"""Pixels of another size, byte for byte as Pillow's bicubic makes them."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from qwenvl_prep._native import resample as _native
from qwenvl_prep.errors import BackendError
from qwenvl_prep.geometry import integer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BACKEND_VARIABLE", "Resizer", "backend", "resize"]

# Names the kernels to use instead of the fastest; for reports of faults.
BACKEND_VARIABLE = "QWENVL_PREP_BACKEND"


def backend() -> str:
    """
    Name the native kernels in use.

    Returns
    -------
    str
        ``"avx512vnni"``, ``"avx2"``, ``"neon"`` or ``"scalar"``: the fastest that
        this CPU can run, unless the environment variable ``QWENVL_PREP_BACKEND``
        names another.  All of them make the same bytes.

    Raises
    ------
    BackendError
        If that variable names kernels which this CPU cannot run.

    Examples
    --------
    >>> backend() in {"avx512vnni", "avx2", "neon", "scalar"}
    True
    """
    _obey_environment()
    return _native.backend()


def resize(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """
    Resize pixels with Pillow's antialiased bicubic filter.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (h, w), (h, w, 3) or (h, w, 4)
        Rows from the top.  Four samples are resized alike, as Pillow resizes CMYK
        and RGBX: alpha is not multiplied in.
    height, width : int
        Size wanted, in pixels, at least 1.

    Returns
    -------
    ndarray of uint8, shape (height, width[, 3 | 4])
        A new array; the bytes of ``PIL.Image.resize((width, height), BICUBIC)``.

    Raises
    ------
    TypeError
        If the array is not uint8.
    ValueError
        If its shape or a side does not fit.
    MemoryError
        If there is no memory for the result.
    BackendError
        If the environment names kernels which this CPU cannot run.

    Examples
    --------
    >>> import numpy as np
    >>> resize(np.full((8, 8, 3), 200, np.uint8), 4, 2).shape
    (4, 2, 3)
    """
    import numpy as np

    channels = _channels(pixels)
    in_height, in_width = pixels.shape[:2]
    _, _, height, width = _sides(in_height, in_width, height, width)
    _obey_environment()
    target = np.empty((height, width, *pixels.shape[2:]), np.uint8)
    _native.resample(
        np.ascontiguousarray(pixels).reshape(-1),
        target.reshape(-1),
        in_height,
        in_width,
        channels,
        height,
        width,
        _native.is_height_first(in_height, in_width, height, width),
    )
    return target


class Resizer:
    """
    The same resize for a picture whose rows come one after another.

    Memory is that of the rows which one output row needs, some
    ``4 * height / out_height`` of them, so that a picture larger than memory can be
    resized while it is read.

    Parameters
    ----------
    height, width : int
        Size of the picture that is fed, in pixels.
    out_height, out_width : int
        Size wanted, in pixels, at least 1.
    channels : int, default 3
        Samples per pixel: 1, 3 or 4.
    orientation : int, default 1
        EXIF's orientation of the rows, 1 to 8.  The bytes are those of a picture
        turned upright first and resized then; yet rows go in and come out as they
        are stored, and both sizes are meant so, which leaves only the small picture
        to be turned.
    extent : (float, float), optional
        Height and width that the rows stand for, where their last row or column was
        cut off: the size and less than 1 more.

    Raises
    ------
    ValueError
        If a size, the channels or the orientation do not fit.
    MemoryError
        If there is no memory for the weights and the rows between the passes.
    BackendError
        If the environment names kernels which this CPU cannot run.

    Examples
    --------
    >>> import numpy as np
    >>> picture = np.arange(100 * 80 * 3, dtype=np.uint8).reshape(100, 80, 3)
    >>> resizer = Resizer(100, 80, 20, 16)
    >>> parts = [resizer.feed(picture[top : top + 30]) for top in range(0, 100, 30)]
    >>> [part.shape[0] for part in parts]
    [1, 7, 6, 6]
    >>> np.array_equal(np.concatenate(parts), resize(picture, 20, 16))
    True
    """

    __slots__ = ("_out_row", "_row", "_stream")

    def __init__(
        self,
        height: int,
        width: int,
        out_height: int,
        out_width: int,
        *,
        channels: int = 3,
        orientation: int = 1,
        extent: tuple[float, float] | None = None,
    ) -> None:
        sides = _sides(height, width, out_height, out_width)
        height, width, out_height, out_width = sides
        channels = integer("channels", channels)
        orientation = integer("orientation", orientation)
        if channels not in {1, 3, 4}:
            raise ValueError(f"Expected 1, 3 or 4 channels but received {channels}")
        if orientation not in range(1, 9):
            raise ValueError(
                f"Expected an orientation of 1..8 but received {orientation}"
            )
        # Turned upright, the stored rows of 5 to 8 are columns: there the pass that
        # Pillow runs over the upright height is ours over the stored width.
        if orientation < 5:
            height_first = _native.is_height_first(height, width, out_height, out_width)
        else:
            height_first = not _native.is_height_first(
                width, height, out_width, out_height
            )
        self._row = (width,) if channels == 1 else (width, channels)
        self._out_row = (out_width,) if channels == 1 else (out_width, channels)
        _obey_environment()
        self._stream = _native.RowStream(
            height,
            width,
            out_height,
            out_width,
            channels,
            height_first,
            orientation in _MIRRORED_ACROSS,
            orientation in _MIRRORED_DOWN,
            *(extent or ()),
        )

    def feed(
        self, rows: NDArray[np.uint8], *, out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """
        Take the next rows from the top and give those that are finished.

        Parameters
        ----------
        rows : ndarray of uint8, shape (n, width[, 3 | 4])
            Any number of rows.
        out : ndarray of uint8, shape (k, out_width[, 3 | 4]), optional
            Where to write the finished rows; contiguous, and *k* at least as many as
            come.  By default a new array.

        Returns
        -------
        ndarray of uint8, shape (m, out_width[, 3 | 4])
            The next finished rows, the first of *out* if that is given; *m* may be 0,
            and is largest at the end.  All together are the resized picture.

        Raises
        ------
        TypeError
            If the array is not uint8.
        ValueError
            If its shape does not fit, or there are more rows than the picture has.
        RuntimeError
            If another thread is feeding this resizer.
        """
        import numpy as np

        if rows.dtype != np.uint8:
            raise TypeError(f"Expected uint8 pixels but received {rows.dtype}")
        if rows.shape[1:] != self._row:
            raise ValueError(
                f"Expected rows of shape (n, {', '.join(map(str, self._row))}) but "
                f"received {rows.shape}"
            )
        n_ready = self._stream.n_ready(rows.shape[0])
        if out is None:
            out = np.empty((n_ready, *self._out_row), np.uint8)
        self._check_out(out, n_ready)
        ready = out[:n_ready]
        self._stream.feed(np.ascontiguousarray(rows).reshape(-1), ready.reshape(-1))
        return ready

    def _check_out(self, out: NDArray[np.uint8], n_ready: int) -> None:
        if out.dtype != "uint8":
            raise TypeError(f"Expected out to be uint8 but received {out.dtype}")
        if out.shape[1:] != self._out_row or out.shape[0] < n_ready:
            raise ValueError(
                f"Expected out of shape ({n_ready} or more, "
                f"{', '.join(map(str, self._out_row))}) but received {out.shape}"
            )
        # Else reshaping would copy, and the rows would be lost.
        if not (out.flags.c_contiguous and out.flags.writeable):
            raise ValueError("Expected out to be contiguous and writeable")

    def __repr__(self) -> str:
        missing = self._stream.n_missing
        return f"<Resizer to rows of {self._out_row[0]} pixels, {missing} rows to come>"


# Which axes of the stored picture run against those of the upright one.
_MIRRORED_ACROSS = frozenset({2, 3, 7, 8})
_MIRRORED_DOWN = frozenset({3, 4, 6, 7})


@functools.cache
def _obey_environment() -> None:
    """Choose the kernels once, at first use: an import has nobody to refuse to."""
    name = os.environ.get(BACKEND_VARIABLE)
    if not name:
        return
    try:
        _native.use_backend(name)
    except ValueError as exc:
        raise BackendError(
            f"Expected {BACKEND_VARIABLE} to name kernels of this CPU, "
            f"{' or '.join(_native.backends())}, but it names {name}; without it the "
            f"fastest are taken"
        ) from exc


def _channels(pixels: NDArray[np.uint8]) -> int:
    import numpy as np

    if pixels.dtype != np.uint8:
        raise TypeError(f"Expected uint8 pixels but received {pixels.dtype}")
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim not in {2, 3} or (pixels.ndim == 3 and channels not in {3, 4}):
        raise ValueError(
            f"Expected pixels of shape (h, w), (h, w, 3) or (h, w, 4) but received "
            f"{pixels.shape}"
        )
    return channels


def _sides(
    height: int, width: int, out_height: int, out_width: int
) -> tuple[int, int, int, int]:
    sides = (
        integer("height", height),
        integer("width", width),
        integer("out_height", out_height),
        integer("out_width", out_width),
    )
    if not all(1 <= side <= _native.MAX_SIDE for side in sides):
        raise ValueError(
            f"Expected sides of at least 1, at most {_native.MAX_SIDE} but received "
            f"{sides[:2]} to {sides[2:]}"
        )
    return sides
