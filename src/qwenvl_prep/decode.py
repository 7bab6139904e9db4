"""
Upright 8-bit RGB out of a file or a pixel source: the one door to all decoders.

libvips reads what it reads exactly as Pillow does (JPEG, PNG, WebP and plain TIFF),
Pillow reads the rest, with its plugins named one by one.  Both give strips of rows,
which are collected, resized as they come, or dropped: where a smaller picture is
wanted, the large one never exists in one piece.
"""

from __future__ import annotations

import dataclasses
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from qwenvl_prep._native.flatten import flatten_rgba
from qwenvl_prep.decode_pillow import (
    copied_image,
    heif_strips,
    image_strips,
    pillow_strips,
    probe_pillow,
)
from qwenvl_prep.decode_vips import empty_vips_cache, vips_strips
from qwenvl_prep.errors import DamagedImageError, UnsupportedFormatError
from qwenvl_prep.jpeg_structure import without_junk
from qwenvl_prep.limits import DEFAULT_LIMITS, Limits
from qwenvl_prep.resize import Resizer
from qwenvl_prep.strips import is_for_vips, strips

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray

    from qwenvl_prep.headers import ImageInfo
    from qwenvl_prep.sources import LargeFile

    # Arrays of uint8, shape (rows, width, samples), from the top.
    _Strips: TypeAlias = Generator[NDArray[np.uint8]]

_T = TypeVar("_T")

__all__ = [
    "Pixels",
    "decode",
    "decode_pixels",
    "empty_vips_cache",
    "own_pixels",
    "probe_pillow",
    "prove",
]

_WHITE = 255

# Where junk between the segments in front of a JPEG's pixels is looked for.
_JPEG_HEAD = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, repr=False)
class Pixels:
    """
    An upright picture.

    Attributes
    ----------
    data : ndarray of uint8, shape (height, width, 3)
        RGB, rows from the top, contiguous.
    """

    data: NDArray[np.uint8]

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.data.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.data.shape[1])

    def __repr__(self) -> str:
        return f"<Pixels {self.height}x{self.width} RGB>"


