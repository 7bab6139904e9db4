"""
An upright picture out of a file or a pixel source: the one door to all decoders.

libvips reads what it reads exactly as Pillow does (JPEG, PNG, WebP and plain TIFF),
Pillow reads the rest, with its plugins named one by one.  Both give strips of rows,
which are collected, resized as they come, or dropped: where a smaller picture is
wanted, the large one never exists in one piece.
"""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from qwenvl_prep.damage import SALVAGED, broken
from qwenvl_prep.decode_pillow import (
    copied_image,
    heif_strips,
    image_strips,
    pillow_strips,
    probe_pillow,
)
from qwenvl_prep.decode_vips import empty_vips_cache, vips_strips
from qwenvl_prep.errors import DamagedImageError, UnsupportedFormatError
from qwenvl_prep.jpeg_structure import (
    count_scans,
    lacks_a_colour,
    whole_scans,
    without_junk,
)
from qwenvl_prep.limits import DEFAULT_LIMITS, Limits
from qwenvl_prep.options import PlanOptions
from qwenvl_prep.pixels import Finish, Pixels, collect
from qwenvl_prep.strips import is_for_vips, strips

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

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
    "decode_rows",
    "empty_vips_cache",
    "own_pixels",
    "probe_pillow",
    "prove",
]

_DEFAULT_OPTIONS = PlanOptions()

# A strip that breaks off is lost as a whole, so they are low where that is expected.
_SALVAGED_ROWS = 8
# Scans before the last that arrived whole which are tried.
_SALVAGED_SCANS = 3
_END_OF_IMAGE = b"\xff\xd9"

# Where junk between the segments in front of a JPEG's pixels is looked for.
_JPEG_HEAD = 16 * 1024 * 1024


def decode(
    file: bytes | LargeFile,
    info: ImageInfo,
    *,
    size: tuple[int, int] | None = None,
    shrink: int = 1,
    options: PlanOptions = _DEFAULT_OPTIONS,
    limits: Limits = DEFAULT_LIMITS,
) -> Pixels:
    """
    Decode a file to upright sRGB on a plain background.

    Parameters
    ----------
    file : bytes or LargeFile
        The whole file, or what reads it.
    info : ImageInfo
        What its header says; the frame that it describes is decoded.
    size : (int, int), optional
        Upright height and width to resize to; other than the picture's own.
    shrink : int
        Part of its size at which a JPEG is decoded before it is resized: 1, 2, 4, 8.
    options : PlanOptions
        Background, colour, and what becomes of a file that ends early.
    limits : Limits
        What may be decoded; checked before a decoder sees a byte.

    Returns
    -------
    Pixels
        Colours brought to sRGB, transparent parts laid on the background, resized by
        Pillow's bicubic filter if a size was given, and turned upright.

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
    _check_scans(file, info, limits)
    work = _Work(info, size, shrink, Finish(info, options))
    try:
        return _read(file, work.stored, work.strips_of, work.collected)
    except DamagedImageError:
        if options.on_truncated == "error" or not _can_salvage(info):
            raise
    # Outside of the handler: an error's frames keep libvips' objects.
    data = _mended(file, info) or _contents(file)
    return _salvaged_scans(data, work) if info.is_progressive else _salvaged(data, work)


def decode_rows(
    file: bytes | LargeFile,
    info: ImageInfo,
    use: Callable[[Iterator[NDArray[np.uint8]]], _T],
    *,
    options: PlanOptions = _DEFAULT_OPTIONS,
    limits: Limits = DEFAULT_LIMITS,
) -> _T:
    """
    Decode a file to sRGB on a plain background, and hand its rows over as they come.

    Parameters
    ----------
    file, info, options, limits
        As for :func:`decode`; a file that :func:`qwenvl_prep.strips.is_streamed` takes
        is bounded by ``max_streamed_pixels``.  What is broken is refused.
    use : callable
        Takes uint8 arrays of shape (rows, width, 1 | 3), from the top as stored, to
        their end.  Called once more, from the first row, where the file had to be
        mended.

    Returns
    -------
    object
        What *use* gives.

    Raises
    ------
    ImageError, SourceError
        As for :func:`decode`, some of them only after the last row.
    """
    limits.check_header(info, is_whole=False)
    _check_scans(file, info, limits)
    work = _Work(info, None, 1, Finish(info, options))
    return _read(
        file, work.stored, work.strips_of, lambda parts: use(map(work.finish, parts))
    )


class _Work:
    """What is made of a file: which strips are read, and what becomes of them."""

    def __init__(
        self,
        info: ImageInfo,
        size: tuple[int, int] | None,
        shrink: int,
        finish: Finish,
    ) -> None:
        self.stored = _as_stored(info, shrink)
        self.finish = finish
        self._size = size
        self._shrink = shrink
        # The decoder leaves out what does not make a whole row or pixel.
        shrunk = (info.height / shrink, info.width / shrink)
        self._extent = shrunk if shrink > 1 else None

    def strips_of(
        self, file: bytes | LargeFile, *, max_rows: int | None = None
    ) -> _Strips:
        """Give the file's strips as they are stored."""
        return _file_strips(
            file,
            self.stored,
            shrink=self._shrink,
            max_rows=max_rows,
            is_cmyk=self.finish.is_cmyk,
        )

    def collected(self, parts: _Strips) -> Pixels:
        """Finish strips and collect them."""
        return self.gathered(map(self.finish, parts))

    def gathered(self, parts: Iterator[NDArray[np.uint8]]) -> Pixels:
        """Collect finished strips."""
        return collect(parts, self.stored, self._size, extent=self._extent)


