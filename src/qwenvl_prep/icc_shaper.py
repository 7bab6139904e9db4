"""What an RGB profile of three curves and a matrix makes of the samples, as tables."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from qwenvl_prep._native.shaper import shape_rgb

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TAGS", "Shaper", "check_colours", "shaper_for"]

# LittleCMS gives 8-bit samples 14 bits behind the point: curves, matrix and levels.
_ONE = 1 << 14
# What LittleCMS adds up in; curves and a matrix that reach it are nonsense.
_MAX_SUM = (1 << 31) - 1

_COLOURS = (b"rXYZ", b"gXYZ", b"bXYZ")
_CURVES = (b"rTRC", b"gTRC", b"bTRC")
# Goes before them, where there is one.
_TABLE = b"A2B0"
TAGS = frozenset((*_COLOURS, *_CURVES, _TABLE))

# How many numbers each kind of parametric curve has.
_PARAMETERS = (1, 3, 4, 5, 7)

# sRGB's own curve, as LittleCMS builds it: exponent, factor, offset, slope, bend.
_SRGB = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Shaper:
    """
    Curves, matrix and curves in one, for 8-bit samples.

    Attributes
    ----------
    parts : ndarray of int32, shape (3, 256, 4)
        What each code of red, green and blue adds to each sample of linear sRGB,
        with 28 bits behind the point; the fourth sample is not used.
    levels : ndarray of uint8, shape (16385,)
        The code of each level of linear light.
    """

    parts: NDArray[np.int32]
    levels: NDArray[np.uint8]

    def apply(self, samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """
        Convert samples to sRGB, into new memory.

        Parameters
        ----------
        samples : ndarray of uint8, shape (rows, width, 3)
            May be a view with gaps.
        """
        import numpy as np

        out = np.empty(samples.shape, np.uint8)
        block = np.ascontiguousarray(samples)
        shape_rgb(block.reshape(-1), out.reshape(-1), self.parts, self.levels)
        return out


def shaper_for(
    tags: dict[bytes, bytes], srgb: tuple[tuple[float, ...], ...]
) -> Shaper | None:
    """
    Make the tables of a profile, with the arithmetic of LittleCMS.

    Whether LittleCMS takes this way for a profile is not known here, nor is its
    arithmetic promised: whoever uses the tables compares (:func:`check_colours`).

    Parameters
    ----------
    tags : dict of bytes to bytes
        What the profile holds under the names in ``TAGS``; a stranger's, so it may
        be anything.
    srgb : tuple of 3 tuples of 3 float
        Red, green and blue of sRGB as XYZ, with all digits that LittleCMS has.

    Returns
    -------
    Shaper or None
        None if the profile has no three curves and colours, has a table of colours,
        which goes before them, or has numbers that do not fit.
    """
    import numpy as np

    if _TABLE in tags or not all(name in tags for name in _COLOURS + _CURVES):
        return None
    with np.errstate(all="ignore"):
        try:
            to_xyz = np.array([_xyz(tags[name]) for name in _COLOURS]).T
            matrix = np.linalg.solve(np.array(srgb).T, to_xyz)
            # Equal in most profiles, so worked out once.
            curves = {data: _curve(data) for data in {tags[name] for name in _CURVES}}
        except (struct.error, ValueError, ArithmeticError, np.linalg.LinAlgError):
            return None
        light = np.stack([curves[tags[name]] for name in _CURVES])
        # To 14 bits first, each by itself; their products are exact.
        parts = _rounded(matrix)[:, :, None] * _rounded(light)
        largest = abs(parts).max(axis=2).sum(axis=1)
    # Not ``>``, which is false where something is not a number.
    if not (largest <= _MAX_SUM - _ONE).all():
        return None
    packed = np.zeros((3, 256, 4), np.int32)
    packed[:, :, :3] = parts.transpose(1, 2, 0)
    packed[2, :, :3] += _ONE // 2
    return Shaper(packed, _levels())


def check_colours() -> NDArray[np.uint8]:
    """
    Give the colours on which tables are held against LittleCMS.

    Every grey, a lattice of 33 steps a side, and 65,536 colours in which every code
    of every channel comes up some 256 times. Where all agree, one entry of a curve
    may still be off by 1 of 16,384: then less than one colour in 10,000 is off by 1.

    Returns
    -------
    ndarray of uint8, shape (1, 101729, 3)
    """
    import numpy as np

    greys = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(-1, 3)
    steps = np.minimum(np.arange(0, 257, 8), 255).astype(np.uint8)
    lattice = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    # Multiples of the golden section, 2 ** 32 long: each pair of the low two bytes
    # comes up once, and the third byte is spread evenly.
    spread = np.arange(1 << 16, dtype=np.uint32) * np.uint32(0x9E3779B1)
    spread = spread.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3]
    return np.concatenate([greys, lattice, spread])[np.newaxis]


def _xyz(data: bytes) -> tuple[float, ...]:
    if data[:4] != b"XYZ ":
        raise ValueError
    return tuple(n / 65536 for n in struct.unpack_from(">3i", data, 8))


def _rounded(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to 14 bits behind the point, halves up, and give them as whole numbers."""
    import numpy as np

    return np.floor(numbers * _ONE + 0.5)


