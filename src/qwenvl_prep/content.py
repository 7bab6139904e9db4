"""
What kind of picture is this: its colours, its surfaces, and what JPEG would cost it.

Told by the pixels alone, because the file they came from tells little: a screenshot
may have been a JPEG, and a photo a PNG.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from qwenvl_prep._native import content as _native

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Content",
    "Palette",
    "flat_steps",
    "is_neutral",
    "palette_of",
    "standard_steps",
    "study",
]

# Luma and colour, 64 steps each, row by row.
_Steps: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]

# Squares of 16 × 16 pixels that are looked at: 1 of 40 in a megapixel.  Drawn
# pictures get more, because their colour sits in few places.
_SQUARES = 96
_SQUARES_DRAWN = 256

# Drawn pictures (text, charts, windows) have even surfaces even after resizing: of the
# public corpora's, 75 % of the pixels and more equal a neighbour; of photos, 72 % at
# most.
_DRAWN = 0.75

# The loss of half-size colour over the loss of quantising luma, from which on colour
# keeps its full size.  Thin coloured strokes are few in a drawn picture, and matter;
# in photos this much is reached by none but those made to show it.
_COLOURFUL_DRAWN = 0.25
_COLOURFUL = 2.0
# Added to the loss of quantising: below that, nothing is seen.
_UNSEEN = 0.0025

# The steps of JPEG's own example tables (T.81, K.1 and K.2), for quality 50.
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_COLOUR = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)  # fmt: skip
# Tables are made flatter by this power: SSIM, like a model, reads fine detail and
# does not know that the eye cares less for it.
_FLATTENED = 0.3
_FLAT = tuple(
    tuple((step / 16) ** _FLATTENED for step in table) for table in (_LUMA, _COLOUR)
)
# Below this quality the example's tables are as short for the same SSIM.
_LEAST_FLAT = 85
# How much coarser than the example's first step the flat tables may be.
_COARSER = (1.4, 1.8, 2.3, 3.0)
# Of the predicted loss of the example tables, to stay below it in fact as well.
_SAFE = 0.88
# Of their predicted length; grain is longer in fact than it is in the prediction.
_SHORTER = 0.98


@dataclass(frozen=True, slots=True)
class Content:
    """
    What a picture is like.

    Attributes
    ----------
    is_drawn : bool
        Whether it has the even surfaces of text, charts and windows.
    is_colourful : bool
        Whether colour of half the size would be seen in it.
    steps : tuple of 2 tuples of 64 int
        JPEG's quantisation tables for luma and for colour, row by row.
    """

    is_drawn: bool
    is_colourful: bool
    steps: _Steps

    def __repr__(self) -> str:
        kind = "drawn" if self.is_drawn else "natural"
        return f"<Content {kind}{', colourful' * self.is_colourful}>"


@dataclass(frozen=True, slots=True, repr=False)
class Palette:
    """
    A picture of few colours.

    Attributes
    ----------
    indices : ndarray of uint8, shape (height, width)
        The number of each pixel's colour.
    colours : ndarray of uint8, shape (n, 3) or (n,)
        The colours, or the grey levels, in the order they come.
    """

    indices: NDArray[np.uint8]
    colours: NDArray[np.uint8]

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """The colours as RGB, shape (n, 3)."""
        if self.colours.ndim == 2:
            return self.colours
        return np.repeat(self.colours[:, None], 3, axis=1)

    def __repr__(self) -> str:
        return f"<Palette of {len(self.colours)}>"


def study(data: NDArray[np.uint8], quality: int) -> Content:
    """
    Look at some squares of a picture.

    Parameters
    ----------
    data : ndarray of uint8, shape (height, width, 3) or (height, width)
        RGB or grey, contiguous.
    quality : int
        JPEG quality, 1 to 95.  From 85 on, the steps are the coarsest flat ones
        that are predicted to lose no more than the example tables do at this
        quality; where these would not be shorter, and below 85, the example's own.

    Returns
    -------
    Content
        The same for the same pixels, on every machine.
    """
    height, width = data.shape[:2]
    channels = 1 if data.ndim == 2 else 3

    def looked(
        tables: NDArray[np.float32], squares: int
    ) -> tuple[float, float, NDArray[np.float64]]:
        found = np.empty((len(tables) // 128, 3))
        even, half_size, _ = _native.sample(
            data.reshape(-1), height, width, channels, tables, squares, found.ravel()
        )
        return even, half_size, found

    even, half_size, found = looked(_tables(quality), _SQUARES)
    is_drawn = even >= _DRAWN
    if is_drawn:
        _, half_size, found = looked(_tables(quality), _SQUARES_DRAWN)
    least = _COLOURFUL_DRAWN if is_drawn else _COLOURFUL
    is_colourful = half_size > least * (found[0, 0] + _UNSEEN)
    coarser = _coarser(found[:, 1].tolist(), found[:, 2].tolist())
    standard = steps = standard_steps(quality)
    if coarser:
        steps = flat_steps(quality, coarser)
    if coarser and is_drawn:
        # Of few levels, some fall between two steps and some on one: no line tells.
        both = np.array((standard, steps), np.float32).reshape(-1)
        _, _, found = looked(both, _SQUARES_DRAWN)
        if found[1, 1] > _SAFE * found[0, 1]:
            steps = standard
    return Content(
        is_drawn=bool(is_drawn), is_colourful=bool(is_colourful), steps=steps
    )


def _coarser(losses: list[float], bits: list[float]) -> float | None:
    """
    Give how coarse the flat tables may be, or None where the example's are shorter.

    The first loss and bits are those of the example tables, the others those of the
    flat ones; between two of these, the logarithms lie on a line.
    """
    allowed = _SAFE * losses[0]
    last = max((i for i in range(1, len(losses)) if losses[i] <= allowed), default=0)
    if not last:
        return None
    coarser, length = _COARSER[last - 1], bits[last]
    if last + 1 < len(losses) and losses[last] > 0:
        way = math.log(allowed / losses[last]) / math.log(
            losses[last + 1] / losses[last]
        )
        coarser *= (_COARSER[last] / coarser) ** way
        length += (bits[last + 1] - length) * way
    return coarser if length < _SHORTER * bits[0] else None


def is_neutral(data: NDArray[np.uint8]) -> bool:
    """Tell whether red, green and blue of RGB pixels are equal everywhere."""
    return _native.is_neutral(data.reshape(-1))


def palette_of(data: NDArray[np.uint8], most: int = 256) -> Palette | None:
    """
    Give numbers to the colours of a picture, if it has *most* at most.

    Parameters
    ----------
    data : ndarray of uint8, shape (height, width, 3) or (height, width)
        RGB or grey, contiguous.
    most : int
        1 to 256.

    Returns
    -------
    Palette or None
        None where there are more.
    """
    channels = 1 if data.ndim == 2 else 3
    indices = np.empty(data.shape[:2], np.uint8)
    colours = np.empty((most, channels), np.uint8)
    found = _native.index_colours(
        data.reshape(-1), channels, indices.ravel(), colours.ravel()
    )
    if not found:
        return None
    return Palette(indices, colours[:found] if channels == 3 else colours[:found, 0])


@functools.cache
def standard_steps(quality: int) -> _Steps:
    """Give JPEG's example tables at a quality, as libjpeg scales them."""
    scale = _scale(quality)
    luma, colour = (
        tuple(min(max((step * scale + 50) // 100, 1), 255) for step in table)
        for table in (_LUMA, _COLOUR)
    )
    return luma, colour


def flat_steps(quality: int, coarser: float) -> _Steps:
    """Give the example tables at a quality, made flatter, and coarser by a factor."""
    first = 16 * _scale(quality) / 100 * coarser
    luma, colour = (
        tuple(min(max(int(first * step + 0.5), 1), 255) for step in table)
        for table in _FLAT
    )
    return luma, colour


def _scale(quality: int) -> int:
    """Give what libjpeg multiplies its tables with, in percent."""
    return 5000 // quality if quality < 50 else 200 - 2 * quality


@functools.cache
def _tables(quality: int) -> NDArray[np.float32]:
    """Give the tables that are looked at, the example's first, as one array."""
    tables = [
        standard_steps(quality),
        *(flat_steps(quality, way) for way in _COARSER if quality >= _LEAST_FLAT),
    ]
    array = np.array(tables, np.float32).reshape(-1)
    array.setflags(write=False)
    return array
