"""Strips of samples to an upright picture: coloured, flattened, resized, turned."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from qwenvl_prep._native.flatten import flatten_rgba
from qwenvl_prep.icc import conversion_for
from qwenvl_prep.resize import Resizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from qwenvl_prep.headers import ImageInfo
    from qwenvl_prep.options import PlanOptions

__all__ = ["Finish", "Pixels", "collect"]


@dataclass(frozen=True, slots=True, repr=False)
class Pixels:
    """
    An upright picture.

    Attributes
    ----------
    data : ndarray of uint8, shape (height, width, 3) or (height, width)
        RGB or grey, rows from the top, contiguous.
    missing : float
        Share of the rows that a file which ends early does not hold, 0 to 1.
    is_coarse : bool
        Whether a progressive file that ends early holds all rows without their
        details.
    """

    data: NDArray[np.uint8]
    missing: float = 0.0
    is_coarse: bool = False

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.data.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.data.shape[1])

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """The same with three samples a pixel, shape (height, width, 3)."""
        if not self.is_grey:
            return self.data
        return np.repeat(self.data[:, :, None], 3, axis=2)

    @property
    def is_grey(self) -> bool:
        """Whether there is one sample a pixel."""
        return self.data.ndim == 2

    def __repr__(self) -> str:
        kind = "grey" if self.is_grey else "RGB"
        return f"<Pixels {self.height}x{self.width} {kind}>"


class Finish:
    """
    What is done to each strip by itself: to sRGB, and onto the background.

    Parameters
    ----------
    info : ImageInfo
        Whose colour profile counts, and whether four samples are CMYK.
    options : PlanOptions
        Background, and whether profiles count.
    """

    def __init__(self, info: ImageInfo, options: PlanOptions) -> None:
        self._conversion = conversion_for(info, options.color)
        self._background = options.background
        self.is_neutral = len(set(options.background)) == 1
        # CMYK without a usable profile is brought to RGB by its decoder.
        self.is_cmyk = info.colour == "cmyk" and self._conversion is not None

    def __call__(self, samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """
        Finish one strip.

        Parameters
        ----------
        samples : ndarray of uint8, shape (rows, width, 1 | 2 | 3 | 4)
            Grey or RGB, with alpha where there are 2 or 4, or CMYK.

        Returns
        -------
        ndarray of uint8, shape (rows, width, 1 | 3)
            Grey or sRGB; the samples themselves where nothing has to be done.
        """
        bands = samples.shape[2]
        has_alpha = bands in {2, 4} and not self.is_cmyk
        colours = samples[:, :, : bands - has_alpha]
        conversion = self._conversion
        if conversion is not None:
            if colours.shape[2] < conversion.channels == 3:
                # The header says colour, and the decoder found grey.
                colours = np.repeat(colours, 3, axis=2)
            # Pillow gives grey with alpha as four samples.
            colours = conversion.apply(colours[:, :, : conversion.channels])
        if not has_alpha:
            return colours
        if bands == 4 and conversion is None:
            rgba = np.ascontiguousarray(samples)
        else:
            rgba = np.empty((*samples.shape[:2], 4), np.uint8)
            rgba[:, :, :3] = colours
            rgba[:, :, 3] = samples[:, :, -1]
        flat = np.empty((*samples.shape[:2], 3), np.uint8)
        flatten_rgba(rgba.reshape(-1), flat.reshape(-1), *self._background)
        is_grey = colours.shape[2] == 1 and self.is_neutral
        return flat[:, :, :1] if is_grey else flat

    def coloured(self, samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Finish a strip that :meth:`blank` ones follow, as deep as those."""
        finished = self(samples)
        if finished.shape[2] == 1 and not self.is_neutral:
            return np.repeat(finished, 3, axis=2)
        return finished

    def blank(self, like: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
        """Give rows of bare background, as wide and deep as others."""
        width, channels = like.shape[1:]
        return np.full((rows, width, channels), self._background[:channels], np.uint8)


def collect(
    parts: Iterable[NDArray[np.uint8]],
    stored: ImageInfo,
    size: tuple[int, int] | None,
    *,
    extent: tuple[float, float] | None = None,
) -> Pixels:
    """
    Collect finished strips, resized on the way, and turn the picture upright.

    Parameters
    ----------
    parts : iterable of uint8 arrays, shape (rows, width, 1 | 3)
        All rows of the picture, as stored.
    stored : ImageInfo
        Size and orientation of the rows as they come.
    size : (int, int) or None
        Upright height and width to resize to, if it is to be resized.
    extent : (float, float), optional
        Height and width that the stored rows stand for, if that is not their size.
    """
    rows = iter(parts)
    if size is None:
        picture = _whole(rows, stored)
    else:
        picture = _resized(rows, stored, size, extent)
    return Pixels(_turn_upright(picture, stored.orientation))


def _whole(parts: Iterator[NDArray[np.uint8]], stored: ImageInfo) -> NDArray[np.uint8]:
    first = next(parts)
    whole = np.empty((stored.height, stored.width, first.shape[2]), np.uint8)
    top = 0
    for part in chain([first], parts):
        bottom = top + part.shape[0]
        whole[top:bottom] = part
        top = bottom
    return whole


def _resized(
    parts: Iterator[NDArray[np.uint8]],
    stored: ImageInfo,
    size: tuple[int, int],
    extent: tuple[float, float] | None,
) -> NDArray[np.uint8]:
    """Resize strips as they come; channels are independent, so grey stays one."""
    height, width = size if stored.orientation < 5 else size[::-1]
    first = next(parts)
    channels = first.shape[2]
    resizer = Resizer(
        stored.height,
        stored.width,
        height,
        width,
        channels=channels,
        orientation=stored.orientation,
        extent=extent,
    )
    small = np.empty((height, width, channels), np.uint8)
    rows = small[:, :, 0] if channels == 1 else small
    top = 0
    for part in chain([first], parts):
        part = np.ascontiguousarray(part)
        samples = part[:, :, 0] if channels == 1 else part
        top += resizer.feed(samples, out=rows[top:]).shape[0]
    return small


def _turn_upright(samples: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply one of EXIF's eight orientations (CIPA DC-008, tag 0x0112)."""
    # One item a pixel: NumPy then moves three bytes at once instead of one by one.
    channels = samples.shape[2]
    pixels = np.ascontiguousarray(samples).view(f"V{channels}")[:, :, 0]
    if orientation in {5, 6, 7, 8}:
        pixels = pixels.T
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    turned = np.ascontiguousarray(pixels).view(np.uint8)
    shape = pixels.shape if channels == 1 else (*pixels.shape, channels)
    return turned.reshape(shape)