def _curve(data: bytes) -> NDArray[np.float64]:
    """Give the light of each of the 256 codes; between steps, LittleCMS has floats."""
    import numpy as np

    codes = (np.arange(256) / 255).astype(np.float32)
    if data[:4] == b"para":
        (kind,) = struct.unpack_from(">H", data, 8)
        if kind >= len(_PARAMETERS):
            raise ValueError
        numbers = struct.unpack_from(f">{_PARAMETERS[kind]}i", data, 12)
        function = _parametric(kind, *(n / 65536 for n in numbers))
    elif data[:4] == b"curv":
        (count,) = struct.unpack_from(">I", data, 8)
        if count > 1:
            points = np.frombuffer(data, ">u2", count, 12).astype(np.int64)
            return _between(points, codes)
        exponent = struct.unpack_from(">H", data, 12)[0] / 256 if count else 1.0
        function = _parametric(0, exponent)
    else:
        raise ValueError
    # By ``math``, whose last bit is the C library's, as LittleCMS' is; not NumPy's.
    light = [function(code) for code in codes.tolist()]
    return np.array(light).astype(np.float32).astype(np.float64)


def _parametric(
    kind: int,
    exponent: float,
    a: float = 1.0,
    b: float = 0.0,
    c: float = 0.0,
    d: float = 0.0,
    e: float = 0.0,
    f: float = 0.0,
) -> Callable[[float], float]:
    """Give the function of ICC.1:2022, 10.18, by its kind and its numbers."""

    def power(x: float) -> float:
        base = a * x + b
        return math.pow(base, exponent) if base > 0 else 0.0

    if kind == 0:
        return power
    if kind in {1, 2}:
        # The third number of kind 2 is added everywhere.
        start = max(-b / a, 0)
        return lambda x: (power(x) if x >= start else 0.0) + c
    return lambda x: power(x) + e if x >= d else c * x + f


def _between(
    points: NDArray[np.int64], codes: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Give a curve that is stored as points: whole numbers of 16 bits throughout."""
    import numpy as np

    words = np.floor(codes.astype(np.float64) * 65535 + 0.5).astype(np.int64)
    at = words * (len(points) - 1)
    # From 65535 a step to 65536, so that the index is the upper half.
    at += (at + 0x7FFF) // 0xFFFF
    index, rest = at >> 16, at & 0xFFFF
    low = points[index]
    high = points[np.minimum(index + 1, len(points) - 1)]
    words = low + (((high - low) * rest + 0x8000) >> 16)
    light: NDArray[np.float32] = np.divide(words, 65535, dtype=np.float32)
    return light.astype(np.float64)


@lru_cache(maxsize=1)
def _levels() -> NDArray[np.uint8]:
    """Turn sRGB's curve around, for 16,385 levels: to 16 bits first, then to 8."""
    import numpy as np

    exponent, a, b, slope, bend = _SRGB
    light = (np.arange(_ONE + 1) / _ONE).astype(np.float32).astype(np.float64)
    bent = (light ** (1 / exponent) - b) / a
    codes = np.where(light >= (a * bend + b) ** exponent, bent, light / slope)
    codes = np.clip(codes.astype(np.float32).astype(np.float64), 0, 1)
    words = np.floor(codes * 65535 + 0.5).astype(np.int64)
    # The power's last bits do not matter: off by 1e-9 it gives the same codes.
    levels: NDArray[np.uint8] = ((words * 65281 + 8388608) >> 24).astype(np.uint8)
    levels.flags.writeable = False
    return levels