def prove(
    file: bytes | LargeFile, info: ImageInfo, *, limits: Limits = DEFAULT_LIMITS
) -> None:
    """
    Decode a file to see that it can be decoded; raises what :func:`decode` does.

    No pixel is kept.
    """
    limits.check_header(info)
    _check_scans(file, info, limits)
    stored = _as_stored(info)
    _read(file, stored, lambda file: _file_strips(file, stored), _drop)


def decode_pixels(
    pixels: Any,
    info: ImageInfo,
    *,
    size: tuple[int, int] | None = None,
    options: PlanOptions = _DEFAULT_OPTIONS,
    limits: Limits = DEFAULT_LIMITS,
) -> Pixels:
    """
    Bring a Pillow image or an array to an upright picture.

    Parameters, result and errors are those of :func:`decode`, with the pixel source
    itself in place of the file.  The result of a grey or RGB array that needs nothing
    done is a view of it.
    """
    limits.check_header(info, is_whole=size is None)
    finish = Finish(info, options)
    if not isinstance(pixels, np.ndarray):
        parts = image_strips(pixels, info, is_cmyk=finish.is_cmyk)
        return collect(map(finish, parts), info, size)
    is_plain = pixels.ndim == 2 or pixels.shape[2] == 3
    if size is None and is_plain and pixels.flags.c_contiguous:
        return Pixels(pixels)
    samples = pixels if pixels.ndim == 3 else pixels[:, :, None]
    return collect(map(finish, _array_strips(samples)), info, size)


def own_pixels(pixels: Any, info: ImageInfo) -> Any:
    """Copy a Pillow image or an array, which its owner may close or fill anew."""
    if isinstance(pixels, np.ndarray):
        return pixels.copy()
    return copied_image(pixels, info)


# ---------------------------------------------------------------- strips in


def _as_stored(info: ImageInfo, shrink: int = 1) -> ImageInfo:
    """Give size and orientation of the rows as their decoder hands them out."""
    # libheif turns a picture by itself, and Pillow a TIFF.
    if info.format == "HEIF" or (info.format == "TIFF" and not is_for_vips(info)):
        return dataclasses.replace(
            info, height=info.upright_height, width=info.upright_width, orientation=1
        )
    if shrink == 1:
        return info
    return dataclasses.replace(
        info, height=info.height // shrink, width=info.width // shrink
    )


def _check_scans(file: bytes | LargeFile, info: ImageInfo, limits: Limits) -> None:
    """Refuse a JPEG of several scans for what its decoder would say nothing of."""
    if info.format == "JPEG" and info.is_progressive and not info.frame:
        data = _contents(file)
        limits.check_scans(count_scans(data, limits.max_scans + 1))
        if lacks_a_colour(data):
            raise broken(info.format, "one of its colours is missing")