def decode(
    file: bytes | LargeFile,
    info: ImageInfo,
    *,
    size: tuple[int, int] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Pixels:
    """
    Decode a file to upright RGB on white.

    Parameters
    ----------
    file : bytes or LargeFile
        The whole file, or what reads it.
    info : ImageInfo
        What its header says.
    size : (int, int), optional
        Upright height and width to resize to; other than the picture's own.
    limits : Limits
        What may be decoded; checked before a decoder sees a byte.

    Returns
    -------
    Pixels
        The first frame, turned upright, transparent parts laid on white, and then
        resized by Pillow's bicubic filter if a size was given.

    Raises
    ------
    DecodeLimitError
        If the header announces more than *limits* allow.
    DamagedImageError
        If the data is broken, ends early or does not keep what the header promised.
    UnsupportedFormatError
        If the samples are of a kind that has no one meaning in 8 bits.
    SourceError
        If reading the file fails on the way.
    """
    limits.check_header(info, is_whole=size is None)
    stored = _as_stored(info)
    return _read(file, stored, lambda parts: _collected(parts, stored, size))


def prove(
    file: bytes | LargeFile, info: ImageInfo, *, limits: Limits = DEFAULT_LIMITS
) -> None:
    """
    Decode a file to see that it can be decoded; raises what :func:`decode` does.

    No pixel is kept.
    """
    limits.check_header(info)
    _read(file, _as_stored(info), _drop)


def decode_pixels(
    pixels: Any,
    info: ImageInfo,
    *,
    size: tuple[int, int] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Pixels:
    """
    Bring a Pillow image or an array to upright RGB on white.

    Parameters, result and errors are those of :func:`decode`, with the pixel source
    itself in place of the file.  The result of an RGB array that needs nothing done
    is a view of it.
    """
    limits.check_header(info, is_whole=size is None)
    if not isinstance(pixels, np.ndarray):
        return _collected(image_strips(pixels, info), info, size)
    samples = pixels if pixels.ndim == 3 else pixels[:, :, None]
    if size is None and samples.shape[2] == 3 and samples.flags.c_contiguous:
        return Pixels(samples)
    return _collected(_array_strips(samples), info, size)


def own_pixels(pixels: Any, info: ImageInfo) -> Any:
    """Copy a Pillow image or an array, which its owner may close or fill anew."""
    if isinstance(pixels, np.ndarray):
        return pixels.copy()
    return copied_image(pixels, info)


# ---------------------------------------------------------------- strips in


def _as_stored(info: ImageInfo) -> ImageInfo:
    """Give size and orientation of the rows as their decoder hands them out."""
    # libheif turns a picture by itself, and Pillow a TIFF.
    if info.format == "HEIF" or (info.format == "TIFF" and not is_for_vips(info)):
        return dataclasses.replace(
            info, height=info.upright_height, width=info.upright_width, orientation=1
        )
    return info


def _read(
    file: bytes | LargeFile, stored: ImageInfo, use: Callable[[_Strips], _T]
) -> _T:
    """Hand a file's strips over; all of them anew where the file has to be mended."""
    if stored.format == "JPEG" and stored.bit_depth > 8:
        raise UnsupportedFormatError(
            f"Expected a JPEG with 8 bits per sample but this one has "
            f"{stored.bit_depth}; convert it to PNG or 8-bit JPEG first",
            format="JPEG",
        )
    # Closed, because an error's frames keep the strips, and they libvips' objects.
    try:
        with closing(_file_strips(file, stored)) as parts:
            return use(parts)
    except DamagedImageError:
        mended = _mended(file, stored)
        if mended is None:
            raise
    with closing(_file_strips(mended, stored)) as parts:
        return use(parts)


def _file_strips(file: bytes | LargeFile, stored: ImageInfo) -> _Strips:
    if is_for_vips(stored):
        return vips_strips(file, stored)
    read = heif_strips if stored.format == "HEIF" else pillow_strips
    return read(_contents(file), stored)


def _mended(file: bytes | LargeFile, stored: ImageInfo) -> bytes | None:
    """Give a JPEG without the junk that hides what is wrong with it, if it has any."""
    if stored.format != "JPEG" or not is_for_vips(stored):
        return None
    end = _JPEG_HEAD
    head = file[:end] if isinstance(file, bytes) else file.read_at(0, end)
    mended = without_junk(head)
    if mended == head:
        return None
    return b"".join((mended, memoryview(_contents(file))[len(head) :]))


def _contents(file: bytes | LargeFile) -> bytes:
    return file if isinstance(file, bytes) else file.read()


def _array_strips(samples: NDArray[np.uint8]) -> _Strips:
    height, width, bands = samples.shape
    for top, rows in strips(height, width * bands):
        yield samples[top : top + rows]


# ---------------------------------------------------------------- and out of them


def _drop(parts: _Strips) -> None:
    for _ in parts:
        pass


def _collected(
    parts: _Strips, stored: ImageInfo, size: tuple[int, int] | None
) -> Pixels:
    """Collect strips, resized on the way if a size is given, and turn them upright."""
    rgb = _whole(parts, stored) if size is None else _resized(parts, stored, size)
    return Pixels(_turn_upright(rgb, stored.orientation))


def _whole(parts: _Strips, stored: ImageInfo) -> NDArray[np.uint8]:
    rgb = np.empty((stored.height, stored.width, 3), np.uint8)
    top = 0
    for part in parts:
        bottom = top + part.shape[0]
        _to_rgb(part, out=rgb[top:bottom])
        top = bottom
    return rgb


def _resized(
    parts: _Strips, stored: ImageInfo, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Resize strips on white as they come; grey stays grey, which saves two thirds."""
    height, width = size if stored.orientation < 5 else size[::-1]
    first = next(parts)
    is_grey = first.shape[2] == 1
    resizer = Resizer(
        stored.height,
        stored.width,
        height,
        width,
        channels=1 if is_grey else 3,
        orientation=stored.orientation,
    )
    small = np.empty((height, width) if is_grey else (height, width, 3), np.uint8)
    top = 0
    for part in chain([first], parts):
        rows = part[:, :, 0] if is_grey else _to_rgb(part)
        top += resizer.feed(rows, out=small[top:]).shape[0]
    return np.repeat(small[:, :, None], 3, axis=2) if is_grey else small


def _to_rgb(
    samples: NDArray[np.uint8], out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Bring 1 to 4 interleaved samples to RGB on white; 2 and 4 end in alpha."""
    height, width, bands = samples.shape
    if bands == 3 and out is None:
        return samples
    if out is None:
        out = np.empty((height, width, 3), np.uint8)
    if bands in {2, 4}:
        rgba = samples if bands == 4 else samples[:, :, [0, 0, 0, 1]]
        flatten_rgba(np.ascontiguousarray(rgba).reshape(-1), out.reshape(-1), _WHITE)
    else:
        out[:] = samples
    return out


def _turn_upright(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply one of EXIF's eight orientations (CIPA DC-008, tag 0x0112)."""
    if orientation not in range(2, 9):
        return np.ascontiguousarray(rgb)
    # One item a pixel: NumPy then moves three bytes at once instead of one by one.
    pixels = np.ascontiguousarray(rgb).view("V3")[:, :, 0]
    if orientation in {5, 6, 7, 8}:
        pixels = pixels.T
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels).view(np.uint8).reshape(*pixels.shape, 3)
