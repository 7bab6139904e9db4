"""Pixels of another size, byte for byte as Pillow's bicubic makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwenvl_prep._native import resample as _native
from qwenvl_prep.geometry import integer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["resize"]


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

    Examples
    --------
    >>> import numpy as np
    >>> resize(np.full((8, 8, 3), 200, np.uint8), 4, 2).shape
    (4, 2, 3)
    """
    import numpy as np

    if pixels.dtype != np.uint8:
        raise TypeError(f"Expected uint8 pixels but received {pixels.dtype}")
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim not in {2, 3} or (pixels.ndim == 3 and channels not in {3, 4}):
        raise ValueError(
            f"Expected pixels of shape (h, w), (h, w, 3) or (h, w, 4) but received "
            f"{pixels.shape}"
        )
    height, width = integer("height", height), integer("width", width)
    for side in (*pixels.shape[:2], height, width):
        if not 1 <= side <= _native.MAX_SIDE:
            raise ValueError(
                f"Expected sides of at least 1, at most {_native.MAX_SIDE} but got "
                f"{pixels.shape[:2]} to {(height, width)}"
            )
    if pixels.shape[:2] == (height, width):
        return pixels.copy()
    target = np.empty((height, width, *pixels.shape[2:]), np.uint8)
    _native.resample(
        np.ascontiguousarray(pixels).reshape(-1),
        target.reshape(-1),
        pixels.shape[0],
        pixels.shape[1],
        channels,
        height,
        width,
        _native.is_height_first(pixels.shape[0], pixels.shape[1], height, width),
    )
    return target
