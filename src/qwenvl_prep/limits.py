"""How much of a stranger's file we are willing to take on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwenvl_prep.errors import DecodeLimitError
from qwenvl_prep.strips import is_streamed

if TYPE_CHECKING:
    from qwenvl_prep.headers import ImageInfo

__all__ = ["DEFAULT_LIMITS", "Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What is read and decoded at most; checked against the header, before decoding.

    Attributes
    ----------
    max_file_bytes : int
        Largest file that is taken.  It holds too for files that are read piece by
        piece: some of them have to be read as a whole in the end.
    max_pixels : int
        Largest area that is decoded in one piece, in pixels.
    max_streamed_pixels : int
        Largest area where only a small copy is wanted and rows are dropped as they
        are read: a JPEG of one scan, a PNG without interlacing or a TIFF, resized.
        A later frame of an animation counts with all frames before it, each as large
        as the canvas, because they are decoded and dropped on the way to it.
    max_scans : int
        Most scans of a progressive JPEG; a decoder goes through the whole picture for
        each of them.
    max_channels : int
        Most samples per pixel.
    max_decoded_bytes : int
        Most memory that decoding may need at once, in bytes.  Progressive JPEG and
        interlaced PNG keep the whole picture in a second form and count for more.

    Notes
    -----
    A limit on pixels alone is not enough: a TIFF of 2.5 KB can declare 38 megapixels
    of 8,224 bands, and a PNG of 41 bytes can ask for a gigabyte.
    """

    max_file_bytes: int = 512 * 1024 * 1024
    max_pixels: int = 100_000_000
    max_streamed_pixels: int = 1_000_000_000
    max_scans: int = 100
    max_channels: int = 5
    max_decoded_bytes: int = 512 * 1024 * 1024

    def check_file_size(self, size: int, name: str) -> None:
        """Refuse a file that is too large to be read, by :class:`DecodeLimitError`."""
        _check("max_file_bytes", size, self.max_file_bytes, f"bytes in {name}")

    def check_scans(self, count: int) -> None:
        """Refuse a JPEG of too many scans, by :class:`DecodeLimitError`."""
        _check("max_scans", count, self.max_scans, "scans")

    def check_header(self, info: ImageInfo, *, is_whole: bool = True) -> None:
        """
        Refuse what a header announces if decoding it would take too much.

        Parameters
        ----------
        info : ImageInfo
            What the header says.
        is_whole : bool
            Whether the whole picture is wanted, and not a resized one.

        Raises
        ------
        DecodeLimitError
            With the limit's name, what was announced and what is allowed.
        """
        pixels = info.height * info.width
        if not is_whole and is_streamed(info):
            limit = self.max_streamed_pixels
            _check("max_streamed_pixels", pixels, limit, "pixels, read row by row,")
        else:
            _check("max_pixels", pixels, self.max_pixels, "pixels")
        if info.frame and info.format in _LATER_FRAME_BYTES:
            area, limit = pixels * (info.frame + 1), self.max_streamed_pixels
            _check("max_streamed_pixels", area, limit, "pixels in the frames up to it")
        _check("max_channels", info.channels, self.max_channels, "samples per pixel")
        _check(
            "max_decoded_bytes",
            decoded_bytes(info, is_whole=is_whole),
            self.max_decoded_bytes,
            "bytes of decoded picture",
        )


DEFAULT_LIMITS = Limits()

# Decoders that take more than their picture: bytes a pixel at the peak, measured on
# 24 megapixels with Pillow 13.0.0 and libvips 8.18.7.
_PEAK_BYTES = {"AVIF": 12, "ICO": 12, "JPEG2000": 25, "WEBP": 12}
# And those through which Pillow decodes frame after frame, at a later frame; measured
# on 16 megapixels, with and without alpha.
_LATER_FRAME_BYTES = {"AVIF": 21, "GIF": 17, "PNG": 12, "WEBP": 17}

# Rows that libvips 8.18.7 holds of a streamed picture, measured on widths from 8,000
# to 64,000: half of them in its cache of lines, the rest in buffers and between them.
_STREAMED_ROWS = 1_200
# And how often it holds what it has to decode at once.
_STREAMED_COPIES = 3


def decoded_bytes(info: ImageInfo, *, is_whole: bool = True) -> int:
    """
    Estimate the memory that decoding needs at once, in bytes.

    A progressive JPEG keeps two bytes of coefficients for every sample until its
    last scan; an interlaced PNG keeps its whole picture while rows are filled in.

    Parameters
    ----------
    info : ImageInfo
        What the header says.
    is_whole : bool
        Whether the whole picture is wanted; if not, the rows of what is streamed are
        dropped as soon as they are resized.
    """
    pixels = info.height * info.width
    row = info.width * info.channels * ((info.bit_depth + 7) // 8)
    picture = info.height * row
    if is_streamed(info) and not is_whole:
        # A compressed strip of a TIFF may be nearly all of the file.
        strip = info.encoded_size if info.format == "TIFF" else 0
        rows = row * (_STREAMED_ROWS + _STREAMED_COPIES * info.rows_at_once)
        return strip + min(rows, picture if info.rows_at_once == 1 else 2 * picture)
    known = _PEAK_BYTES | _LATER_FRAME_BYTES if info.frame else _PEAK_BYTES
    peak = pixels * known.get(info.format, 0)
    if not info.is_progressive:
        return max(picture, peak)
    return max(peak, picture * (3 if info.format == "JPEG" else 2))


def _check(name: str, actual: int, limit: int, what: str) -> None:
    if actual > limit:
        raise DecodeLimitError(
            f"Expected at most {limit:,} {what} but the header announces {actual:,}; "
            f"if you trust the file, raise Limits.{name}",
            limit_name=name,
            actual=actual,
            limit=limit,
        )
