"""How much of a stranger's file we are willing to take on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwenvl_prep.errors import DecodeLimitError

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
        Largest file that is read into memory.
    max_pixels : int
        Largest area that is decoded in one piece, in pixels.
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
    max_channels: int = 5
    max_decoded_bytes: int = 512 * 1024 * 1024

    def check_file_size(self, size: int, name: str) -> None:
        """Refuse a file that is too large to be read, by :class:`DecodeLimitError`."""
        _check("max_file_bytes", size, self.max_file_bytes, f"bytes in {name}")

    def check_header(self, info: ImageInfo) -> None:
        """
        Refuse what a header announces if decoding it would take too much.

        Raises
        ------
        DecodeLimitError
            With the limit's name, what was announced and what is allowed.
        """
        pixels = info.height * info.width
        _check("max_pixels", pixels, self.max_pixels, "pixels")
        _check("max_channels", info.channels, self.max_channels, "samples per pixel")
        _check(
            "max_decoded_bytes",
            decoded_bytes(info),
            self.max_decoded_bytes,
            "bytes of decoded picture",
        )


DEFAULT_LIMITS = Limits()

# Decoders that take more than their picture: bytes a pixel at the peak, measured on
# 24 megapixels with Pillow 13.0.0 and libvips 8.18.7.
_PEAK_BYTES = {"AVIF": 12, "ICO": 12, "JPEG2000": 25, "WEBP": 12}


def decoded_bytes(info: ImageInfo) -> int:
    """
    Estimate the memory that decoding needs at once, in bytes.

    A progressive JPEG keeps two bytes of coefficients for every sample until its
    last scan; an interlaced PNG keeps its whole picture while rows are filled in.
    """
    sample_bytes = (info.bit_depth + 7) // 8
    pixels = info.height * info.width
    picture = pixels * info.channels * sample_bytes
    if not info.is_progressive:
        return max(picture, pixels * _PEAK_BYTES.get(info.format, 0))
    return picture * 3 if info.format == "JPEG" else picture * 2


def _check(name: str, actual: int, limit: int, what: str) -> None:
    if actual > limit:
        raise DecodeLimitError(
            f"Expected at most {limit:,} {what} but the header announces {actual:,}; "
            f"if you trust the file, raise Limits.{name}",
            limit_name=name,
            actual=actual,
            limit=limit,
        )