def _read(
    file: bytes | LargeFile,
    stored: ImageInfo,
    strips_of: Callable[[bytes | LargeFile], _Strips],
    use: Callable[[_Strips], _T],
) -> _T:
    """Hand a file's strips over; all of them anew where the file has to be mended."""
    if stored.format == "JPEG" and stored.bit_depth > 8:
        raise UnsupportedFormatError(
            f"Expected a JPEG with 8 bits per sample but this one has "
            f"{stored.bit_depth}; convert it to PNG or 8-bit JPEG first",
            format="JPEG",
        )
    if stored.format == "JPEG" and stored.colour == "cmyk" and not stored.frame:
        # Pillow, which knows Adobe's inks, takes libjpeg's warnings for nothing.
        _attempt(file, stored, lambda file: vips_strips(file, stored), _drop)
    return _attempt(file, stored, strips_of, use)


def _attempt(
    file: bytes | LargeFile,
    stored: ImageInfo,
    strips_of: Callable[[bytes | LargeFile], _Strips],
    use: Callable[[_Strips], _T],
) -> _T:
    # Closed, because an error's frames keep the strips, and they libvips' objects.
    try:
        with closing(strips_of(file)) as parts:
            return use(parts)
    except DamagedImageError:
        mended = _mended(file, stored)
        if mended is None:
            raise
    with closing(strips_of(mended)) as parts:
        return use(parts)


def _file_strips(
    file: bytes | LargeFile,
    stored: ImageInfo,
    *,
    shrink: int = 1,
    max_rows: int | None = None,
    is_cmyk: bool = False,
) -> _Strips:
    if is_for_vips(stored):
        return vips_strips(file, stored, shrink=shrink, max_rows=max_rows)
    if stored.format == "HEIF":
        return heif_strips(_contents(file), stored)
    return pillow_strips(_contents(file), stored, is_cmyk=is_cmyk)


def _can_salvage(info: ImageInfo) -> bool:
    """Tell whether what arrived of a broken file can be told from what did not."""
    # Rows of an interlaced PNG are all over it, and its passes mark no end.
    is_interlaced = info.format == "PNG" and info.is_progressive
    return info.format in SALVAGED and is_for_vips(info) and not is_interlaced


def _salvaged(data: bytes, work: _Work) -> Pixels:
    """Take the rows that arrived of a file that ends early, and lay the rest blank."""
    finish, height = work.finish, work.stored.height
    arrived = 0

    def with_blank_rest(parts: _Strips) -> Iterator[NDArray[np.uint8]]:
        nonlocal arrived
        part = None
        try:
            for part in map(finish.coloured, parts):
                arrived += part.shape[0]
                yield part
        except DamagedImageError:
            if part is None:
                raise
        rest = height - arrived
        if part is not None and rest:
            for _, rows in strips(rest, part.nbytes // part.shape[0]):
                yield finish.blank(part, rows)

    with closing(work.strips_of(data, max_rows=_SALVAGED_ROWS)) as parts:
        picture = work.gathered(with_blank_rest(parts))
    return dataclasses.replace(picture, missing=1 - arrived / height)


def _salvaged_scans(data: bytes, work: _Work) -> Pixels:
    """
    Take the scans that arrived of a JPEG whose rows need several of them.

    Once every colour has had a scan all rows are there, only coarse.  Each attempt is
    as strict as for a whole file, so no grey half passes for a coarse whole.
    """
    ends = whole_scans(data)
    # The last few may be damaged; the first alone is the best that is left then.
    for end in dict.fromkeys([*ends[: -_SALVAGED_SCANS - 1 : -1], *ends[:1]]):
        try:
            with closing(work.strips_of(data[:end] + _END_OF_IMAGE)) as parts:
                picture = work.collected(parts)
        except DamagedImageError:
            continue
        return dataclasses.replace(picture, is_coarse=True)
    raise broken(work.stored.format, "no scan of it is whole")


def _mended(file: bytes | LargeFile, stored: ImageInfo) -> bytes | None:
    """Give a JPEG without the junk that hides what is wrong with it, if it has any."""
    if stored.format != "JPEG" or stored.frame:
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
